from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, MismatchError
from asrkd.models import (
    BLSTMTeacher,
    ConformerTeacher,
    EmformerStudent,
    FeatureStream,
    LSTMStudent,
    TDNNStudent,
    build_model,
    check_model,
    count_parameters,
    study_student,
    study_teacher,
)

torch.manual_seed(0)
# A front end of six features.
SIX = FrontEnd(num_mels=6, stack=1, stride=1)


def small(name: str, delay: int = 2) -> nn.Module:
    models = {
        "lstm": lambda: LSTMStudent(6, 5, hidden_dim=8, num_layers=2, output_delay=delay),
        "tdnn": lambda: TDNNStudent(6, 5, hidden_dim=8, dilations=(1, 2, 3), output_delay=delay),
        "blstm": lambda: BLSTMTeacher(6, 5, hidden_dim=8, num_layers=2),
        "emformer": lambda: EmformerStudent(
            6, 5, 8, 2, 16, 2, segment_length=3, left_context_length=6, right_context_length=delay
        ),
        "conformer": lambda: ConformerTeacher(6, 5, 8, 2, 16, 2, kernel_size=5),
    }
    return models[name]().eval()


def stream(model: nn.Module, features: Tensor, cuts: list[int]) -> Tensor:
    run, outputs, at = FeatureStream(model, len(features)), [], 0
    for size in [*cuts, features.shape[1]]:
        outputs.append(run.accept(features[:, at : at + size]))
        at = min(at + size, features.shape[1])
    return torch.cat([*outputs, run.finish()], dim=1)


@pytest.mark.parametrize("name", ["lstm", "tdnn", "emformer"])
@settings(max_examples=25, deadline=None)
@given(frames=st.integers(1, 25), delay=st.integers(0, 4), cuts=st.lists(st.integers(0, 7), max_size=8))
@torch.no_grad()
def test_a_stream_of_chunks_gives_the_logits_of_the_whole(name: str, frames: int, delay: int, cuts: list[int]) -> None:
    model = small(name, delay)
    features = torch.randn(2, frames, 6)
    whole, _ = model(features, torch.tensor([frames, frames]))
    torch.testing.assert_close(stream(model, features, cuts), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "tdnn", "blstm", "emformer", "conformer"])
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


@pytest.mark.parametrize("name", ["lstm", "tdnn", "blstm", "emformer", "conformer"])
def test_padding_may_hold_anything_and_go_beyond_the_longest_utterance(name: str) -> None:
    model = small(name)
    lengths = torch.tensor([9, 4])
    features = torch.randn(2, 14, 6)
    clean = [
        model(one[None, :length], torch.tensor([length]))[0][0] for one, length in zip(features, [9, 4], strict=True)
    ]
    features[0, 9:], features[1, 4:] = float("nan"), float("inf")
    logits, found = model(features, lengths)
    assert found.tolist() == [9, 4] and logits.shape == (2, 14, 5)
    for together, alone in zip(logits, clean, strict=True):
        torch.testing.assert_close(together[: len(alone)], alone, rtol=1e-4, atol=1e-5)
    (logits[0, :9].sum() + logits[1, :4].sum()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("name", ["lstm", "tdnn", "emformer"])
@torch.no_grad()
def test_a_state_can_be_continued_twice(name: str) -> None:
    model = small(name)
    features = torch.randn(1, 21, 6)
    _, state = model.stream(features[:, :9], model.initial_state(1))
    first, _ = model.stream(features[:, 9:], state)
    second, _ = model.stream(features[:, 9:], state)
    assert first.shape[1] > 0 and torch.equal(first, second)


@torch.no_grad()
def test_logits_come_as_soon_as_the_delay_allows() -> None:
    model = small("lstm", 3)
    run = FeatureStream(model)
    counts = [run.accept(torch.randn(1, 1, 6)).shape[1] for _ in range(6)]
    assert counts == [0, 0, 0, 1, 1, 1] and run.state[-1].tolist() == [6]
    assert run.finish().shape[1] == 3


@torch.no_grad()
def test_a_projection_streams_like_the_whole_and_has_the_weights_of_the_formula() -> None:
    model = LSTMStudent(6, 5, hidden_dim=8, num_layers=2, output_delay=2, projection_dim=3).eval()
    features = torch.randn(2, 11, 6)
    whole, _ = model(features, torch.tensor([11, 11]))
    torch.testing.assert_close(stream(model, features, [1, 0, 4, 3]), whole, rtol=1e-4, atol=1e-5)
    layer = lambda inputs: 4 * 8 * (inputs + 3 + 2) + 8 * 3  # noqa: E731
    assert count_parameters(model) == layer(6) + layer(3) + 4 * 5


@pytest.mark.parametrize("args", [{"output_delay": -1}, {"projection_dim": 8}, {"projection_dim": -2}])
def test_sizes_of_an_lstm_that_cannot_be_are_refused(args: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(args))} {next(iter(args.values()))} "):
        LSTMStudent(6, 5, hidden_dim=8, **args)


@pytest.mark.parametrize(("frame", "last"), [(3, 7), (5, 7), (6, 10), (11, 11)])
def test_an_emformer_looks_as_far_as_its_segment_and_right_context(frame: int, last: int) -> None:
    model = small("emformer", 2)
    features = torch.randn(1, 12, 6, requires_grad=True)
    logits, _ = model(features, torch.tensor([12]))
    # Weighted, as the sum over what a layer norm gives could be constant.
    (gradient,) = torch.autograd.grad((logits[0, frame] * torch.randn(5)).sum(), features)
    assert int((gradient[0].abs().sum(dim=1) > 0).nonzero().max()) == last


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_output_delay_is_how_far_a_student_looks_ahead(delay: int) -> None:
    model = small("lstm", delay)
    features = torch.randn(1, 12, 6, requires_grad=True)
    logits, _ = model(features, torch.tensor([12]))
    (gradient,) = torch.autograd.grad(logits[0, 5].sum(), features)
    reached = gradient[0].abs().sum(dim=1) > 0
    assert reached.tolist() == [t <= 5 + delay for t in range(12)]


@pytest.mark.parametrize("delay", [0, 2])
def test_a_tdnn_sees_twice_its_dilations_and_its_delay(delay: int) -> None:
    model = TDNNStudent(6, 5, hidden_dim=8, dilations=(1, 3), output_delay=delay)
    features = torch.randn(1, 20, 6, requires_grad=True)
    logits, _ = model(features, torch.tensor([20]))
    (gradient,) = torch.autograd.grad((logits[0, 12] * torch.randn(5)).sum(), features)
    reached = (gradient[0].abs().sum(dim=1) > 0).nonzero().flatten().tolist()
    assert reached[0] >= 12 + delay - 8 and reached[-1] == 12 + delay


@torch.no_grad()
def test_a_tdnn_equals_dilated_convolutions() -> None:
    model = TDNNStudent(6, 5, hidden_dim=8, dilations=(1, 3), output_delay=2).eval()
    features = torch.randn(2, 15, 6)
    hidden = model.input(nn.functional.pad(features, (0, 0, 0, 2)))
    for norm, layer, dilation in zip(model.norms, model.layers, (1, 3), strict=True):
        kernel = layer.weight.view(8, 3, 8).transpose(1, 2)
        ahead = nn.functional.pad(norm(hidden).transpose(1, 2), (2 * dilation, 0))
        hidden = hidden + nn.functional.conv1d(ahead, kernel, layer.bias, dilation=dilation).relu().transpose(1, 2)
    expected = model.output(model.output_norm(hidden))[:, 2:]
    torch.testing.assert_close(model(features, torch.tensor([15, 15]))[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("args", [{"output_delay": -1}, {"dilations": []}, {"dilations": [2, 0]}])
def test_sizes_of_a_tdnn_that_cannot_be_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=re.escape(str(next(iter(args.values()))))):
        TDNNStudent(6, 5, hidden_dim=8, **args)


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


class OnlyLogits(nn.Module):
    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        return features[..., :5]


class TimeFirst(nn.Module):
    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return features[..., :5].transpose(0, 1), lengths


def test_what_does_not_keep_the_protocol_is_refused() -> None:
    with pytest.raises(MismatchError, match=r"\[12, 7\] frames .*\[13, 8\]"):
        check_model(OneShort(6, 5), SIX, 5)
    with pytest.raises(MismatchError, match="has 4 classes"):
        check_model(small("lstm"), SIX, 4)
    with pytest.raises(MismatchError, match="returns a Tensor"):
        check_model(OnlyLogits(), SIX, 5)
    with pytest.raises(MismatchError, match=r"\(13, 2, 5\)"):
        check_model(TimeFirst(), SIX, 5)


def test_the_check_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = small("conformer").train()
    model.input.eval()
    modes, weights = (
        [module.training for module in model.modules()],
        {k: v.clone() for k, v in model.state_dict().items()},
    )
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_model(model, SIX, 5)
    assert torch.equal(torch.rand(1), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["lstm", "tdnn", "blstm", "emformer", "conformer"])
def test_the_models_keep_the_protocol(name: str) -> None:
    check_model(small(name), SIX, 5)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("asrkd.models", "package.module:factory"),
        ("asrkd.none_such:LSTMStudent", "cannot be imported"),
        ("asrkd.models:LSTMStudnet", "did you mean 'LSTMStudent'"),
        ("asrkd.modles:LSTMStudent", "did you mean 'asrkd.models'"),
        ("asrkd.models.lsmt:LSTMStudent", "did you mean 'asrkd.models.lstm'"),
        ("a:b:c", "'a:b:c' is not of the form"),
        ("..models:LSTMStudent", "is not of the form"),
        ("builtins:dict", "returns a dict, not an nn.Module"),
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
