from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asrkd.errors import ConfigError, MismatchError
from asrkd.models import (
    BLSTMTeacher,
    ConformerTeacher,
    EmformerStudent,
    LSTMStudent,
    build_model,
    check_model,
    count_parameters,
    study_student,
    study_teacher,
)

torch.manual_seed(0)


def small(name: str, delay: int = 2) -> nn.Module:
    models = {
        "lstm": lambda: LSTMStudent(6, 5, hidden_dim=8, num_layers=2, output_delay=delay),
        "blstm": lambda: BLSTMTeacher(6, 5, hidden_dim=8, num_layers=2),
        "emformer": lambda: EmformerStudent(
            6, 5, 8, 2, 16, 2, segment_length=3, left_context_length=6, right_context_length=delay
        ),
        "conformer": lambda: ConformerTeacher(6, 5, 8, 2, 16, 2, kernel_size=5),
    }
    return models[name]().eval()


def stream(model: nn.Module, features: Tensor, cuts: list[int]) -> Tensor:
    state, outputs, at = model.initial_state(len(features)), [], 0
    for size in [*cuts, features.shape[1]]:
        logits, state = model.stream(features[:, at : at + size], state)
        outputs.append(logits)
        at = min(at + size, features.shape[1])
    outputs.append(model.flush(state)[0])
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", ["lstm", "emformer"])
@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 25), delay=st.integers(0, 4), cuts=st.lists(st.integers(0, 7), max_size=8))
@torch.no_grad()
def test_a_stream_of_chunks_gives_the_logits_of_the_whole(name: str, frames: int, delay: int, cuts: list[int]) -> None:
    model = small(name, delay)
    features = torch.randn(2, frames, 6)
    whole, _ = model(features, torch.tensor([frames, frames]))
    torch.testing.assert_close(stream(model, features, cuts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "blstm", "emformer", "conformer"])
@torch.no_grad()
def test_an_utterance_does_not_depend_on_its_batch(name: str) -> None:
    model = small(name)
    lengths = torch.tensor([11, 4, 1, 9])
    features = torch.randn(4, 11, 6)
    logits, found = model(features, lengths)
    assert found.tolist() == lengths.tolist() and logits.shape == (4, 11, 5)
    for one, length, together in zip(features, lengths.tolist(), logits, strict=True):
        alone, _ = model(one[None, :length], torch.tensor([length]))
        torch.testing.assert_close(together[:length], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_output_delay_is_how_far_a_student_looks_ahead(delay: int) -> None:
    model = small("lstm", delay)
    features = torch.randn(1, 12, 6, requires_grad=True)
    logits, _ = model(features, torch.tensor([12]))
    (gradient,) = torch.autograd.grad(logits[0, 5].sum(), features)
    reached = gradient[0].abs().sum(dim=1) > 0
    assert reached.tolist() == [t <= 5 + delay for t in range(12)]


def test_blstm_equals_torchs_own_with_packed_sequences() -> None:
    model = BLSTMTeacher(6, 5, hidden_dim=8, num_layers=2).eval()
    reference = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
    for number in range(2):
        for suffix, layers in (("", model.forward_layers), ("_reverse", model.backward_layers)):
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(reference, f"{kind}_l{number}{suffix}").data = getattr(layers[number], f"{kind}_l0").data
    features, lengths = torch.randn(3, 9, 6), torch.tensor([9, 5, 2])
    packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    expected = model.output(pad_packed_sequence(reference(packed)[0], batch_first=True)[0])
    found, _ = model(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[row, :length], expected[row, :length], rtol=1e-5, atol=1e-6)


def test_the_studys_shapes() -> None:
    with torch.device("meta"):
        student, teacher = study_student(), study_teacher()
    layer = lambda inputs, hidden: 4 * hidden * (inputs + hidden + 2)  # noqa: E731
    assert count_parameters(student) == layer(192, 768) + 4 * layer(768, 768) + 769 * 3183
    assert count_parameters(teacher) == 2 * (layer(192, 768) + 4 * layer(1536, 768)) + 1537 * 3183


class OneShort(nn.Module):
    def __init__(self, input_dim: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(input_dim, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.output(features[:, 1:]), lengths - 1


def no_module(input_dim: int, num_classes: int) -> int:
    return 3


def test_what_does_not_keep_the_protocol_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"\[12, 7\] frames .*\[13, 8\]"):
        check_model(OneShort(6, 5), 6, 5)
    with pytest.raises(MismatchError, match="has 4 classes"):
        check_model(small("lstm"), 6, 4)
    check_model(small("lstm"), 6, 5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("asrkd.models", "package.module:factory"),
        ("asrkd.none_such:LSTMStudent", "cannot be imported"),
        ("asrkd.models:LSTMStudnet", "did you mean 'LSTMStudent'"),
        (f"{__name__}:no_module", "cannot be imported|not an nn.Module"),
    ],
)
def test_wrong_factories_are_refused(factory: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(factory, {}, input_dim=6, num_classes=5)


def test_wrong_arguments_are_quoted() -> None:
    with pytest.raises(ConfigError, match="hiden"):
        build_model("asrkd.models:LSTMStudent", {"hiden": 3}, input_dim=6, num_classes=5)
    assert isinstance(
        build_model("asrkd.models:LSTMStudent", {"hidden_dim": 3}, input_dim=6, num_classes=5), LSTMStudent
    )
