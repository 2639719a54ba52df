"""A student that starts from Whisper's layers, against transformers' own parts under a mask of chunks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from pretrained_helpers import READS, save_encoder
from torch import Tensor

from asrkd.acoustic import AcousticModel
from asrkd.acoustic.trained import TrainedModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.errors import AsrkdError, ConfigError, MismatchError, ModelError
from asrkd.export.onnx_export import export_onnx
from asrkd.export.onnx_file import open_session
from asrkd.models import FeatureStream, WhisperStudent, build_model, check_model, checkpoint_args
from asrkd.models.whisper_start import mel_map, sinusoids
from asrkd.training.optimizer import OptimizerConfig, make_optimizer

SHERPA = FrontEnd.from_dict({"preset": "sherpa"})


def save_whisper(folder: Path, **changes: Any) -> Path:
    """With Whisper's positions, which `save_encoder` draws at random like all else."""
    save_encoder(folder, "whisper", **changes)
    model = transformers.WhisperModel.from_pretrained(folder)
    weight = model.get_encoder().embed_positions.weight
    weight.data = sinusoids(torch.arange(len(weight)), weight.shape[1])
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whisper(tmp_path_factory.mktemp("whisper"))


def student(whisper: Path | str, stack: int = 4, **args: Any) -> WhisperStudent:
    args = {"chunk_frames": 3, "left_frames": 4, **args}
    model = build_model(
        "asrkd.models:WhisperStudent", {"name": str(whisper), **args}, input_dim=80 * stack, num_classes=5
    )
    assert isinstance(model, WhisperStudent)
    return model.eval()


def noise(num_frames: int, stack: int = 4, seed: int = 0) -> Tensor:
    """About as log-mel is."""
    return 3 * torch.randn(1, num_frames, 80 * stack, generator=torch.Generator().manual_seed(seed)) - 6


@torch.no_grad()
def by_transformers(
    model: WhisperStudent, whisper: Path, features: Tensor, chunk: int, left: int, start: int = 0
) -> Tensor:
    """(T, V) logits of (T, F) features: one utterance by transformers' convolutions and layers, with a dense mask of chunks."""
    encoder = transformers.WhisperModel.from_pretrained(whisper).get_encoder().eval()
    bins = model.mel(features.reshape(-1, 80))
    # One frame later; whole chunks of frames, of which those behind the end are zeros that are not attended to.
    num_frames = len(bins) // 2
    whole = -(-num_frames // (2 * chunk)) * 2 * chunk
    bins = torch.nn.functional.pad(bins, (0, 0, 1, 2 * whole - len(bins)))
    low = torch.nn.functional.gelu(encoder.conv1(bins.T[None]))[..., :-1]
    hidden = torch.nn.functional.gelu(encoder.conv2(low)).transpose(1, 2) + sinusoids(torch.arange(whole) + start, 16)
    steps = torch.arange(whole)
    begins = steps // (2 * chunk) * 2 * chunk
    seen = (steps >= begins[:, None] - 2 * left) & (steps < begins[:, None] + 2 * chunk) & (steps < num_frames)
    mask = torch.zeros(whole, whole).masked_fill(~(seen | torch.eye(whole).bool()), torch.finfo(torch.float32).min)
    for layer in encoder.layers[: len(model.encoder.layers)]:
        hidden = layer(hidden, mask[None, None])
    joined: Tensor = encoder.layer_norm(hidden)[0].reshape(whole // 2, 32)
    return model.output(joined[: num_frames // 2])  # type: ignore[no-any-return]


@pytest.mark.parametrize("chunk,left,frames", [(3, 4, 20), (3, 0, 9), (30, 7, 17), (1, 2, 5)])
def test_layers_are_transformers_own_under_a_mask_of_chunks(whisper: Path, chunk: int, left: int, frames: int) -> None:
    model = student(whisper, chunk_frames=chunk, left_frames=left)
    features = noise(frames)
    expected = by_transformers(model, whisper, features[0], chunk, left)
    assert float(expected.std(dim=0).mean()) > 0.05
    with torch.no_grad():
        logits, lengths = model(features, torch.tensor([frames]))
    assert lengths.tolist() == [frames]
    torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 25), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 9), max_size=8),
    chunk=st.integers(1, 5),
    left=st.integers(0, 6),
    stack=st.sampled_from([1, 2, 4]),
    filler=st.sampled_from([0.0, 7.0, float("nan")]),
)
@torch.no_grad()
def test_any_chunks_make_the_logits_of_the_batch(
    whisper: Path, lengths: list[int], cuts: list[int], chunk: int, left: int, stack: int, filler: float
) -> None:
    """Whatever is behind the ends in the batch, each utterance is what its stream gives, whole frames or not."""
    model = student(whisper, stack, chunk_frames=chunk, left_frames=left)
    utterances = [noise(length, stack, seed) for seed, length in enumerate(lengths)]
    batch = torch.full((len(lengths), max(lengths), 80 * stack), filler)
    for row, features in zip(batch, utterances, strict=True):
        row[: features.shape[1]] = features[0]
    logits, counts = model(batch, torch.tensor(lengths))
    assert counts.tolist() == [-(-length * stack // 4) for length in lengths]
    for row, features, length, count in zip(logits, utterances, lengths, counts.tolist(), strict=True):
        stream, parts, at = FeatureStream(model), [], 0
        for size in [*cuts, length]:
            parts.append(stream.accept(features[:, at : at + size]))
            at = min(at + size, length)
        parts.append(stream.finish())
        torch.testing.assert_close(torch.cat(parts, dim=1)[0][:count], row[:count], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_nothing_behind_a_chunk_reaches_it(whisper: Path) -> None:
    model, features = student(whisper), noise(12)
    changed = features.clone()
    changed[:, 6:] += 1.0
    one, other = (model(each, torch.tensor([12]))[0][0] for each in (features, changed))
    assert torch.equal(one[:6], other[:6])
    assert all((one[n] - other[n]).abs().max() > 1e-3 for n in range(6, 12))


@torch.no_grad()
def test_a_stream_has_positions_beyond_whispers(whisper: Path) -> None:
    """Of which the small one has 100, of 20 ms."""
    model, features = student(whisper), noise(3)
    *state, position = model.initial_state(1)
    logits, after = model.stream(features, (*state, position + 700))
    torch.testing.assert_close(
        logits[0], by_transformers(model, whisper, features[0], 3, 0, start=1400), atol=1e-4, rtol=1e-4
    )
    assert after[-1].tolist() == [703]
    assert not torch.allclose(logits, model.stream(features, model.initial_state(1))[0], atol=1e-3)


def test_positions_are_drawn_in_training_alone_by_torchs_seed(whisper: Path) -> None:
    model, lengths = student(whisper, max_offset=1000), torch.tensor([9])
    features = noise(9)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(features, lengths)[0].detach()  # type: ignore[no-any-return]

    assert torch.equal(run(1), run(2))
    model.train()
    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))
    still = student(whisper, max_offset=0)
    assert torch.equal(still.train()(features, lengths)[0], still.eval()(features, lengths)[0])


def test_a_checkpoint_builds_it_again_without_the_folder(whisper: Path) -> None:
    model = student(whisper, layers=1, feedforward_dim=7, dropout=0.1)
    args = checkpoint_args(model, {})
    assert str(whisper) not in repr(args)
    again = WhisperStudent(320, 5, **args).eval()
    again.load_state_dict(model.state_dict())
    assert again.chunk_frames == 3 and len(again.encoder.layers) == 1
    assert again.encoder.layers[0].fc1.out_features == 7
    features = noise(10)
    assert torch.equal(model(features, torch.tensor([10]))[0], again(features, torch.tensor([10]))[0])


def fine_tuned(folder: Path, whisper: Path, factory: str = "asrkd.models:Pretrained", **args: Any) -> Path:
    network = build_model("asrkd.models:Pretrained", {"name": str(whisper), **args}, input_dim=80, num_classes=3)
    with torch.no_grad():
        network.encoder.layers[0].fc1.weight += 0.5  # type: ignore[union-attr,index]
    front_end = front_end_from_dict(READS["whisper"][0])
    inventory = Inventory(("<blk>", "a", "b"), "ctc", 1)
    folder.mkdir()
    TrainedModel(network.state_dict(), factory, checkpoint_args(network, {}), front_end, inventory, 2).save(
        folder / "final.pt"
    )
    return folder


def test_it_starts_from_a_fine_tuned_teacher(whisper: Path, tmp_path: Path) -> None:
    run = fine_tuned(tmp_path / "run", whisper)
    plain = student(whisper).encoder.state_dict()
    for name in (run, run / "final.pt"):
        model = student(name)
        found = model.encoder.state_dict()
        assert set(found) == set(plain) and len(model.encoder.layers) == 2
        assert torch.equal(found["layers.0.fc1.weight"], plain["layers.0.fc1.weight"] + 0.5)
        assert all(torch.equal(found[key], plain[key]) for key in plain if key != "layers.0.fc1.weight")


def test_layers_learn_at_rates_by_depth(whisper: Path) -> None:
    model = student(whisper)
    depths = model.parameter_depths()
    assert {name.split(".")[0] for name in depths} == {"mel", "encoder"}
    assert (depths["mel.weight"], depths["encoder.conv1.weight"], depths["encoder.layer_norm.weight"]) == (2, 2, 0)
    assert (depths["encoder.layers.0.fc1.weight"], depths["encoder.layers.1.fc1.weight"]) == (1, 0)
    groups = make_optimizer(model, OptimizerConfig(encoder_scale=0.5, layer_decay=0.5)).param_groups
    assert sorted(group["scale"] for group in groups) == [0.125, 0.25, 0.5, 1.0]
    model(noise(9), torch.tensor([9]))[0].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_log_mel_becomes_whispers_before_anything_is_learnt() -> None:
    """Of noise of many colors; R² against the front end `whisper`, whose windows are 5 ms earlier."""
    weight, bias = mel_map(SHERPA, 80)
    assert weight.shape == (80, 80) and (weight >= 0).all()
    assert mel_map(SHERPA, 128)[0].isfinite().all() and mel_map(SHERPA, 128)[1].isfinite().all()
    front_end = FrontEnd.from_dict({"preset": "sherpa", "stack": 1, "stride": 1})
    whisper = FrontEnd.from_dict({"preset": "whisper"})
    generator = torch.Generator().manual_seed(0)
    here, there = [], []
    for color in (-0.9, -0.5, 0.0, 0.5, 0.9):
        white = torch.randn(16000, generator=generator) * torch.linspace(0.02, 0.2, 16000)
        samples = white + color * torch.nn.functional.pad(white, (1, 0))[:-1]
        frames, expected = front_end(samples), whisper(samples)
        here.append(frames @ weight.T + bias)
        there.append(expected[: len(frames)])
    found, expected = torch.cat(here), torch.cat(there)
    # Bins of single frames of noise scatter; their means are those of the two filterbanks.
    assert float((found.mean(dim=0) - expected.mean(dim=0)).abs().max()) < 0.12
    means = torch.stack([part.mean(dim=0) for part in here]), torch.stack([part.mean(dim=0) for part in there])
    rest = (means[0] - means[1]).square().sum() / (means[1] - means[1].mean()).square().sum()
    assert 1 - float(rest) > 0.9


def test_it_runs_in_bfloat16(whisper: Path) -> None:
    model = student(whisper).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(noise(9), torch.tensor([9]))
    assert logits.dtype == torch.bfloat16 and logits.isfinite().all()
    logits.float().sum().backward()


@pytest.mark.slow
@torch.no_grad()
def test_its_stream_is_an_onnx_graph(whisper: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    front_end = FrontEnd.from_dict({"preset": "sherpa", "stack": 4, "stride": 4})
    model = AcousticModel(student(whisper), front_end, Inventory(("<blk>", *"abcd"), "ctc", 1), 1, "student", "f" * 32)
    # Both graphs are compared with the model when they are written.
    written, missing = export_onnx(model, tmp_path / "out", types=("float32",))
    assert [one.name for one in written] == ["model.onnx", "stream.onnx"] and not missing
    session = open_session(tmp_path / "out" / "stream.onnx")
    names = [one.name for one in session.get_inputs()]
    network: WhisperStudent = model.network
    for batch in (1, 3):
        state = network.initial_state(batch)
        carried = [part.numpy() for part in state]
        for number in range(4):
            features = torch.cat([noise(3, seed=10 * number + n) for n in range(batch)])
            logits, state = network.stream(features, state)
            found, *carried = session.run(None, dict(zip(names, [features.numpy(), *carried], strict=True)))
            torch.testing.assert_close(torch.from_numpy(found), logits, atol=1e-4, rtol=0)


def refusal(name: Path | str, error: type[AsrkdError], **args: Any) -> str:
    front_end = FrontEnd.from_dict({"preset": "sherpa", **args.pop("front_end", {})})
    with pytest.raises(error) as raised:
        given = {"name": str(name), **args}
        check_model(
            build_model("asrkd.models:WhisperStudent", given, input_dim=front_end.feature_dim, num_classes=5),
            front_end,
            5,
        )
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("error", "args", "message"),
    [
        (ConfigError, {"layers": 4}, "model.args.layers: is 4, but the encoder of .* has 3 layers; give 1 to 3"),
        (ConfigError, {"layers": 0}, "model.args.layers: is 0"),
        (ConfigError, {"layers": True}, "model.args.layers: is True"),
        (ConfigError, {"feedforward_dim": 33}, "model.args.feedforward_dim: is 33, but the feed-forward networks of .* have 32 units; give 1 to 32"),
        (ConfigError, {"feedforward_dim": 0}, "model.args.feedforward_dim: is 0"),
        (ConfigError, {"feedforward_dim": True}, "model.args.feedforward_dim: is True"),
        (ConfigError, {"chunk_frames": 0}, "model.args.chunk_frames: is 0, but must be a whole number of at least 1"),
        (ConfigError, {"left_frames": 1.5}, "model.args.left_frames: is 1.5"),
        (ConfigError, {"max_offset": -1}, "model.args.max_offset: is -1, .* at least 0"),
        (ConfigError, {"dropout": 1.0}, "model.args.dropout: is 1.0"),
        (ConfigError, {"name": ""}, "model.args.name: is ''"),
        (ConfigError, {"front_end": {"num_mels": 64}}, "gives 256 values a frame, .* set front_end: .preset: sherpa."),
        (ConfigError, {"front_end": {"stack": 3, "stride": 3}}, "gives 240 values a frame"),
        (MismatchError, {"front_end": {"mean_norm": "causal"}}, "front_end.mean_norm is 'causal', but .* mean_norm 'none'"),
        (MismatchError, {"front_end": {"stride": 2}}, "front_end.stride is 2"),
        (MismatchError, {"front_end": {"stack": 2, "stride": 2}}, "subsampling factor"),
        (ModelError, {"name": "no/such/folder"}, "model.args.name"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(
    whisper: Path, error: type[AsrkdError], args: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = dict(args)
    said = refusal(given.pop("name", whisper), error, **given)
    assert re.search(message, said), said


def test_models_that_it_cannot_start_from(whisper: Path, tmp_path: Path) -> None:
    assert "convolutions read samples" in refusal(save_encoder(tmp_path / "samples", "wav2vec2"), ConfigError)
    assert "positions" in refusal(save_encoder(tmp_path / "trained", "whisper"), ModelError)
    run = fine_tuned(tmp_path / "run", whisper)
    assert "has 3 layers; give 1 to 3" in refusal(run, ConfigError, layers=4)
    other = fine_tuned(tmp_path / "other", whisper, factory="asrkd.models:TDNNStudent")
    assert "holds a model of 'asrkd.models:TDNNStudent'" in refusal(other, ModelError)
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    assert "cannot be read" in refusal(tmp_path / "damaged.pt", ModelError)


def test_it_reads_whole_chunks(whisper: Path) -> None:
    model = student(whisper)
    with pytest.raises(MismatchError, match="4 frames is not a multiple of the 3 frames"):
        model.stream(noise(4), model.initial_state(1))
