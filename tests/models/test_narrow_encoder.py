"""A narrowed encoder against the whole one where nothing is lost, and against every other choice of units where something is."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretrained_helpers import save_encoder
from torch import Tensor

from asrkd.models.narrow_encoder import gelu_moments, narrowed
from asrkd.models.pretrained_encoder import LoadedEncoder, loaded_encoder


def whisper(folder: Path, **changes: Any) -> LoadedEncoder:
    return loaded_encoder(str(save_encoder(folder, "whisper", **changes)), layers=None, settings={})


@torch.no_grad()
def outputs(loaded: LoadedEncoder) -> Tensor:
    """Of all that the encoder reads at once."""
    module = loaded.module.eval()
    config = module.config
    features = torch.randn(
        2, config.num_mel_bins, 2 * config.max_source_positions, generator=torch.Generator().manual_seed(0)
    )
    return module(features).last_hidden_state  # type: ignore[no-any-return]


@given(st.floats(-6, 6), st.floats(0, 5))
def test_means_are_those_of_the_closed_form(mean: float, deviation: float) -> None:
    """E[x Phi(x)] of a normal x is mean Phi(z) + var / sqrt(1 + var) phi(z), z = mean / sqrt(1 + var), by Stein's lemma."""
    spread = math.sqrt(1 + deviation**2)
    z = mean / spread
    density, share = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(z / math.sqrt(2)))
    found, _ = gelu_moments(torch.tensor([mean]).double(), torch.tensor([deviation]).double())
    assert float(found) == pytest.approx(mean * share + deviation**2 / spread * density, abs=1e-6)


def test_deviations_are_those_of_draws() -> None:
    mean, deviation = torch.tensor([-3.0, -0.5, 0.0, 2.0]), torch.tensor([0.5, 1.0, 2.0, 0.1])
    draws = torch.randn(400_000, 4, generator=torch.Generator().manual_seed(0)) * deviation + mean
    expected = torch.nn.functional.gelu(draws).std(dim=0)
    torch.testing.assert_close(gelu_moments(mean, deviation)[1], expected, rtol=0.02, atol=1e-4)


def test_units_that_never_vary_cost_nothing(tmp_path: Path) -> None:
    """Half of the units, which read nothing, and so add a constant of their own: it moves to the bias."""
    whole = whisper(tmp_path / "encoder")
    width = whole.module.layers[0].fc1.out_features
    for number, layer in enumerate(whole.module.layers):
        with torch.no_grad():
            layer.fc1.weight[number % 2 :: 2] = 0.0
            layer.fc1.bias[number % 2 :: 2] = 1.5
    half = narrowed(whole, width // 2, "it")
    assert {layer.fc1.out_features for layer in half.module.layers} == {width // 2}
    assert half.config["encoder_ffn_dim"] == width // 2
    torch.testing.assert_close(outputs(half), outputs(whole), atol=1e-4, rtol=1e-4)
    less = (outputs(narrowed(whole, width // 2 - 1, "it")) - outputs(whole)).abs().max()
    assert float(less) > 1e-2


def test_all_units_are_the_encoder_itself(tmp_path: Path) -> None:
    whole = whisper(tmp_path / "encoder")
    same = narrowed(whole, whole.module.layers[0].fc1.out_features, "it")
    assert torch.equal(outputs(same), outputs(whole))


def test_what_is_kept_is_the_best_choice_of_units(tmp_path: Path) -> None:
    """Output weights of one unit each, so that what is lost is a sum over units; among all choices of 3 of 6, on normal inputs of the layer."""
    whole = whisper(tmp_path / "encoder", encoder_layers=1, encoder_ffn_dim=6)
    layer = whole.module.layers[0]
    with torch.no_grad():
        layer.fc2.weight[:] = torch.eye(16)[:, :6] * torch.tensor([3.0, 0.1, 1.0, 2.0, 0.5, 1.0])
        layer.fc1.bias[:] = torch.tensor([-6.0, 2.0, 0.0, 0.5, 1.0, -1.0])
        layer.final_layer_norm.weight[:] = torch.linspace(0.5, 1.5, 16)
        normal = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
        units = torch.nn.functional.gelu(
            layer.fc1(normal * layer.final_layer_norm.weight + layer.final_layer_norm.bias)
        )
        lost = (units * layer.fc2.weight.norm(dim=0)).var(dim=0)
    best = min(combinations(range(6), 3), key=lambda kept: sum(float(lost[n]) for n in range(6) if n not in kept))
    kept = narrowed(whole, 3, "it").module.layers[0].fc1.weight
    assert torch.equal(kept, layer.fc1.weight[list(best)])
