"""How the output of a teacher's layer is stored: as numbers, or as indexes into codebooks.

- `float16:D`: D 16-bit numbers a frame.
- `codebooks:C:K`: the D dimensions are cut into C parts, and of each part the nearest of K centers is stored in one byte (product
  quantization, Jégou et al. 2011; multi-codebook indexes as targets: Guo et al. 2022). C bytes a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import ConfigError
from asrkd.targets.layouts import Vectors
from asrkd.targets.streams import HIDDEN, Codec


class HiddenCodec(Codec, Protocol):
    """Stores a vector for every frame.

    Attributes:
        width: items of a stored vector: D, or C.
        entries: K of each codebook; 0 for numbers.
    """

    @property
    def width(self) -> int: ...

    @property
    def entries(self) -> int: ...

    def encode(self, frames: Tensor, codebooks: Tensor | None = None) -> bytes:
        """(T, D) a layer's output, on any device -> bytes.

        Args:
            codebooks: (C, K, D / C) centers, for codecs with `entries`.
        """

    def layout(self, num_classes: int) -> Vectors:
        """A column of bytes."""


@dataclass(frozen=True)
class Float16:
    """D 16-bit numbers a frame."""

    width: int
    stream: ClassVar[str] = HIDDEN
    form: ClassVar[str] = "float16:D"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    by_frame: ClassVar[bool] = True
    entries: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"D of {self.form!r} is {self.width}, but must be at least 1")

    @property
    def spec(self) -> str:
        return f"float16:{self.width}"

    def encode(self, frames: Tensor, codebooks: Tensor | None = None) -> bytes:
        largest = torch.finfo(torch.float16).max
        return frames.float().clamp(-largest, largest).to(torch.float16).cpu().numpy().astype("<f2").tobytes()

    def layout(self, num_classes: int) -> Vectors:
        return Vectors(self.width, np.dtype("<f2"), 0, self.spec)


@dataclass(frozen=True)
class Codebooks:
    """C indexes into codebooks of K entries a frame, a byte each."""

    width: int
    entries: int
    stream: ClassVar[str] = HIDDEN
    form: ClassVar[str] = "codebooks:C:K"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int, int)
    by_frame: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.width < 1 or not 2 <= self.entries <= 256:
            raise ConfigError(f"codec {self.spec!r} is {self.form}, but C must be at least 1, and K from 2 to 256")

    @property
    def spec(self) -> str:
        return f"codebooks:{self.width}:{self.entries}"

    def encode(self, frames: Tensor, codebooks: Tensor | None = None) -> bytes:
        if codebooks is None:
            raise ConfigError(f"codec {self.spec!r} was given no codebooks")
        return nearest_centers(frames, codebooks).to(torch.uint8).cpu().numpy().tobytes()

    def layout(self, num_classes: int) -> Vectors:
        return Vectors(self.width, np.dtype(np.uint8), self.entries, self.spec)


def nearest_centers(frames: Tensor, codebooks: Tensor) -> Tensor:
    """(T, C) int64: of each part of a frame's dimensions the nearest center, the first of equally near ones.

    Args:
        frames: (T, D).
        codebooks: (C, K, D / C).

    Raises:
        ConfigError: the dimensions are not those of the codebooks.
    """
    count, _, size = codebooks.shape
    if frames.shape[1] != count * size:
        raise ConfigError(
            f"the layer has {frames.shape[1]} dimensions, the codebooks are of {count} x {size}; fit them to this layer of this teacher"
        )
    parts = frames.float().view(len(frames), count, size).transpose(0, 1)
    centers = codebooks.to(parts)
    # Of the squared distance what depends on the center.
    distances = centers.square().sum(dim=2)[:, None] - 2 * parts @ centers.transpose(1, 2)
    return distances.argmin(dim=2).T


def fit_codebooks(frames: Tensor, count: int, entries: int, *, seed: int = 0, iterations: int = 25) -> Tensor:
    """(C, K, D / C) float32 centers by k-means (Lloyd 1982) on each part of the dimensions.

    A center that no frame is nearest to is moved to a random frame.

    Args:
        frames: (M, D), at least K of them.

    Raises:
        ConfigError: C does not divide D, K is not 2 to 256, or there are fewer frames than K.
    """
    total, dim = frames.shape
    if count < 1 or dim % count or not 2 <= entries <= 256 or total < entries:
        raise ConfigError(
            f"{count} codebooks of {entries} entries cannot be fitted to {total} frames of {dim} dimensions: the number of codebooks must divide "
            "the dimensions, entries are 2 to 256, and at most as many as frames"
        )
    generator = torch.Generator().manual_seed(seed)
    parts = frames.float().view(total, count, dim // count).transpose(0, 1).contiguous()
    centers = torch.stack([part[torch.randperm(total, generator=generator)[:entries]] for part in parts])
    for _ in range(iterations):
        near = nearest_centers(frames, centers)
        for book, part in enumerate(parts):
            sums = torch.zeros_like(centers[book]).index_add_(0, near[:, book], part)
            sizes = torch.bincount(near[:, book], minlength=entries)
            empty = sizes == 0
            centers[book] = sums / sizes.clamp(min=1)[:, None]
            centers[book][empty] = part[torch.randint(0, total, (int(empty.sum()),), generator=generator)]
    return centers
