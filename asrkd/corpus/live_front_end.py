"""The front end for live audio: chunk by chunk what `FrontEnd` computes of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.corpus.front_end import (
    FrontEnd,
    causal_mean_state,
    check_samples,
    log_mel,
    log_mel_inside,
    mirrored,
    stack_frames,
    subtract_causal_mean,
)
from asrkd.errors import ConfigError


class LiveFrontEnd:
    """Features of a stream of samples, as soon as they can be computed.

    Put together, with those that `finish` adds, they are `front_end` of all samples (up to the last bits of float32).
    Whisper's need the whole utterance: they all come from `finish`.

    Raises:
        ConfigError: a front end that subtracts the mean of the whole utterance, which a live one does not have.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        if front_end.mean_norm == "utterance":
            raise ConfigError(
                "mean_norm is 'utterance', which needs the whole utterance before the first frame; a live student is trained with "
                "'causal' or 'none'"
            )
        self.front_end = front_end
        self._law = front_end.frame_law()
        self._begin()

    def _begin(self) -> None:
        self._samples = torch.zeros(0)
        self._frames = torch.zeros(0, self.front_end.num_mels)
        # So far; and whether what is mirrored before the first sample is there, without which there are no windows.
        self._num_samples = self._num_windows = 0
        self._begun = self._law.begin >= 0
        # To pass over of what comes, where a shift is longer than its window.
        self._skip_samples, self._skip_frames = max(0, self._law.begin), 0
        self._mean = causal_mean_state(1, self.front_end.num_mels)

    def accept(self, samples: Tensor) -> Tensor:
        """The features (C, feature_dim) that these further (num_samples,) samples complete; C may be 0.

        Raises:
            CorpusError: the samples are not finite or not one channel.
        """
        check_samples(samples)
        self._num_samples += len(samples)
        self._samples, self._skip_samples = _without(
            torch.cat([self._samples, samples.to(torch.float32)]), self._skip_samples
        )
        if self.front_end.filterbank == "whisper":
            return self._stacked(torch.zeros(0, self.front_end.num_mels))
        if not self._begun:
            if len(self._samples) < -self._law.begin:
                return self._stacked(torch.zeros(0, self.front_end.num_mels))
            self._samples = mirrored(self._samples, -self._law.begin, 0)
            self._begun = True
        return self._stacked(self._windows())

    def finish(self) -> Tensor:
        """The features (C, feature_dim) of the windows that reach over the end; what comes then begins another stream."""
        remaining = self._law.num_windows(self._num_samples) - self._num_windows
        mel = torch.zeros(0, self.front_end.num_mels)
        if remaining and (self.front_end.filterbank == "whisper" or not self._begun):
            mel = log_mel(self.front_end, self._samples)
        elif remaining:
            behind = (remaining - 1) * self._law.shift + self._law.window - len(self._samples)
            self._samples = mirrored(self._samples, 0, behind)
            mel = self._windows()
        features = self._stacked(mel)
        self._begin()
        return features

    def _windows(self) -> Tensor:
        """The log-mel energies of the windows that the held samples complete, which are let go of."""
        held, law = self._samples, self._law
        count = 0 if len(held) < law.window else 1 + (len(held) - law.window) // law.shift
        mel = log_mel_inside(self.front_end, held[: (count - 1) * law.shift + law.window] if count else held[:0])
        self._samples, self._skip_samples = _without(held, self._skip_samples + count * law.shift)
        self._num_windows += count
        return mel

    def _stacked(self, mel: Tensor) -> Tensor:
        """The features that further windows complete."""
        if len(mel):
            self._frames, self._skip_frames = _without(
                torch.cat([self._frames, self._less_mean(mel)]), self._skip_frames
            )
        features = stack_frames(self.front_end, self._frames)
        self._frames, self._skip_frames = _without(self._frames, self._skip_frames + len(features) * self._law.stride)
        return features

    def _less_mean(self, mel: Tensor) -> Tensor:
        if self.front_end.mean_norm == "none":
            return mel
        less_mean, self._mean = subtract_causal_mean(mel[None], self._mean)
        return less_mean[0]


def _without(rows: Tensor, count: int) -> tuple[Tensor, int]:
    """The rows after the first `count`, and how many of those have not come yet."""
    return rows[count:], max(0, count - len(rows))
