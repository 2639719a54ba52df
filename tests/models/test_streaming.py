"""The protocol of streaming models: state is tensors alone, for streams of a batch that are at different places, in eager mode and exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from asrkd.distributed.precision import autocast
from asrkd.errors import ConfigError, MismatchError
from asrkd.models import (
    Chunked,
    ConformerTeacher,
    EmformerStudent,
    FeatureStream,
    LSTMStudent,
    StreamingModel,
    StreamState,
    TDNNStudent,
    stream_layout,
    to_int8,
    valid_rows,
)

WIDTH, CLASSES = 6, 5
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class HalfRate(nn.Module):
    """A model of one's own: pairs of frames joined, then a TDNN."""

    chunk_frames, left_padding = 2, 0

    def __init__(self, output_delay: int) -> None:
        super().__init__()
        self.output_delay = output_delay
        self.inner = TDNNStudent(2 * WIDTH, CLASSES, 8, dilations=(1, 2), output_delay=output_delay)

    def forward(self, features: Tensor, feature_lengths: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.arange(features.shape[1])[None] < feature_lengths[:, None]
        features = functional.pad(features.masked_fill(~inside[..., None], 0.0), (0, 0, 0, features.shape[1] % 2))
        return self.inner(self.pairs(features), -(-feature_lengths // 2))

    def pairs(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (features.shape[1] // 2, 2)).flatten(2)

    def initial_state(self, batch_size: int = 1) -> StreamState:
        return self.inner.initial_state(batch_size)

    def stream(self, features: Tensor, state: StreamState) -> tuple[Tensor, StreamState]:
        return self.inner.stream(self.pairs(features), state)

    def flush(self, state: StreamState) -> tuple[Tensor, StreamState]:
        return self.inner.flush(state)


MODELS: dict[str, Callable[[int], Any]] = {
    "lstm": lambda delay: LSTMStudent(WIDTH, CLASSES, 8, 2, output_delay=delay),
    "lstmp": lambda delay: LSTMStudent(WIDTH, CLASSES, 8, 2, output_delay=delay, projection_dim=3),
    "tdnn": lambda delay: TDNNStudent(WIDTH, CLASSES, 8, dilations=(1, 2, 3), output_delay=delay),
    "emformer": lambda delay: EmformerStudent(WIDTH, CLASSES, 8, 2, 16, 2, 3, 6, delay),
    "emformer without left context": lambda delay: EmformerStudent(WIDTH, CLASSES, 8, 2, 16, 2, 2, 0, delay),
    "emformer with left context within a segment": lambda delay: EmformerStudent(
        WIDTH, CLASSES, 8, 2, 16, 2, 4, 3, delay
    ),
    "half rate": HalfRate,
}
every_model = pytest.mark.parametrize("name", MODELS)


def make(name: str, delay: int = 2) -> Any:
    torch.manual_seed(0)
    return MODELS[name](delay).eval()


def utterance(num_frames: int, seed: int = 0) -> Tensor:
    return torch.randn(1, num_frames, WIDTH, generator=torch.Generator().manual_seed(seed))


def whole(model: Any, features: Tensor) -> Tensor:
    return model(features, torch.full((len(features),), features.shape[1]))[0]


def padded(model: StreamingModel, features: Tensor) -> Tensor:
    """From the frames of zeros that a stream begins with to the end of its last chunk."""
    missing = -(model.left_padding + features.shape[1]) % model.chunk_frames
    return functional.pad(features, (0, 0, model.left_padding, missing))


@every_model
@settings(max_examples=20, deadline=None)
@given(
    frames=st.integers(0, 25),
    delay=st.integers(0, 5),
    cuts=st.lists(st.integers(0, 7), max_size=8),
    batch=st.integers(1, 3),
)
@torch.no_grad()
def test_chunks_of_any_length_make_the_logits_of_the_whole(
    name: str, frames: int, delay: int, cuts: list[int], batch: int
) -> None:
    model, rate = make(name, delay), 2 if name == "half rate" else 1
    features = torch.cat([utterance(frames, seed) for seed in range(batch)])
    stream, parts, at = FeatureStream(model, batch), [], 0
    for size in [*cuts, frames]:
        parts.append(stream.accept(features[:, at : at + size]))
        at = min(at + size, frames)
        # As soon as the lookahead of a whole chunk has been read.
        ready = (at - delay * rate) // model.chunk_frames * model.chunk_frames // rate
        assert sum(part.shape[1] for part in parts) == max(ready, 0)
    parts.append(stream.finish())
    expected = whole(model, features) if frames else torch.zeros(batch, 0, CLASSES)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, **CLOSE)


@every_model
@torch.no_grad()
def test_rows_behind_the_delay_are_the_frames_and_rows_before_are_finite(name: str) -> None:
    """The protocol itself, without the class that collects chunks."""
    model, features = make(name, 3), utterance(17)
    state, parts, valid = model.initial_state(1), [], []
    for chunk in padded(model, features).split(2 * model.chunk_frames, dim=1):
        logits, after = model.stream(chunk, state)
        valid.append(valid_rows(state, logits.shape[1], model.output_delay))
        parts.append(logits)
        state = after
    parts.append(model.flush(state)[0])
    assert parts[-1].shape[1] == model.output_delay
    rows, expected = torch.cat(parts, dim=1), whole(model, features)
    assert rows.isfinite().all()
    assert (~torch.cat(valid, dim=1)).sum() == model.output_delay and not torch.cat(valid, dim=1)[
        0, : model.output_delay
    ].any()
    torch.testing.assert_close(rows[:, model.output_delay :][:, : expected.shape[1]], expected, **CLOSE)


@every_model
@settings(max_examples=10, deadline=None)
@given(data=st.data(), delay=st.integers(0, 4))
@torch.no_grad()
def test_streams_at_different_places_share_a_batch(name: str, data: st.DataObject, delay: int) -> None:
    """Streams come and go, in any order of rows: what each puts out is its utterance's forward pass."""
    model, step = make(name, delay), MODELS[name](delay).chunk_frames
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=4))
    begins = data.draw(st.lists(st.integers(0, 5), min_size=len(lengths), max_size=len(lengths)))
    utterances = [utterance(length, seed) for seed, length in enumerate(lengths)]
    # The end of a stream is zeros too, as many as `flush` reads.
    behind = model.chunk_frames * -(-delay * 2 // model.chunk_frames) + model.output_delay * 2
    inputs = [padded(model, functional.pad(one, (0, 0, 0, behind))).split(step, dim=1) for one in utterances]
    found: list[list[Tensor]] = [[] for _ in lengths]
    running: list[int] = []
    state = model.initial_state(0)
    for time in range(max(begin + len(chunks) for begin, chunks in zip(begins, inputs, strict=True))):
        begun = [number for number, begin in enumerate(begins) if begin == time]
        state = tuple(torch.cat(parts) for parts in zip(state, model.initial_state(len(begun)), strict=True))
        running += begun
        order = data.draw(st.permutations(range(len(running))))
        going = [row for row in order if time - begins[running[row]] < len(inputs[running[row]])]
        state, running = tuple(part[going] for part in state), [running[row] for row in going]
        if not running:
            continue
        chunk = torch.cat([inputs[number][time - begins[number]] for number in running])
        logits, after = model.stream(chunk, state)
        valid = valid_rows(state, logits.shape[1], model.output_delay)
        for row, number in enumerate(running):
            found[number].append(logits[row, valid[row]])
        state = after
    for features, parts in zip(utterances, found, strict=True):
        expected = whole(model, features)[0]
        torch.testing.assert_close(torch.cat(parts)[: len(expected)], expected, **CLOSE)


@every_model
@torch.no_grad()
def test_flushing_ends_streams_at_different_places_at_once(name: str) -> None:
    model = make(name)
    lengths = [model.chunk_frames * 4 - model.left_padding, model.chunk_frames * 7 - model.left_padding]
    states, parts = [], []
    for seed, length in enumerate(lengths):
        logits, state = model.stream(padded(model, utterance(length, seed)), model.initial_state(1))
        states.append(state)
        parts.append(logits[:, model.output_delay :])
    last, _ = model.flush(tuple(torch.cat(rows) for rows in zip(*states, strict=True)))
    for seed, length in enumerate(lengths):
        expected = whole(model, utterance(length, seed))
        found = torch.cat([parts[seed], last[seed : seed + 1]], dim=1)
        torch.testing.assert_close(found[:, : expected.shape[1]], expected, **CLOSE)


class Step(nn.Module):
    """`stream` as the forward pass of a module, for exporters: logits, which of them are frames of the stream, the next state."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, state: StreamState) -> tuple[Tensor, Tensor, StreamState]:
        logits, after = self.model.stream(features, state)
        return logits, valid_rows(state, logits.shape[1], self.model.output_delay), after


def assert_steps_are_alike(model: Any, exported: Callable[..., Any], chunk: int, batch: int) -> None:
    """Over 20 chunks with carried state; the streams of the batch begin at different times."""
    state = model.initial_state(batch)
    # Other streams have read up to two chunks already.
    for number in range(batch):
        for _ in range(number % 3):
            _, after = model.stream(torch.randn(batch, chunk, WIDTH), state)
            state = tuple(torch.cat([old[:number], new[number:]]) for old, new in zip(state, after, strict=True))
    begun, carried = state, state
    for _ in range(20):
        features = torch.randn(batch, chunk, WIDTH)
        logits, valid, state = Step(model)(features, state)
        found, found_valid, carried = exported(features, carried)
        torch.testing.assert_close(found, logits, **CLOSE)
        assert torch.equal(found_valid, valid)
        for one, other in zip(carried, state, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, **CLOSE)
    assert torch.equal(state[-1], begun[-1] + 20 * logits.shape[1])


@pytest.mark.slow
@every_model
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # nn.LSTM's flat weights
@torch.no_grad()
def test_the_exported_step_is_the_step_for_any_batch(name: str) -> None:
    """`torch.export` refuses a graph that depends on the values of tensors."""
    model = make(name, 4)
    chunk, batch = 2 * model.chunk_frames, torch.export.Dim("batch", max=64)
    inputs = torch.randn(3, chunk, WIDTH), model.initial_state(3)
    dynamic = {0: batch}, tuple({0: batch} for _ in inputs[1])
    exported = torch.export.export(Step(model), inputs, dynamic_shapes=dynamic).module()
    for size in (1, 2, 5):
        assert_steps_are_alike(model, exported, chunk, size)


@pytest.mark.slow
@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("name", ["lstm", "tdnn", "emformer"])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@torch.no_grad()
def test_a_traced_step_is_the_step(name: str, eight_bits: bool) -> None:
    """Also of int8 models, whose kernels `torch.export` does not take. What a trace fixes would be the counters' values."""
    model = to_int8(make(name, 4)) if eight_bits else make(name, 4)
    chunk = 2 * model.chunk_frames
    traced = torch.jit.trace(Step(model), (torch.randn(3, chunk, WIDTH), model.initial_state(3)))
    for size in (1, 2, 5):
        assert_steps_are_alike(model, traced, chunk, size)


@every_model
def test_a_layout_says_what_is_read_and_carried(name: str) -> None:
    model = make(name)
    layout, state = stream_layout(model, "be tested"), model.initial_state(3)
    assert layout.state == tuple((tuple(part.shape[1:]), part.dtype) for part in state)
    assert (layout.chunk_frames, layout.output_delay) == (model.chunk_frames, model.output_delay)
    assert isinstance(model, StreamingModel) and all(not part.any() for part in state)
    _, after = model.stream(torch.randn(3, model.chunk_frames, WIDTH), state)
    assert [(part.shape, part.dtype) for part in after] == [(part.shape, part.dtype) for part in state]
    # A model of another type of numbers has a state of that type; counters stay whole numbers.
    double = make(name).double()
    logits, state = double.stream(torch.randn(3, model.chunk_frames, WIDTH).double(), double.initial_state(3))
    assert logits.dtype == torch.float64 and {part.dtype for part in state} == {torch.float64, torch.int64}


def with_state(state: Any) -> nn.Module:
    model = make("tdnn")
    model.initial_state = lambda batch_size=1: state
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            ConformerTeacher(WIDTH, CLASSES, 8, 2, 16, 1, 3),
            "ConformerTeacher has no initial_state, so it cannot be tested",
        ),
        (with_state(None), "returns a NoneType, but the state must be a tuple of tensors"),
        (with_state((torch.zeros(2, 3), 0)), "returns a tuple of Tensor, int, but"),
        (with_state(()), "returns a tuple of nothing, but"),
        (
            with_state((torch.zeros(3, 2), torch.zeros(2).long())),
            r"shapes \[\(3, 2\), \(2,\)\], but the first axis must be",
        ),
        (with_state((torch.zeros(2, 3), torch.zeros(2))), r"last tensor .* \(2,\) of float32, but must be"),
    ],
)
def test_what_does_not_stream_is_refused_with_the_reason(model: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        stream_layout(model, "be tested")


@pytest.mark.parametrize(("name", "value"), [("chunk_frames", 0), ("left_padding", -1), ("output_delay", 1.5)])
def test_a_size_that_cannot_be_is_refused(name: str, value: float) -> None:
    model = make("tdnn")
    setattr(model, name, value)
    with pytest.raises(ConfigError, match=f"TDNNStudent.{name} is {value}, but must be a whole number"):
        stream_layout(model, "be tested")


def test_an_emformer_reads_whole_segments() -> None:
    model = make("emformer")
    with pytest.raises(MismatchError, match="4 frames is not a multiple of the 3 frames"):
        model.stream(utterance(4), model.initial_state(1))


@every_model
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_training_in_chunks_has_the_logits_and_lengths_of_the_whole(name: str, chunk: int) -> None:
    model, lengths = make(name), torch.tensor([23, 9, 1])
    features = torch.cat([utterance(23, seed) for seed in range(3)])
    features[1, 9:], features[2, 1:] = float("nan"), 100.0  # padding may hold anything
    expected, expected_lengths = model(features, lengths)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    chunked = Chunked(model).train()
    chunked.chunk_frames = chunk
    logits, found_lengths = chunked(features, lengths)
    assert found_lengths.tolist() == expected_lengths.tolist() and logits.shape == expected.shape
    for found, other, length in zip(logits, expected, expected_lengths.tolist(), strict=True):
        torch.testing.assert_close(found[:length], other[:length], **CLOSE)
    sum(row[:length].sum() for row, length in zip(logits, expected_lengths.tolist(), strict=True)).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("name", ["lstm", "tdnn", "emformer"])
def test_training_in_chunks_keeps_the_type_of_numbers_of_autocast(name: str) -> None:
    chunked = Chunked(make(name)).train()
    chunked.chunk_frames = 6
    with torch.autocast("cpu", torch.bfloat16):
        try:
            torch.nn.LSTM(4, 4)(torch.zeros(2, 1, 4))
            supported = True
        except RuntimeError:  # a CPU without instructions for it
            supported = name != "lstm"
    if not supported:
        with pytest.raises(ConfigError, match="cannot run in bf16"), autocast("bf16", torch.device("cpu")):
            chunked(utterance(20), torch.tensor([20]))
        return
    with torch.autocast("cpu", torch.bfloat16):
        assert chunked(utterance(20), torch.tensor([20]))[0].dtype == torch.bfloat16
