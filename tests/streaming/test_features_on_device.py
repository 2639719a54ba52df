"""Features that `Batch.to` computes from the readers' samples, against those that the readers compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from stream_helpers import FRONT_END, MIXTURE, NOISE, make_loader, same_batches

from asrkd.corpus.augment import Augment, FrequencyWarp, Gain, SpecAugment, TimeWarp
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader

MakeStore = Callable[..., str]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
MASKS = SpecAugment(max_frequency=2)
WARP = FrequencyWarp(0.2, (20.0, 4000.0), 4000.0)
AUGMENTS = {
    "none": None,
    "samples": Augment((NOISE, Gain())),
    "features": Augment((), (WARP, MASKS)),
    "all": Augment((NOISE, Gain()), (WARP, MASKS), TimeWarp(5)),
    "views": Augment((NOISE,), (), None, (MASKS,)),
}
# Natural logarithms of float32 energies.
TOLERANCE = 1e-4


def taken(loader: Loader, steps: int, device: str = "cpu") -> list[Batch]:
    return [batch.to(device) for step in islice(loader.steps(MIXTURE), steps) for batch in step]


def without_features(batches: list[Batch]) -> list[Batch]:
    return [replace(batch, features=torch.empty(0), second_view=None).to("cpu") for batch in batches]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS)
def test_features_are_those_of_the_readers(roots: dict[str, str], augment: Augment | None, device: str) -> None:
    expected = taken(make_loader(roots, augment=augment), 8)
    moved = taken(make_loader(roots, augment=augment, features_on_device=True), 8, device)
    assert same_batches(without_features(expected), without_features(moved))
    for one, other in zip(expected, moved, strict=True):
        assert other.features.device.type == device and other.pending is None
        torch.testing.assert_close(other.features.cpu(), one.features, atol=TOLERANCE, rtol=0)
        assert (one.second_view is None) == (other.second_view is None)
        if one.second_view is not None and other.second_view is not None:
            torch.testing.assert_close(other.second_view.cpu(), one.second_view, atol=TOLERANCE, rtol=0)


def test_a_batch_is_computed_the_same_each_time_and_whatever_autocast_says(roots: dict[str, str]) -> None:
    batch = next(make_loader(roots, augment=AUGMENTS["all"], features_on_device=True).steps(MIXTURE))[0]
    assert batch.features.shape == (len(batch), int(batch.feature_lengths.max()), 0)
    first = batch.to("cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same_batches([first], [batch.to("cpu")])
    assert same_batches([first], [first.to("cpu")])


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loader_goes_on_exactly(roots: dict[str, str], num_workers: int) -> None:
    options: dict[str, Any] = {"augment": AUGMENTS["all"], "features_on_device": True, "streams": 2}
    expected = taken(make_loader(roots, **options), 9)
    loader = make_loader(roots, num_workers=num_workers, prefetch=2, **options)
    try:
        assert same_batches(taken(loader, 4), expected[:8])
        state = json.loads(json.dumps(loader.state_dict()))
    finally:
        loader.close()
    again = make_loader(roots, **options)
    again.load_state_dict(state)
    assert same_batches(taken(again, 5), expected[8:])
    # A state passes to readers that compute features.
    other = make_loader(roots, **options | {"features_on_device": False})
    other.load_state_dict(state)
    after = taken(other, 5)
    assert same_batches(without_features(after), without_features(expected[8:]))
    for one, two in zip(after, expected[8:], strict=True):
        torch.testing.assert_close(one.features, two.features, atol=TOLERANCE, rtol=0)


def test_stored_features_are_refused(make_store: MakeStore) -> None:
    root = make_store(rows=9, embed="features")
    with pytest.raises(ConfigError, match="source 's' holds features, so features_on_device has no samples"):
        make_loader({"s": root}, augment=None, features_on_device=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "front_end",
    [
        FRONT_END,
        FrontEnd(),
        FrontEnd(mean_norm="causal"),
        FrontEnd.from_dict({"preset": "sherpa"}),
        FrontEnd.from_dict({"preset": "whisper"}),
        FrontEnd(frame_length_ms=10.0, frame_shift_ms=12.5, stack=1, stride=1),
    ],
    ids=["tiny", "study", "causal", "sherpa", "whisper", "gaps"],
)
def test_utterances_of_any_length_at_once(front_end: FrontEnd, device: str) -> None:
    generator = torch.Generator().manual_seed(1)
    lengths = [0, 1, 100, 399, 400, 401, 560, 719, 1500, 1600, 8000, 52_345]
    utterances = [0.1 * torch.randn(length, generator=generator) for length in lengths]
    found = front_end.batch([samples.to(device) for samples in utterances])
    for samples, features in zip(utterances, found, strict=True):
        torch.testing.assert_close(features.cpu(), front_end(samples), atol=TOLERANCE, rtol=0)
    assert front_end.batch([]) == []
