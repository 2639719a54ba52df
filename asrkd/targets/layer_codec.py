"""How the output of a teacher's layer is stored: as numbers, or as indexes into codebooks.

- `float16:D`: D numbers of 16 bits a frame.
- `codebooks:C:K`: the D dimensions are cut into C parts, and of each part the nearest of K centers is stored in one byte (product
  quantization, Jégou et al. 2011; multi-codebook indexes as targets: Guo et al. 2022). C bytes a frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import ConfigError, StoreError


@dataclass(frozen=True)
class LayerCodec:
    """
    Attributes:
        kind: `float16` or `codebooks`.
        width: values of a frame: D, or C.
        entries: K of each codebook, at most 256; 0 for numbers.
    """

    kind: str
    width: int
    entries: int = 0

    @property
    def spec(self) -> str:
        """The name by which `parse_layer_codec` makes an equal codec."""
        return f"{self.kind}:{self.width}" + (f":{self.entries}" if self.entries else "")

    def encode(self, frames: Tensor, codebooks: Tensor | None = None) -> bytes:
        """(T, D) a layer's output, on any device -> bytes.

        Args:
            codebooks: (C, K, D / C) centers, for `codebooks`.
        """
        if self.kind == "float16":
            largest = torch.finfo(torch.float16).max
            return frames.float().clamp(-largest, largest).to(torch.float16).cpu().numpy().astype("<f2").tobytes()
        if codebooks is None:
            raise ConfigError(f"layer codec {self.spec!r} was given no codebooks")
        return nearest_centers(frames, codebooks).to(torch.uint8).cpu().numpy().tobytes()

    def decode(self, data: bytes, num_frames: int) -> NDArray[np.float32] | NDArray[np.int64]:
        """(T, D) float32 numbers, or (T, C) int64 indexes.

        Raises:
            StoreError: the bytes are not those of so many frames, or an index is outside its codebook.
        """
        kind = np.dtype("<f2") if self.kind == "float16" else np.dtype(np.uint8)
        if len(data) != num_frames * self.width * kind.itemsize:
            raise StoreError(
                f"column 'layer' has {len(data)} bytes, but {num_frames} frames of {self.spec!r} have {num_frames * self.width * kind.itemsize}; "
                "the shard is damaged"
            )
        values = np.frombuffer(data, kind).reshape(num_frames, self.width)
        if self.kind == "float16":
            return values.astype(np.float32)
        if len(values) and int(values.max()) >= self.entries:
            raise StoreError(
                f"column 'layer' has index {int(values.max())} of a codebook of {self.entries}; the shard is damaged"
            )
        return values.astype(np.int64)


def parse_layer_codec(spec: str) -> LayerCodec:
    """The codec that a spec names.

    Raises:
        ConfigError: the spec is of no known form.
    """
    kind, *numbers = spec.split(":")
    try:
        values = [int(number) for number in numbers]
    except ValueError:
        values = []
    if kind == "float16" and len(values) == 1 and values[0] > 0:
        return LayerCodec(kind, values[0])
    if kind == "codebooks" and len(values) == 2 and values[0] > 0 and 2 <= values[1] <= 256:
        return LayerCodec(kind, *values)
    raise ConfigError(f"layer codec {spec!r} is not known; it is float16:D, or codebooks:C:K with K from 2 to 256")


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
