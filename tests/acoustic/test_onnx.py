"""Graphs as people export them: what is fixed in them is run, or refused with the number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ModelError

UNITS = ("<blk>", "a", "b", "c", "d")
WEIGHTS = (0.1 * np.random.default_rng(0).normal(size=(192, 5))).astype(np.float32)


def save(
    folder: Path,
    *,
    batch: Any = "N",
    frames: Any = "T",
    lengths: int = TensorProto.INT64,
    size: int = 192,
    units: Any = UNITS,
    softmax: bool = False,
    **description: Any,
) -> str:
    value = helper.make_tensor_value_info
    last = "product" if softmax else "logits"
    nodes = [
        helper.make_node("MatMul", ["features", "W"], [last]),
        helper.make_node("Cast", ["feature_lengths"], ["logit_lengths"], to=TensorProto.INT64),
        *([helper.make_node("Softmax", ["product"], ["logits"])] if softmax else []),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("features", TensorProto.FLOAT, [batch, frames, size]), value("feature_lengths", lengths, [batch])],
        [value("logit_lengths", TensorProto.INT64, [batch]), value("logits", TensorProto.FLOAT, [batch, frames, 5])],
        [numpy_helper.from_array(np.resize(WEIGHTS, (size, 5)), "W")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "graph.onnx"
    )
    content = {"front_end": FrontEnd().to_dict(), "inventory": {"units": units, "topology": "ctc"}} | description
    (folder / "graph.onnx.json").write_text(json.dumps(content))
    return f"onnx:{folder / 'graph.onnx'}"


@pytest.mark.parametrize("changes", [{}, {"batch": 1}, {"lengths": TensorProto.INT32}])
def test_a_batch_of_one_and_other_types_are_run(changes: dict[str, Any], tmp_path: Path) -> None:
    teacher = load_model(save(tmp_path, **changes))
    assert teacher.one_by_one is ("batch" in changes)
    features = torch.randn(3, 9, 192)
    found, lengths = teacher.log_probs(features, torch.tensor([9, 4, 7]))
    assert lengths.tolist() == [9, 4, 7]
    for row, one, length in zip(found, features, lengths.tolist(), strict=True):
        expected = (one[:length] @ torch.from_numpy(WEIGHTS)).log_softmax(-1)
        torch.testing.assert_close(row[:length], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 100}, "takes 100 frames and no other number"),
        ({"batch": 8}, "takes batches of 8 utterances and no other number"),
        ({"size": 80}, "takes 80 features a frame, but the front end next to it makes 192"),
        ({"units": UNITS[:4]}, "gives 5 classes, but the inventory next to it has 4 units"),
        ({"units": UNITS[1:] + UNITS[:1]}, r"unit 0 .* is 'a' \('<blk>' is unit 4\)"),
        ({"units": tuple("abcde")}, r"unit 0 .* is 'a' \(there is no '<blk>'\)"),
        ({"units": (0, 1, 2, 3, 4)}, "units must be a list of strings"),
        ({"units": "<blk>"}, "units must be a list of strings"),
        ({"softmax": True}, r"gives probabilities \(each frame sums to 1\)"),
        ({"lengths": TensorProto.FLOAT}, r"'feature_lengths' is a tensor\(float\)"),
        ({"inventory": []}, "inventory is a list"),
        ({"front_end": 16000}, "front_end is a int"),
        ({"subsampling_factor": "4"}, "subsampling_factor is '4', but must be a whole number"),
        ({"subsampling_factor": 0}, "subsampling_factor is 0, but must be a whole number"),
        ({"subsampling_factor": 4}, "frames of logits .* subsampling factor of 4 make "),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_numbers(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=message) as raised:
        load_model(save(tmp_path, **changes))
    assert "\n" not in str(raised.value) and type(raised.value).__module__ == "asrkd.errors"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is not JSON"), (b"\xff{}", "UTF-8"), (b"[]", "is a list"), (b"{}", "has no 'front_end'")],
)
def test_descriptions_that_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    spec = save(tmp_path)
    (tmp_path / "graph.onnx.json").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_unit_0_of_a_teacher_is_what_its_topology_says() -> None:
    for units, topology in ((("a", "<blk>"), "ctc"), (("<blk>", "a_0"), "hmm")):
        with pytest.raises(ModelError, match=f"unit 0 of topology {topology} is"):
            AcousticModel(lambda f, n: (f, n), FrontEnd(), Inventory(units, topology), 1, "x", "f" * 32)
