"""What runs on a device against the same on the CPU. On a machine without a GPU the CPU is the device, which tries these tests themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import make_teacher
from rank_helpers import on_ranks
from torch import Tensor
from training_helpers import settings

from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.losses.soft import POLICIES, soft_cross_entropy
from asrkd.store import Store
from asrkd.store.verify import verify
from asrkd.targets.codecs import decode_entries, parse_codec
from asrkd.targets.packed import PackedTargets, as_stored
from asrkd.targets.random import frame_keys
from asrkd.training.trainer import Trainer

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
CODECS = ["dense", "topk:20", "nucleus:0.95:64", "sampled:5", "hybrid:0:12", "hybrid:4:8"]


def posteriors(frames: int = 300, classes: int = 500) -> Tensor:
    """(T, V) log-posteriors as peaked as those of a trained teacher."""
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(frames, classes, generator=generator).cumsum(0) * 0.7).log_softmax(dim=1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spec", CODECS)
def test_choosing_on_a_device_is_choosing_on_the_cpu(spec: str, device: str) -> None:
    codec, log_probs = parse_codec(spec), posteriors()
    chosen = {}
    for where in ("cpu", device):
        at = torch.device(where)
        keys = frame_keys("u", "t", len(log_probs), at)
        chosen[where] = decode_entries(codec, codec.encode(log_probs.to(at), keys).cpu())
    probs = [targets.to_dense().exp() for targets in (chosen["cpu"], chosen[device])]
    # A device may round a probability another way, which moves a draw or a step of the grid now and then.
    same = ((probs[0] > 0) == (probs[1] > 0)).all(dim=1)
    assert float(same.float().mean()) >= 0.99
    torch.testing.assert_close(probs[1][same], probs[0][same], atol=0.02, rtol=0)
    assert float((probs[0] - probs[1]).abs().mean()) < 1e-5


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spec", CODECS)
def test_unpacking_on_a_device_is_unpacking_on_the_cpu(spec: str, device: str) -> None:
    codec, log_probs = parse_codec(spec), posteriors()
    layout = codec.layout(log_probs.shape[1])
    rows = [
        layout.pack(codec.encode(part, frame_keys("u", "t", len(part), torch.device("cpu"))))
        for part in log_probs.split(100)
    ]
    packed = PackedTargets.join(layout, rows, [100, 100, 100])
    expected = packed.unpack()
    found = packed.map(lambda tensor: tensor.to(device)).unpack().map(Tensor.cpu)
    for name in ("row_splits", "ids", "log_probs", "missing"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("policy", POLICIES)
def test_soft_cross_entropy_on_a_device(policy: str, device: str) -> None:
    targets = as_stored(parse_codec("topk:20"), posteriors())
    scores = torch.randn(300, 500, generator=torch.Generator().manual_seed(1))
    found = {}
    for where in ("cpu", device):
        logits = scores.to(where).requires_grad_()
        loss = soft_cross_entropy(
            logits, targets.map(lambda one, to=where: one.to(to)), missing_mass=policy, temperature=2.0
        )
        loss.backward()
        assert logits.grad is not None
        found[where] = loss.detach().cpu(), logits.grad.cpu()
    torch.testing.assert_close(found[device], found["cpu"], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_labeling_on_a_device_gives_the_store_of_the_cpu(corpus: Path, tmp_path: Path, device: str) -> None:
    teacher, stores = make_teacher(tmp_path / "final.pt"), {}
    for name, where in (("cpu", "cpu"), ("device", device)):
        root = str(tmp_path / name)
        plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=teacher, codec="dense", embed="audio", unit_hours=0.001)
        run(Local(Store.open(root), Crew(devices=[where])))
        stores[name] = Store.open(root)
        assert verify(root) == []
    for one, other in zip(stores["cpu"].rows(), stores["device"].rows(), strict=True):
        assert (one["id"], one["audio"], one["num_frames"]) == (other["id"], other["audio"], other["num_frames"])
        probs = [stores[name].targets(row).to_dense().exp() for name, row in (("cpu", one), ("device", other))]
        # cuDNN multiplies in TF32, with 10 bits.
        torch.testing.assert_close(probs[1], probs[0], atol=5e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "loader", [{}, {"unpack_on_device": True, "features_on_device": True}], ids=["readers", "device"]
)
def test_training_on_a_device_learns_what_the_cpu_does(
    corpus: Path, tmp_path: Path, device: str, loader: dict[str, Any]
) -> None:
    expected = Trainer(settings(corpus, tmp_path / "cpu")).train()["dev"]
    said = Trainer(settings(corpus, tmp_path / "device", device=device, loader=loader)).train()["dev"]
    assert said == pytest.approx(expected, rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_gpu_trains(corpus: Path, tmp_path: Path, precision: str) -> None:
    config = settings(corpus, tmp_path / "run", device="cuda", scale={"precision": precision})
    before = Trainer(config).dev_loss()
    assert Trainer(config).train()["dev"] < 0.9 * before


def trained(rank: int, world_size: int, corpus: Path, run_folder: Path, device: str, scale: dict[str, Any]) -> Any:
    batch = {"max_frames": 150, "max_utterances": 3, "streams": 4, "block_utterances": 8}
    trainer = Trainer(settings(corpus, run_folder, device=device, scale=scale, batch=batch, augment={}))
    said = trainer.train()
    return said["dev"], {name: value.cpu() for name, value in trainer.model.state_dict().items()}


SCALES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "gtc": {"gtc_threshold": 0.002},
    "bmuf": {"bmuf_block": 3, "bmuf_momentum": 0.5},
}


# tests/training/test_scale.py has more of it on the CPU.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "scale"),
    [("cpu", SCALES["bmuf"]), *(pytest.param("cuda", scale, marks=pytest.mark.gpu(2)) for scale in SCALES.values())],
    ids=["cpu", *(f"cuda-{name}" for name in SCALES)],
)
def test_two_processes_train_one_model(corpus: Path, tmp_path: Path, device: str, scale: dict[str, Any]) -> None:
    (loss, first), (_, second) = on_ranks(2, trained, corpus, tmp_path / "run", device, scale, device=device)
    assert loss < 1.0
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)
