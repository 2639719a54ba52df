from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asrkd.training.average import MovingAverage


class Model(nn.Module):
    """Weights of two types, one of them tied, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.half = nn.Linear(3, 5), nn.Linear(5, 5).half()
        self.tied = nn.Linear(3, 5)
        self.tied.weight = self.first.weight
        self.norm = nn.BatchNorm1d(5)
        self.frozen = nn.Parameter(torch.randn(2), requires_grad=False)


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.98])
def test_it_is_torchs_average_bit_for_bit_also_from_a_state(decay: float) -> None:
    torch.manual_seed(0)
    model = Model()
    expected = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average = MovingAverage(averaged, model, decay)
    for number in range(8):
        with torch.no_grad():
            for tensor in (*model.parameters(), model.norm.running_mean, model.norm.running_var):
                tensor.add_(torch.randn_like(tensor))
            model.norm.num_batches_tracked += 1
        expected.update_parameters(model)
        average.update()
        state = averaged.state_dict()
        assert state.keys() == expected.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in expected.state_dict().items())
        if number == 3:
            # As a training that goes on from a checkpoint: in place, and in another one from the beginning.
            saved = copy.deepcopy(state)
            averaged.load_state_dict(saved)
        if number == 5:
            averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
            average = MovingAverage(averaged, model, decay)
            averaged.load_state_dict(copy.deepcopy(state))
    assert not any(tensor.requires_grad and tensor.grad_fn for tensor in averaged.parameters())
