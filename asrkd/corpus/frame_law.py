"""The frame law: how many frames a recording has, written once.

The teacher, the store, the student and `verify` all call `FrameLaw`; one frame off is an error with both
numbers, never a silent trim.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from asrkd.errors import ConfigError, MismatchError


@dataclass(frozen=True)
class FrameLaw:
    """Frames of a front end followed by a model, as a function of the number of samples.

    Windows of `window` samples every `shift` samples; then `stack` neighbors joined every `stride` windows, only
    where they fit whole (frame stacking with low frame rate); then the model's `subsampling_factor`, rounding up.
    By default a window must fit whole (Kaldi's `snip-edges=true`). A front end whose windows reach over the edges
    says where the first one begins and how many samples it needs.

    All sizes are in samples or frames.

    Attributes:
        begin: first sample of the first window; negative where it reaches over the edge.
        needed: samples that there must be for the first window; each further one needs `shift` more. It is 0 or less where even an empty signal has
            padding enough. None: `window`.
    """

    window: int
    shift: int
    stack: int = 1
    stride: int = 1
    subsampling_factor: int = 1
    begin: int = 0
    needed: int | None = None

    def __post_init__(self) -> None:
        for name in ("window", "shift", "stack", "stride", "subsampling_factor"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"frame law: {name} is {value}, but must be at least 1")

    @property
    def frame_shift(self) -> int:
        """Samples from one output frame to the next."""
        return self.shift * self.stride * self.subsampling_factor

    @property
    def cell(self) -> tuple[int, int]:
        """The samples that the first frame covers, as (begin, length) in half samples; the next frame's cell begins where it ends.

        A window's cell is `shift` samples around its middle. That of a frame begins with its first window's, or, where stacks overlap, so that it has their middle.
        """
        begin = 2 * self.begin + self.window - self.shift + max(self.stack - self.stride, 0) * self.shift
        return begin, 2 * self.frame_shift

    def lengths_of(self, num_frames: int) -> tuple[int, int]:
        """The least and the most samples that make `num_frames` frames."""
        above = range(
            max(self.needed or 0, self.window) + self.shift * self.stack + (num_frames + 1) * self.frame_shift + 1
        )
        least, end = (bisect_left(above, count, key=self.num_frames) for count in (num_frames, num_frames + 1))
        return least, end - 1

    def num_features(self, num_samples: int) -> int:
        """Frames of the front end (after stacking) for `num_samples` samples."""
        return self.num_stacked(self.num_windows(num_samples))

    def num_windows(self, num_samples: int) -> int:
        """Windows of `num_samples` samples."""
        needed = self.window if self.needed is None else self.needed
        return 0 if num_samples < max(needed, 1) else 1 + (num_samples - needed) // self.shift

    def num_stacked(self, num_windows: int) -> int:
        """Joined frames that `num_windows` windows make."""
        return 0 if num_windows < self.stack else 1 + (num_windows - self.stack) // self.stride

    def num_frames(self, num_samples: int) -> int:
        """Frames of the model's output for `num_samples` samples."""
        return -(-self.num_features(num_samples) // self.subsampling_factor)

    def check(self, num_samples: int, num_frames: int, *, what: str) -> None:
        """Raise `MismatchError` unless `num_frames` is what the law gives for `num_samples`."""
        expected = self.num_frames(num_samples)
        if num_frames != expected:
            raise MismatchError(
                f"{what} has {num_frames} frames, but {num_samples} samples make {expected} frames by the frame "
                f"law {self}; targets and features would be shifted against each other. Use the front end and "
                "subsampling factor that the data was made with"
            )
