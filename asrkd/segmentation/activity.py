"""Scores of speech, one a frame of 32 ms, of a recording that comes in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from asrkd.segmentation.silero import FRAME, SAMPLING_RATE, SileroScores

FRAME_SECONDS = FRAME / SAMPLING_RATE
# Levels, by which borders are placed, come in finer steps, each over three of them.
STEPS = 4
STEP = FRAME // STEPS
STEP_SECONDS = FRAME_SECONDS / STEPS
# What is around reaches this far to either side; the noise floor is the level that a tenth of it is below.
_AROUND_SECONDS = 15.0
_FLOOR_SHARE = 10
# Decibels above the floor that are a score of 1; half as many are one of 0.5.
_RANGE_DB = 20.0
# What is quieter than this, 60 dB below full scale, is not speech however quiet the rest is.
_QUIETEST_DB = -60.0


def activity(
    blocks: Iterator[NDArray[np.float32]], *, use_silero: bool
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """(num_frames,) scores of speech in 0..1, by Silero or by `energy_scores`, and (num_steps,) levels as `StepLevels`.

    Raises:
        ConfigError: silero-vad or onnxruntime is missing.
    """
    model = SileroScores() if use_silero else None
    steps = StepLevels()
    scores: list[NDArray[np.float32]] = []
    levels: list[NDArray[np.float16]] = []

    def watched() -> Iterator[NDArray[np.float32]]:
        for block in blocks:
            levels.append(steps.accept(block))
            if model is not None:
                scores.append(model.accept(block))
            yield block

    if model is None:
        scores.append(energy_scores(level_db(watched())))
    else:
        for _ in watched():
            pass
        scores.append(model.finish())
    return np.concatenate(scores), np.concatenate([*levels, steps.finish()])


class StepLevels:
    """(num_steps,) the level of the `STEP` samples of each step and of the steps around it, in decibels of full scale, block by block.

    Halves of float suffice for decibels: an hour takes 0.9 MB.
    """

    def __init__(self) -> None:
        # The end of what was accepted, from the step before the next one whose level is due.
        self._held = np.zeros(STEP, np.float32)

    def accept(self, samples: NDArray[np.float32]) -> NDArray[np.float16]:
        """The levels that these further samples decide."""
        held = np.concatenate([self._held, samples])
        due = max(0, len(held) // STEP - 2)
        self._held = held[due * STEP :]
        return self._levels(held[: (due + 2) * STEP]) if due else np.zeros(0, np.float16)

    def finish(self) -> NDArray[np.float16]:
        """The levels of the steps that are left; the last one is completed by silence."""
        rest = len(self._held) - STEP
        count = -(-rest // STEP)
        return self._levels(np.pad(self._held, (0, (count + 1) * STEP - rest))) if count else np.zeros(0, np.float16)

    @staticmethod
    def _levels(samples: NDArray[np.float32]) -> NDArray[np.float16]:
        """Of all steps but the first and the last."""
        steps = samples.reshape(-1, STEP)
        power, mean = (
            np.convolve(one, np.full(3, 1 / 3), "valid")
            for one in (np.square(steps).mean(axis=1, dtype=np.float64), steps.mean(axis=1, dtype=np.float64))
        )
        return (10.0 * np.log10(np.maximum(power - np.square(mean), 0.0) + 1e-12)).astype(np.float16)


def noise_floors(levels: NDArray[np.floating], seconds: float) -> NDArray[np.float32]:
    """(num_seconds,) the level that a tenth of the levels around each second is below.

    Args:
        levels: in decibels.
        seconds: from one of them to the next.
    """
    return levels_around(levels, seconds, _FLOOR_SHARE, np.ones(len(levels), bool))


def levels_around(
    levels: NDArray[np.floating], seconds: float, percent: float, counted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """(num_seconds,) the level that `percent` of those levels around each second that are counted are below.

    -inf where less than a second is counted of the fifteen to either side.

    Args:
        levels: in decibels.
        seconds: from one of them to the next.
        counted: (num_levels,)
    """
    half, step = round(_AROUND_SECONDS / seconds), round(1.0 / seconds)
    around = (slice(max(0, at - half), at + half) for at in range(step // 2, len(levels) + step // 2, step))
    least = min(step, len(levels))
    quantiles = [
        np.percentile(levels[part][counted[part]], percent) if np.count_nonzero(counted[part]) >= least else -np.inf
        for part in around
    ]
    return np.array(quantiles, np.float32)


def energy_scores(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """(num_frames,) how far the level is above the noise floor around, in 0..1: 0.5 is 10 dB."""
    step = round(1.0 / FRAME_SECONDS)
    floors = np.repeat(noise_floors(levels, FRAME_SECONDS), step)[: len(levels)]
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
