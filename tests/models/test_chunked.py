"""Truncated backpropagation through time against a loop over chunks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from asrkd.errors import ConfigError
from asrkd.models import BLSTMTeacher, Chunked, EmformerStudent, LSTMStudent

LENGTHS = torch.tensor([23, 9])


def student(delay: int = 2) -> LSTMStudent:
    torch.manual_seed(0)
    return LSTMStudent(input_dim=4, num_classes=3, hidden_dim=6, num_layers=2, output_delay=delay).double()


def gradients(model: torch.nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def inputs() -> Tensor:
    features = torch.randn(2, 23, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    features[1, 9:] = 100.0  # padding may hold anything
    return features


@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_the_logits_are_those_of_whole_utterances(chunk: int) -> None:
    model = student()
    chunked = Chunked(model)
    whole, _ = model(inputs(), LENGTHS)
    chunked.chunk_frames = chunk
    logits, lengths = chunked(inputs(), LENGTHS)
    assert lengths.tolist() == LENGTHS.tolist()
    for n, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(logits[n, :length], whole[n, :length])
    chunked.eval()
    assert torch.equal(chunked(inputs(), LENGTHS)[0], whole)


def test_no_gradient_flows_back_beyond_a_chunk() -> None:
    """A loop that makes every chunk's state a number, and sums up the gradients of the chunks."""
    model, chunk = student(delay=0), 5
    chunked = Chunked(model)
    chunked.chunk_frames = chunk
    features, length = inputs()[:1], LENGTHS[:1]
    found = gradients(model, chunked(features, length)[0].square().sum())
    expected = [torch.zeros_like(parameter) for parameter in model.parameters()]
    hidden = cell = torch.zeros(2, 1, 6, dtype=torch.float64)
    for start in range(0, 23, chunk):
        outputs, (hidden, cell) = model.lstm(features[:, start : start + chunk], (hidden.detach(), cell.detach()))
        expected = [
            a + b for a, b in zip(expected, gradients(model, model.output(outputs).square().sum()), strict=True)
        ]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    whole = gradients(model, model(features, length)[0].square().sum())
    assert not torch.allclose(found[0], whole[0])
    chunked.chunk_frames = 23
    for one, other in zip(gradients(model, chunked(features, length)[0].square().sum()), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_that_does_not_stream_is_refused() -> None:
    with pytest.raises(ConfigError, match="BLSTMTeacher has no initial_state, so it cannot be trained in chunks"):
        Chunked(BLSTMTeacher(input_dim=4, num_classes=3, hidden_dim=6, num_layers=1))
    assert Chunked(EmformerStudent(input_dim=4, num_classes=3)).chunk_frames == 0
