"""The few operations by which stored targets are unpacked, of numpy on a CPU and of torch on other devices.

So the unpacking (`asrkd.targets.packing`) and the meaning of codes (`asrkd.targets.codecs`) are written once. On a CPU numpy is faster
than torch: several times for a single utterance, whose cost is that of the calls, and in sorting (tools/benchmarks/unpacking.py).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# An array of numpy or a tensor. Both index, compare and calculate with the same operators.
Array = Any


class Arrays(Protocol):
    """Of one kind of array."""

    def given(self, tensor: Tensor) -> Array:
        """A tensor as an array of this kind, without a copy."""

    def tensor(self, array: Array) -> Tensor:
        """The inverse of `given`."""

    def constant(self, values: np.ndarray, like: Array) -> Array:
        """A table on the device of `like`."""

    def arange(self, stop: int, like: Array) -> Array:
        """(stop,) int64 0, 1, ... on the device of `like`."""

    def tile(self, stop: int, times: int, like: Array) -> Array:
        """(stop * times,) int64 0, 1, ..., again and again, on the device of `like`."""

    def zeros(self, size: int, like: Array) -> Array:
        """(size,) float32 on the device of `like`."""

    def floats(self, values: Array) -> Array:
        """As float32."""

    def integers(self, planes: Any) -> Array:
        """Little-endian integers from their planes of bytes, at most four."""

    def bits(self, data: Array) -> Array:
        """(8 n,) bool: the bits of bytes, the lowest first."""

    def cumsum(self, values: Array) -> Array:
        """Running sums, int64."""

    def splits(self, counts: Array) -> Array:
        """(n + 1,) int64: 0, then running sums."""

    def repeat(self, values: Array, counts: Array, total: int) -> Array:
        """Each value as often as its count says; `total` is the sum of the counts."""

    def nonzero(self, mask: Array) -> Array:
        """Where a mask is true."""

    def bincount(self, values: Array, size: int) -> Array:
        """(size,) how often each of 0, 1, ... occurs; larger values are left out."""

    def searchsorted(self, values: Array, wanted: Array) -> Array:
        """How many of the ascending values are below each that is wanted."""

    def sort(self, values: Array) -> Array:
        """Ascending."""

    def ends(self, source: Array, longest: int) -> Array:
        """Follow each entry's source to the end, which is its own source and at most `longest` - 1 steps away."""


class _Numpy:
    def given(self, tensor: Tensor) -> Array:
        return tensor.numpy()

    def tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(array)

    def constant(self, values: np.ndarray, like: Array) -> Array:
        return values

    def arange(self, stop: int, like: Array) -> Array:
        return np.arange(stop)

    def tile(self, stop: int, times: int, like: Array) -> Array:
        return np.tile(np.arange(stop), times)

    def zeros(self, size: int, like: Array) -> Array:
        return np.zeros(size, dtype=np.float32)

    def floats(self, values: Array) -> Array:
        return values.astype(np.float32)

    def integers(self, planes: Any) -> Array:
        if len(planes) == 1:
            return planes[0].astype(np.int32)
        joined = np.zeros((len(planes[0]), 4), dtype=np.uint8)
        for number, plane in enumerate(planes):
            joined[:, number] = plane
        return joined.view("<i4")[:, 0]

    def bits(self, data: Array) -> Array:
        return np.unpackbits(data, bitorder="little").view(bool)

    def cumsum(self, values: Array) -> Array:
        return values.cumsum(dtype=np.int64)

    def splits(self, counts: Array) -> Array:
        splits = np.zeros(len(counts) + 1, dtype=np.int64)
        splits[1:] = counts
        return np.add.accumulate(splits, out=splits)

    def repeat(self, values: Array, counts: Array, total: int) -> Array:
        return values.repeat(counts)

    def nonzero(self, mask: Array) -> Array:
        return mask.nonzero()[0]

    def bincount(self, values: Array, size: int) -> Array:
        return np.bincount(values, minlength=size)[:size]

    def searchsorted(self, values: Array, wanted: Array) -> Array:
        return values.searchsorted(wanted)

    def sort(self, values: Array) -> Array:
        values.sort()
        return values

    def ends(self, source: Array, longest: int) -> Array:
        # Chains are far shorter than utterances, and looking costs little.
        while True:
            further = source[source]
            if (further == source).all():
                return source
            source = further


class _Torch:
    def given(self, tensor: Tensor) -> Array:
        return tensor

    def tensor(self, array: Array) -> Tensor:
        found: Tensor = array
        return found

    def constant(self, values: np.ndarray, like: Array) -> Array:
        return torch.from_numpy(values).to(like.device)

    def arange(self, stop: int, like: Array) -> Array:
        return torch.arange(stop, device=like.device)

    def tile(self, stop: int, times: int, like: Array) -> Array:
        return torch.arange(stop, device=like.device).repeat(times)

    def zeros(self, size: int, like: Array) -> Array:
        return torch.zeros(size, device=like.device)

    def floats(self, values: Array) -> Array:
        return values.float()

    def integers(self, planes: Any) -> Array:
        values = planes[0].to(torch.int64)
        for number, plane in enumerate(planes[1:], 1):
            values = values + (plane.to(torch.int64) << (8 * number))
        return values

    def bits(self, data: Array) -> Array:
        return ((data[:, None] >> torch.arange(8, dtype=torch.uint8, device=data.device)) & 1).view(-1).bool()

    def cumsum(self, values: Array) -> Array:
        return values.cumsum(0)

    def splits(self, counts: Array) -> Array:
        return torch.cat([counts.new_zeros(1, dtype=torch.int64), counts.cumsum(0)])

    def repeat(self, values: Array, counts: Array, total: int) -> Array:
        return values.repeat_interleave(counts, output_size=total)

    def nonzero(self, mask: Array) -> Array:
        return mask.nonzero()[:, 0]

    def bincount(self, values: Array, size: int) -> Array:
        return values.bincount(minlength=size)[:size]

    def searchsorted(self, values: Array, wanted: Array) -> Array:
        return torch.searchsorted(values, wanted)

    def sort(self, values: Array) -> Array:
        return values.sort().values

    def ends(self, source: Array, longest: int) -> Array:
        # Each round doubles the distance; looking would wait for the device.
        for _ in range(max(longest - 1, 0).bit_length()):
            source = source[source]
        return source


NUMPY: Arrays = _Numpy()
TORCH: Arrays = _Torch()


def arrays_for(tensor: Tensor) -> Arrays:
    """Those of the device that a tensor is on."""
    return NUMPY if tensor.device.type == "cpu" else TORCH
