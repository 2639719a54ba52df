"""What alignments are made on: cepstra every 10 ms, whatever the frame rate of the student.

Means are subtracted over the frames in which something is said, so that silence around an utterance changes nothing, and no frame is
quieter than the quiet ones of its utterance, so that zeros look like the room.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd, check_samples, log_mel
from asrkd.errors import CorpusError

NUM_CEPSTRA = 13
# Natural logarithms of power: 4.343 dB each.
_DB = np.log(10) / 10
_RANGE = 50 * _DB
# Part of the way from the quietest to the loudest frame, above which something is said.
_SPOKEN = 0.4
_SMOOTHING = 5
# Farther than this from every spoken frame nothing is said, not even a faint end of a word.
_FAR = 20
# This share of frames is taken for the room that a recording was made in, band by band.
_QUIET = 0.05


@dataclass(frozen=True)
class Cepstra:
    """An utterance, T frames of 10 ms.

    Attributes:
        values: (T, 13) float32 cepstra, the mean of the spoken frames subtracted.
        spoken: (T,) bool: louder than the quiet frames; where the silence of a flat start begins.
        silent: digital silence: all samples are equal.
    """

    values: NDArray[np.float32]
    spoken: NDArray[np.bool_]
    silent: bool

    def __len__(self) -> int:
        return len(self.values)

    @property
    def pause(self) -> NDArray[np.bool_]:
        """(T,) bool: no frame within 0.2 s is spoken."""
        sums = np.cumsum(np.r_[np.zeros(_FAR + 1), self.spoken, np.zeros(_FAR)])
        return sums[2 * _FAR + 1 :] == sums[: len(self)]


def alignment_front_end(sampling_rate: int) -> FrontEnd:
    """Log-mel in windows of 25 ms every 10 ms."""
    return FrontEnd(sampling_rate=sampling_rate, num_mels=26, stack=1, stride=1, mean_norm="none")


def of_samples(samples: Tensor, sampling_rate: int) -> Cepstra:
    """(num_samples,) in -1..1 -> cepstra.

    Raises:
        CorpusError: the samples are not finite, or shorter than a window.
    """
    check_samples(samples)
    front_end = alignment_front_end(sampling_rate)
    if front_end.frame_law().num_features(len(samples)) == 0:
        raise CorpusError(
            f"{len(samples)} samples are shorter than a window of {front_end.frame_length_ms} ms, so there is nothing to align"
        )
    return of_log_mel(log_mel(front_end, samples).numpy())


def of_stacked(features: Tensor, front_end: FrontEnd) -> Cepstra:
    """Features as a store embeds them, (T, feature_dim) -> cepstra of its windows, as far as the stacked frames hold them.

    Raises:
        CorpusError: there is no frame.
    """
    if not len(features):
        raise CorpusError("there is no frame of features, so there is nothing to align")
    joined = features.reshape(len(features), front_end.stack, front_end.num_mels).numpy()
    if front_end.stride >= front_end.stack:
        # Windows between the stacked ones are not stored; the last one before them serves.
        held = np.minimum(np.arange(front_end.stride), front_end.stack - 1)
        return of_log_mel(joined[:, held].reshape(-1, front_end.num_mels))
    first = joined[:, : front_end.stride].reshape(-1, front_end.num_mels)
    return of_log_mel(np.concatenate([first, joined[-1, front_end.stride :]]))


def of_log_mel(mels: NDArray[np.float32]) -> Cepstra:
    """(T, num_mels) natural logarithms of power -> cepstra."""
    silent = bool(np.ptp(mels) < 1e-4)
    power = mels.astype(np.float64)
    loudness = np.logaddexp.reduce(power, axis=1) - np.log(power.shape[1])
    # Of several frames: a click is not the loudest thing said.
    smooth = _smooth(loudness)
    peak = float(smooth.max())
    # Zeros amid a recording become its room.
    heard = mels[loudness > peak - _RANGE]
    mels = np.maximum(mels, np.maximum(np.quantile(heard, _QUIET, axis=0), peak - _RANGE).astype(np.float32))
    spoken = smooth > _threshold(smooth, peak)
    cepstra = mels @ _dct(mels.shape[1])
    return Cepstra((cepstra - cepstra[spoken].mean(axis=0)).astype(np.float32), spoken, silent)


def _threshold(smooth: NDArray[np.floating], peak: float) -> float:
    """Loudness from which a frame counts as spoken; frames that are quieter than any room are not asked."""
    heard = smooth[smooth > peak - _RANGE]
    quiet = max(float(heard.min()), peak - _RANGE)
    return quiet + _SPOKEN * (peak - quiet) - 1e-6


def _smooth(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean over neighboring frames."""
    if len(values) < _SMOOTHING:
        return np.full_like(values, values.mean())
    padded = np.pad(values, _SMOOTHING // 2, mode="edge")
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    return (sums[_SMOOTHING:] - sums[:-_SMOOTHING]) / _SMOOTHING


@functools.lru_cache(maxsize=8)
def _dct(num_mels: int) -> NDArray[np.float32]:
    """(num_mels, 13) DCT-II, orthonormal."""
    steps = np.arange(num_mels) + 0.5
    matrix = np.cos(np.pi / num_mels * steps[:, None] * np.arange(min(NUM_CEPSTRA, num_mels)))
    matrix *= np.sqrt(2.0 / num_mels)
    matrix[:, 0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def with_deltas(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, D) -> (T, 3 D): values, their slopes over 5 frames and the slopes of the slopes (Kaldi's add-deltas)."""
    first = _slope(values)
    return np.concatenate([values, first, _slope(first)], axis=1)


def _slope(values: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
    size = len(values)
    slope = 2 * (padded[4 : 4 + size] - padded[:size]) + padded[3 : 3 + size] - padded[1 : 1 + size]
    return (slope / 10).astype(np.float32)


def frame_law(sampling_rate: int) -> FrameLaw:
    """Of the cepstra."""
    return alignment_front_end(sampling_rate).frame_law()
