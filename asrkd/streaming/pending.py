"""Features that are computed on the device that trains: a reader sends samples, and what is left of each utterance's random numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.augment import FeatureTransform, TimeWarp
from asrkd.corpus.front_end import FrontEnd

# What 16-bit samples are multiplied by, to be within -1..1.
INT16 = 1.0 / 32768.0


@dataclass(frozen=True)
class FeatureChanges:
    """The augmentation of features, in order: time warp, transforms, and the two views."""

    time_warp: TimeWarp | None
    transforms: Sequence[FeatureTransform]
    views: Sequence[FeatureTransform]
    stack: int

    def __call__(
        self, features: Tensor, rng: np.random.Generator, places: NDArray[np.float64] | None
    ) -> tuple[Tensor, Tensor | None]:
        """(T, F) changed, and the second view; `places`: what the time warp has drawn."""
        if self.time_warp and places is not None:
            features = self.time_warp.features(features, places)
        features = self._through(self.transforms, features, rng)
        if not self.views:
            return features, None
        return self._through(self.views, features, rng), self._through(self.views, features, rng)

    def _through(self, transforms: Sequence[FeatureTransform], features: Tensor, rng: np.random.Generator) -> Tensor:
        for transform in transforms:
            features = transform(features, rng, stack=self.stack)
        return features


@dataclass(frozen=True)
class PendingSamples:
    """Of one utterance, in place of features: (num_samples,) int16 or float32 samples, augmented; its generator, None without augmentation; places
    of the time warp."""

    samples: NDArray[np.int16] | NDArray[np.float32]
    rng: np.random.Generator | None = None
    places: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class PendingFeatures:
    """Of a batch, in place of features.

    Attributes:
        samples: (sum of `num_samples`,) int16 or float32, one utterance after another.
        utterances: their generators and places; their samples are in `samples`.
    """

    samples: Tensor
    num_samples: Sequence[int]
    utterances: Sequence[PendingSamples]
    front_end: FrontEnd
    changes: FeatureChanges

    @classmethod
    def join(
        cls, utterances: Sequence[PendingSamples], front_end: FrontEnd, changes: FeatureChanges
    ) -> PendingFeatures:
        """Those of a batch's utterances; as 16-bit values where all have them, which is half as much to send."""
        parts = [one.samples for one in utterances]
        if len({part.dtype for part in parts}) > 1:
            parts = [part * np.float32(INT16) if part.dtype == np.int16 else part for part in parts]
        nothing = np.zeros(0, np.int16)
        return cls(
            torch.from_numpy(np.concatenate(parts)),
            [len(part) for part in parts],
            [replace(one, samples=nothing) for one in utterances],
            front_end,
            changes,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> PendingFeatures:
        """With `change` of its samples."""
        return replace(self, samples=change(self.samples))

    def features(self) -> list[tuple[Tensor, Tensor | None]]:
        """Of each utterance its features (T, F) and second view, on the samples' device; the same each time."""
        # What the caller computes in fewer bits is the model.
        with torch.no_grad(), torch.autocast(self.samples.device.type, enabled=False):
            samples = self.samples
            if samples.dtype == torch.int16:
                samples = samples.to(torch.float32) * INT16
            features = self.front_end.batch(samples.split(list(self.num_samples)))
            return [
                (one, None) if origin.rng is None else self.changes(one, copy.deepcopy(origin.rng), origin.places)
                for one, origin in zip(features, self.utterances, strict=True)
            ]
