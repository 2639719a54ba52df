"""The front end for live audio: chunk by chunk what `FrontEnd` computes of the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.corpus.front_end import (
    FrontEnd,
    causal_mean_state,
    check_samples,
    log_mel,
    stack_frames,
    subtract_causal_mean,
)
from asrkd.errors import ConfigError


class LiveFrontEnd:
    """Features of a stream of samples, as soon as they can be computed.

    Put together they are `front_end` of all samples (up to the last bits of float32).

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
        self._samples = torch.zeros(0)
        self._frames = torch.zeros(0, front_end.num_mels)
        # To pass over of what comes, where a shift is longer than its window.
        self._skip_samples = self._skip_frames = 0
        self._mean = causal_mean_state(1, front_end.num_mels)

    def accept(self, samples: Tensor) -> Tensor:
        """The features (C, feature_dim) that these further (num_samples,) samples complete; C may be 0.

        Raises:
            CorpusError: the samples are not finite or not one channel.
        """
        check_samples(samples)
        law = self.front_end.frame_law()
        held, self._skip_samples = _without(torch.cat([self._samples, samples.to(torch.float32)]), self._skip_samples)
        count = law.num_windows(len(held))
        if count:
            mel = log_mel(self.front_end, held[: (count - 1) * law.shift + law.window])
            self._frames, self._skip_frames = _without(
                torch.cat([self._frames, self._less_mean(mel)]), self._skip_frames
            )
        self._samples, self._skip_samples = _without(held, self._skip_samples + count * law.shift)
        features = stack_frames(self.front_end, self._frames)
        self._frames, self._skip_frames = _without(self._frames, self._skip_frames + len(features) * law.stride)
        return features

    def _less_mean(self, mel: Tensor) -> Tensor:
        if self.front_end.mean_norm == "none":
            return mel
        less_mean, self._mean = subtract_causal_mean(mel[None], self._mean)
        return less_mean[0]


def _without(rows: Tensor, count: int) -> tuple[Tensor, int]:
    """The rows behind the first `count`, and how many of those have not come yet."""
    return rows[count:], max(0, count - len(rows))
