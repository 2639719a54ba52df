"""Scores of speech, one a frame of 32 ms, of a recording that comes in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asrkd.segmentation.silero import FRAME, SAMPLING_RATE, SileroScores

FRAME_SECONDS = FRAME / SAMPLING_RATE
# The noise floor is the level that a tenth of the frames around is below, within this many seconds to either side.
_FLOOR_SECONDS = 15.0
_FLOOR_SHARE = 10
# Decibels above the floor that are a score of 1; half as many are one of 0.5.
_RANGE_DB = 20.0
# What is quieter than this, 60 dB below full scale, is not speech however quiet the rest is.
_QUIETEST_DB = -60.0


def activity(
    blocks: Iterator[NDArray[np.float32]], *, use_silero: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(num_frames,) scores of speech in 0..1, by Silero or by `energy_scores`, and (num_frames,) levels as `level_db`.

    Raises:
        ConfigError: silero-vad or onnxruntime is missing.
    """
    model = SileroScores() if use_silero else None
    scores: list[NDArray[np.float32]] = []

    def watched() -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            if model is not None:
                scores.append(model.accept(block))
            yield block

    levels = level_db(watched())
    if model is None:
        return energy_scores(levels), levels
    return np.concatenate([*scores, model.finish()]), levels


def energy_scores(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(num_frames,) how far the level is above the noise floor around, in 0..1: 0.5 is 10 dB."""
    half = round(_FLOOR_SECONDS / FRAME_SECONDS)
    floors = np.empty_like(levels)
    # The floor of all frames of a second is that of its middle.
    step = max(1, round(1.0 / FRAME_SECONDS))
    for begin in range(0, len(levels), step):
        middle = begin + step // 2
        around = levels[max(0, middle - half) : middle + half]
        floors[begin : begin + step] = np.percentile(around, _FLOOR_SHARE)
    scores = np.clip((levels - np.maximum(floors, _QUIETEST_DB - _RANGE_DB / 2)) / _RANGE_DB, 0.0, 1.0)
    return scores.astype(np.float32)


def level_db(blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(num_frames,) the level of each frame without its mean, in decibels of full scale, -120 at least."""
    held, parts = np.zeros(0, np.float32), []
    for block in blocks:
        held = np.concatenate([held, block])
        whole = len(held) // FRAME * FRAME
        parts.append(_levels(held[:whole].reshape(-1, FRAME)))
        held = held[whole:]
    if len(held):
        parts.append(_levels(held[None]))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _levels(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    return (10.0 * np.log10(frames.var(axis=1).astype(np.float64) + 1e-12)).astype(np.float32)
