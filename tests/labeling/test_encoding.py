"""The teacher's part: out of memory, autocast, torch.compile."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_cuts, make_teacher
from lhotse import CutSet

from asrkd.acoustic import AcousticModel, is_out_of_memory, load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, MismatchError, ModelError
from asrkd.labeling.encoding import encode, packed, pad
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.reading import CutFeatures, read_batch
from asrkd.labeling.status import status
from asrkd.labeling.teacher_identity import teacher_identity
from asrkd.store import Store
from asrkd.store.embedding import parse_embedding
from asrkd.store.verify import verify
from asrkd.targets.codecs import parse_codec


class Limited(torch.nn.Module):
    """Has memory for some frames, padding included, and says what else it was asked for."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames, self.sizes = frames, []  # type: ignore[var-annotated]
        self.weight = torch.nn.Parameter(torch.randn(192, 9, generator=torch.Generator().manual_seed(0)))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.sizes.append(len(features))
        if features.shape[0] * features.shape[1] > self.frames:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return (features @ self.weight).cumsum(1) / 30, lengths


def limited(frames: int) -> AcousticModel:
    inventory = Inventory(("<blk>", *"abcdefgh"), "ctc")
    return AcousticModel(Limited(frames), FrontEnd(), inventory, 1, "limited", "f" * 32)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[CutFeatures]:
    folder = tmp_path_factory.mktemp("cuts")
    make_cuts(folder, "some", 7)
    cuts = [cut.to_dict() for cut in CutSet.from_file(folder / "some.jsonl.gz")]
    return read_batch(cuts, FrontEnd(), parse_embedding("none")).heard


def test_a_device_that_is_too_small_gets_smaller_batches_and_the_same_comes_out(heard: list[CutFeatures]) -> None:
    identity = teacher_identity(limited(10**9), codec=parse_codec("hybrid:2:8"), embed="none")
    longest = max(len(one.features) for one in heard)
    results = []
    for frames in (10**9, 3 * longest, longest):
        teacher = limited(frames)
        encoded, bad = encode(heard, pad(heard), identity, teacher)
        assert bad == {}
        results.append([packed(one, identity) for one in encoded if one is not None])
        assert isinstance(teacher.network, Limited) and teacher.network.sizes[0] == 7
        assert max(size for size in teacher.network.sizes[1:] or [0]) <= 4
    assert results[0] == results[1] == results[2] and len(results[0]) == 7


def test_an_utterance_that_does_not_fit_alone_is_bad(heard: list[CutFeatures]) -> None:
    """Padding stays, so that where the longest does not fit, nothing does; a batch of its own is what the plan gives long ones."""
    identity = teacher_identity(limited(1), codec=parse_codec("topk:3"), embed="none")
    encoded, bad = encode(heard[:1], pad(heard[:1]), identity, limited(1))
    assert encoded == [None] and list(bad) == ["some-0"]
    assert "needs more memory than cpu has; split it" in bad["some-0"]


def test_what_torch_says_when_memory_is_short_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("The size of tensor a (3) must match"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "final.pt")


LINEAR = """
import torch
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.acoustic import AcousticModel

class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(192, 30)

    def forward(self, features, lengths):
        return self.layer(features), lengths

def make():
    torch.manual_seed(0)
    inventory = Inventory(("<blk>", *(f"u{n}" for n in range(29))), "ctc")
    return AcousticModel(Linear().eval(), FrontEnd(), inventory, 1, "linear", "f" * 32)
"""


@pytest.mark.slow
def test_autocast_is_the_plans_and_its_posteriors_are_torchs(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linear_teacher.py").write_text(LINEAR)
    monkeypatch.syspath_prepend(str(tmp_path))
    cuts, teacher = str(corpus / "unlabeled.jsonl.gz"), "python:linear_teacher:make"
    found = {}
    for autocast in ("", "bfloat16"):
        root = str(tmp_path / f"store-{autocast}")
        plan(cuts, root, teacher=teacher, codec="dense", embed="audio", autocast=autocast)
        run(Local(Store.open(root)))
        store = Store.open(root)
        assert verify(root) == [] and store.identity.autocast == autocast
        found[autocast] = store.targets(next(store.rows())).to_dense().numpy()
    model = load_model(teacher)
    features = model.front_end(torch.from_numpy(next(iter(CutSet.from_file(cuts))).load_audio()[0]))[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits, _ = model.network(features, torch.tensor([features.shape[1]]))
    assert 1e-4 < np.abs(found["bfloat16"] - found[""]).max() < 0.1
    np.testing.assert_allclose(found["bfloat16"], logits[0].float().log_softmax(-1).numpy(), atol=1e-5)
    with pytest.raises(MismatchError, match="autocast"):
        store.identity.check(dataclasses.replace(store.identity, autocast=""), what="other")


def test_autocasts_that_cannot_be(corpus: Path, teacher: str, tmp_path: Path) -> None:
    cuts = str(corpus / "unlabeled.jsonl.gz")
    with pytest.raises(ConfigError, match="autocast is 'int8'"):
        plan(cuts, str(tmp_path / "new"), teacher=teacher, autocast="int8")
    with pytest.raises(ConfigError, match="without a teacher"):
        plan(cuts, str(tmp_path / "new"), embed="audio", autocast="bfloat16")


def test_a_model_that_fails_is_told_with_the_batch(heard: list[CutFeatures]) -> None:
    def fail(features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return features @ torch.zeros(3, 3), lengths

    teacher = dataclasses.replace(limited(1), network=fail, autocast="bfloat16")
    identity = teacher_identity(teacher, codec=parse_codec("topk:3"), embed="none")
    message = r"'limited' fails on 7 utterances from 'some-0' on, \(7, .*, 192\) features, on cpu with autocast bfloat16: .*shapes"
    with pytest.raises(ModelError, match=message):
        encode(heard, pad(heard), identity, teacher)


def test_an_utterance_that_fails_alone_is_bad_and_the_rest_is_kept(heard: list[CutFeatures]) -> None:
    longest = max(len(one.features) for one in heard)
    model = limited(10**6).network

    def fail(features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if features.shape[1] == longest:
            raise ValueError("no positions\nfor it")
        return model(features, lengths)

    teacher = dataclasses.replace(limited(10**6), network=fail)
    identity = teacher_identity(teacher, codec=parse_codec("topk:3"), embed="none")
    found, bad = encode(heard, pad(heard), identity, teacher)
    expected = {one.row["id"] for one in heard if len(one.features) == longest}
    assert expected == set(bad) == {one.row["id"] for one, kept in zip(heard, found, strict=True) if kept is None}
    assert all(
        "teacher 'limited' fails on it, though not on others (ValueError: no positions for it)" in why
        for why in bad.values()
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.timeout(240)
def test_a_compiled_teacher_says_the_same(corpus: Path, teacher: str, tmp_path: Path) -> None:
    targets = []
    for compile in (False, True):
        root = str(tmp_path / f"store-{compile}")
        plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=teacher, codec="dense", compile=compile)
        run(Local(Store.open(root)))
        store = Store.open(root)
        assert store.identity.compile is compile and status(Store.open(root)).utterances == 20
        targets.append(np.concatenate([store.targets(row).to_dense().numpy() for row in store.rows()]))
    np.testing.assert_allclose(targets[0], targets[1], atol=1e-4)


def test_what_cannot_be_compiled_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lambda_teacher.py").write_text(
        "from asrkd.corpus.front_end import FrontEnd\nfrom asrkd.corpus.inventory import Inventory\n"
        "from asrkd.acoustic import AcousticModel\n\n"
        "def make():\n"
        "    return AcousticModel(lambda f, n: (f[..., :3], n), FrontEnd(), Inventory(('<blk>', 'a', 'b'), 'ctc'), 1, 'x', 'f' * 32)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        spec = "python:lambda_teacher:make"
        assert load_model(spec, autocast="bfloat16").autocast == "bfloat16"
        with pytest.raises(ModelError, match="cannot be compiled"):
            load_model(spec, compile=True)
        with pytest.raises(ModelError, match="cannot be moved to 'meta'"):
            load_model(spec, "meta")
