"""Scores: posteriors divided by the prior for models that need one, wherever the prior comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from helpers import make_teacher
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from asrkd import checkpoint
from asrkd.acoustic import KINDS, AcousticModel, TrainedModel, load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, ModelError

UNITS = {"hmm": ("SIL", "a_0", "b_0"), "ctc": ("<blk>", "a", "b")}
LOG_PRIOR = torch.tensor([0.5, 0.2, 0.3]).log()


def model(topology: str, log_prior: torch.Tensor | None) -> AcousticModel:
    """Posteriors of the first three features."""
    inventory = Inventory(UNITS[topology], topology)
    return AcousticModel(lambda f, n: (f[..., :3], n), FrontEnd(), inventory, 1, "mine", "f", log_prior=log_prior)


@given(st.floats(0.1, 2), st.floats(0, 2), st.integers(0, 2**32))
def test_scores_are_those_of_the_equation(acoustic_scale: float, prior_scale: float, seed: int) -> None:
    features, lengths = torch.randn(2, 4, 192, generator=torch.Generator().manual_seed(seed)), torch.tensor([4, 2])
    scales = {"acoustic_scale": acoustic_scale, "prior_scale": prior_scale}
    posteriors = features[..., :3].softmax(-1)
    for topology, log_prior in (("ctc", None), ("ctc", LOG_PRIOR), ("hmm", LOG_PRIOR)):
        found, out_lengths = model(topology, log_prior).scores(features, lengths, **scales)
        divided = posteriors / LOG_PRIOR.exp() ** prior_scale if topology == "hmm" else posteriors
        torch.testing.assert_close(found, acoustic_scale * divided.log(), atol=1e-4, rtol=1e-4)
        assert out_lengths.tolist() == [4, 2]


@given(st.floats(0.1, 2), st.floats(-3, 3), st.integers(0, 2**32))
def test_a_blank_penalty_is_taken_off_the_blank_alone(scale: float, penalty: float, seed: int) -> None:
    log_probs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    expected = log_probs.clone()
    expected[..., 0] -= penalty
    found = model("ctc", None).scores_of(log_probs, acoustic_scale=scale, blank_penalty=penalty)
    torch.testing.assert_close(found, scale * expected)
    frames = model("ctc", None).scores(torch.randn(1, 4, 192), torch.tensor([4]), blank_penalty=penalty)[0]
    assert frames.shape == (1, 4, 3)
    model("hmm", LOG_PRIOR).scores_of(log_probs, blank_penalty=0.0)


def test_a_model_without_blank_has_no_blank_penalty() -> None:
    with pytest.raises(
        ConfigError, match="^blank_penalty is 1, but model 'mine' is of topology 'hmm', which has no blank"
    ):
        model("hmm", LOG_PRIOR).scores_of(torch.zeros(1, 3), blank_penalty=1.0)


def test_a_model_that_needs_priors_and_has_none_is_told_what_to_do() -> None:
    features, lengths = torch.randn(1, 4, 192), torch.tensor([4])
    bare = model("hmm", None)
    for ask in (bare.check_prior, lambda: bare.scores(features, lengths), lambda: bare.scores_of(features[..., :3])):
        with pytest.raises(ModelError, match="'mine' is of topology 'hmm'.*brings none; give a run .*or add log_prior"):
            ask()
    bare.log_probs(features, lengths)
    model("ctc", None).check_prior()


@pytest.mark.parametrize(
    ("log_prior", "message"),
    [
        ([0.0, 0.0], r"shape \(2,\).*each of its 3"),
        ([0.0, 0.0, float("nan")], "NaN"),
        ([0.0, 0.0, -np.inf], "infinite"),
    ],
)
def test_priors_that_cannot_be_divided_by_are_refused(log_prior: list[float], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model("hmm", torch.tensor(log_prior))


def graph(folder: Path, **description: Any) -> str:
    """An ONNX graph of the `hmm` topology whose logits are the first three features."""
    value, names = helper.make_tensor_value_info, ["features", "feature_lengths", "logits", "logit_lengths"]
    nodes = [
        helper.make_node("MatMul", ["features", "W"], ["logits"]),
        helper.make_node("Identity", ["feature_lengths"], ["logit_lengths"]),
    ]
    inputs = [value(names[0], TensorProto.FLOAT, ["N", "T", 192]), value(names[1], TensorProto.INT64, ["N"])]
    outputs = [value(names[2], TensorProto.FLOAT, ["N", "T", 3]), value(names[3], TensorProto.INT64, ["N"])]
    weights = [numpy_helper.from_array(np.eye(192, 3, dtype=np.float32), "W")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(made, folder / "graph.onnx")
    content = {"front_end": FrontEnd().to_dict(), "inventory": {"units": UNITS["hmm"], "topology": "hmm"}} | description
    (folder / "graph.onnx.json").write_text(json.dumps(content))
    return f"onnx:{folder / 'graph.onnx'}"


def test_a_description_may_hold_the_prior(tmp_path: Path) -> None:
    features, lengths = torch.randn(1, 4, 192), torch.tensor([4])
    found, _ = load_model(graph(tmp_path, log_prior=LOG_PRIOR.tolist())).scores(features, lengths)
    torch.testing.assert_close(found, features[..., :3].log_softmax(-1) - LOG_PRIOR, atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="brings none"):
        load_model(graph(tmp_path)).check_prior()
    for wrong in ("0", [True, 0, 0], [0, 0, "x"], [0, 0, 10**400], {"SIL": 0}):
        with pytest.raises(ModelError, match=r"graph.onnx.json.*"):
            load_model(graph(tmp_path, log_prior=wrong))


@pytest.mark.parametrize("domain", ["probability", "log"])
def test_an_ensemble_weights_the_priors_of_its_members_once(domain: str, tmp_path: Path) -> None:
    other = torch.tensor([0.1, 0.8, 0.1]).log()
    specs = []
    for name, log_prior in (("one", LOG_PRIOR), ("two", other)):
        (tmp_path / name).mkdir()
        specs.append(graph(tmp_path / name, log_prior=log_prior.tolist()))
    members = [{"spec": spec, "weight": weight} for spec, weight in zip(specs, (3, 1), strict=True)]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"teachers": members, "domain": domain}))
    found = load_model(f"ensemble:{tmp_path / 'all.yaml'}").log_prior
    torch.testing.assert_close(found, (0.75 * LOG_PRIOR.exp() + 0.25 * other.exp()).log())
    # One member without a prior: none for all.
    graph(tmp_path / "two")
    assert load_model(f"ensemble:{tmp_path / 'all.yaml'}").log_prior is None


def test_a_file_that_names_itself_is_refused(tmp_path: Path) -> None:
    spec = f"ensemble:{tmp_path / 'all.yaml'}"
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"teachers": [{"spec": spec}]}))
    with pytest.raises(ModelError, match="is made of itself"):
        load_model(spec)


def test_a_run_folder_is_short_for_its_checkpoint(tmp_path: Path) -> None:
    make_teacher(tmp_path / "final.pt")
    found = load_model(str(tmp_path))
    assert found.spec == f"checkpoint:{tmp_path}" and found.fingerprint == load_model(found.spec).fingerprint
    assert found.fingerprint == load_model(f"checkpoint:{tmp_path / 'final.pt'}").fingerprint
    with pytest.raises(ModelError, match="'.*none' is of no known kind; .*, or the folder of a run"):
        load_model(str(tmp_path / "none"))


def test_what_is_written_of_a_trained_model_is_read_again(tmp_path: Path) -> None:
    make_teacher(tmp_path / "bare.pt")
    bare = TrainedModel.read(tmp_path / "bare.pt")
    prior = torch.full((40,), 1 / 40).log()
    written = TrainedModel(
        bare.weights, bare.factory, bare.args, bare.front_end, bare.inventory, 1, prior, {"num_parameters": 7}
    )
    written.save(tmp_path / "final.pt")
    found = TrainedModel.read(tmp_path)
    assert torch.equal(found.log_prior, prior) and found.facts == {"num_parameters": 7}  # type: ignore[arg-type]
    assert found.inventory == bare.inventory and found.front_end == bare.front_end and found.args == bare.args
    assert load_model(f"int8:{tmp_path}").log_prior is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"step": 3, "model": {}, "optimizer": {}}, "does not hold a finished model .KeyError: 'model_factory'"),
        ({"front_end": 3}, "does not hold a finished model"),
        ({"log_prior": torch.zeros(2)}, "priors of shape"),
        ({"model": {}}, "the weights are not those of 'asrkd.models:BLSTMTeacher'"),
    ],
)
def test_checkpoints_of_another_form_are_refused(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_teacher(tmp_path / "final.pt")
    before = checkpoint.read(tmp_path / "final.pt")
    checkpoint.save(tmp_path / "final.pt", content if "step" in content else before | content)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(f"checkpoint:{tmp_path}")
    assert "\n" not in str(raised.value)


def test_every_kind_says_what_it_is_and_where_it_cannot_run() -> None:
    for name, kind in KINDS.items():
        assert kind.form.startswith(f"{name}:") and kind.help.endswith(".") and "\n" not in kind.help
    for device in ("cuda:77", "gpu"):
        with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
            load_model("checkpoint:none", device)
