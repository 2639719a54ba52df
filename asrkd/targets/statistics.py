"""What an utterance's targets are worth: means over its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asrkd.targets.sparse import SparseTargets

# Posteriors (frames x classes) that are looked at together.
_BLOCK = 1 << 18
_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class FrameStatistics:
    """Of the teacher's whole distribution in each frame: entropy in nats, and the largest probability; both (M,) float32."""

    entropy: Tensor
    confidence: Tensor

    def cpu(self) -> FrameStatistics:
        """The same in the host's memory."""
        return FrameStatistics(self.entropy.cpu(), self.confidence.cpu())

    def split(self, lengths: Sequence[int]) -> list[FrameStatistics]:
        """Those of utterances that have these numbers of frames."""
        parts = zip(self.entropy.split(list(lengths)), self.confidence.split(list(lengths)), strict=True)
        return [FrameStatistics(*part) for part in parts]

    @classmethod
    def cat(cls, parts: Sequence[FrameStatistics]) -> FrameStatistics:
        """Those of all frames, one part after the other."""
        return cls(torch.cat([part.entropy for part in parts]), torch.cat([part.confidence for part in parts]))


@dataclass(frozen=True)
class UtteranceStatistics:
    """Means over the frames of one utterance (0 without frames).

    Attributes:
        kept_mass: probability kept by the codec.
        entropy: entropy of the teacher's whole distribution, in nats.
        confidence: probability of the most probable class.
    """

    kept_mass: float
    entropy: float
    confidence: float


def frame_statistics(log_probs: Tensor) -> FrameStatistics:
    """(M, V) natural-log posteriors, on any device -> statistics of each frame."""
    # Some frames at a time, so that (on a CPU) they stay in the cache.
    rows = max(1, _BLOCK // log_probs.shape[1]) if log_probs.device.type == "cpu" else max(1, len(log_probs))
    parts = []
    for block in log_probs.split(rows):
        # 0 times a finite number is 0, as p log p is in the limit.
        entropy = -block.exp().mul_(block.clamp_min(_LOWEST)).sum(dim=1)
        parts.append(FrameStatistics(entropy, block.max(dim=1).values.exp()))
    return FrameStatistics.cat(parts)


def utterance_statistics(frames: FrameStatistics, targets: SparseTargets) -> UtteranceStatistics:
    """Statistics of one utterance, from those of its frames and what was kept of them."""
    if not targets.num_frames:
        return UtteranceStatistics(0.0, 0.0, 0.0)
    return UtteranceStatistics(
        kept_mass=float(1 - targets.missing.numpy().mean(dtype=np.float64)),
        entropy=float(frames.entropy.mean()),
        confidence=float(frames.confidence.mean()),
    )
