"""Unpacks the stored columns of many utterances at a time with torch, on the device that they are on.

For a GPU that takes in frames faster than the readers' cores can unpack them: what travels to it is then the packed bytes, a fraction
of the unpacked ones. The arithmetic is that of `packing.unpack` and of the codecs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import ConfigError, StoreError
from asrkd.targets.codecs import Codec, Hybrid, Nucleus, Sampled, TopK, layout_of
from asrkd.targets.packing import CARRIED, CODES, COUNTS, IDS, Layout
from asrkd.targets.select import HEAD_GRID, LOG_STEP
from asrkd.targets.soft_targets import SparseBatch


@dataclass(frozen=True)
class PackedTargets:
    """Packed columns of U utterances, one utterance after another.

    Attributes:
        codec: that packed them.
        num_classes: V.
        num_frames: (U,) int64.
        columns: name -> (bytes,) uint8.
        carried_bytes: (U,) int64 bytes of each utterance in the column `target_carried`, the only one that is padded.
    """

    codec: Codec
    num_classes: int
    num_frames: Tensor
    columns: Mapping[str, Tensor]
    carried_bytes: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> PackedTargets:
        """With every tensor changed, e.g. moved to a device."""
        columns = {name: change(value) for name, value in self.columns.items()}
        return PackedTargets(self.codec, self.num_classes, change(self.num_frames), columns, change(self.carried_bytes))


def join(
    codec: Codec, rows: Sequence[Mapping[str, bytes | NDArray]], num_frames: Sequence[int], num_classes: int
) -> PackedTargets:
    """Packed columns of several utterances as tensors.

    Raises:
        ConfigError: the codec `dense`, which has nothing to unpack.
        StoreError: a column is missing or has another size than the others say.
    """
    layout = layout_of(codec, num_classes)
    for row, frames in zip(rows, num_frames, strict=True):
        _check(row, frames, layout)
    columns = {name: _tensor(b"".join(bytes(row[name]) for row in rows)) for name in layout.columns}
    carried = torch.tensor([len(row[CARRIED]) for row in rows], dtype=torch.int64)
    return PackedTargets(codec, num_classes, torch.tensor(num_frames, dtype=torch.int64), columns, carried)


def unpack(packed: PackedTargets) -> SparseBatch:
    """The soft targets, on the device of the columns.

    Raises:
        StoreError: the columns contradict each other.
    """
    layout = layout_of(packed.codec, packed.num_classes)
    device = packed.num_frames.device
    counts = _joined(packed.columns, [COUNTS], layout.count_type.itemsize)
    frames = len(counts)
    entries = int(counts.sum())
    frame = torch.repeat_interleave(torch.arange(frames, device=device), counts, output_size=entries)
    origin, is_new, new = _sources(packed, counts, frame)
    steps = _joined_planes(packed.columns, IDS, layout.id_bytes)
    ids = torch.zeros(entries, dtype=torch.int64, device=device)
    ids[is_new] = _sums(steps, new)
    longest = int(packed.num_frames.max()) if len(packed.num_frames) else 0
    # Each round doubles the distance back to the frame in which a class came up.
    for _ in range(max(longest - 1, 0).bit_length()):
        origin = origin[origin]
    ids = ids[origin]
    order = torch.argsort(frame * layout.num_classes + ids, stable=True)
    ids = ids[order]
    if entries and int(ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    codes = _joined_planes(packed.columns, CODES, layout.code_bytes)[order]
    log_probs, missing = _values(packed.codec, codes, counts, frame, layout)
    splits = torch.cat([torch.zeros(1, dtype=torch.int64, device=device), torch.cumsum(counts, 0)])
    return SparseBatch(splits, ids, log_probs.float(), missing.float())


def _sources(packed: PackedTargets, counts: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each entry's class comes from (itself: new), which are new (in stored order), and how many in each frame."""
    device, entries = counts.device, len(frame)
    ends = torch.cumsum(packed.num_frames, 0)
    last = torch.zeros(len(counts), dtype=torch.bool, device=device)
    last[ends[packed.num_frames > 0] - 1] = True
    # The bits are those of all frames but each utterance's last; bytes are not shared between utterances.
    known = torch.nonzero(~last[frame])[:, 0]
    utterance = torch.repeat_interleave(torch.arange(len(ends), device=device), packed.num_frames)[frame[known]]
    sizes = torch.bincount(utterance, minlength=len(ends))
    firsts = torch.cumsum(sizes, 0) - sizes
    places = 8 * (torch.cumsum(packed.carried_bytes, 0) - packed.carried_bytes) - firsts
    place = places[utterance] + torch.arange(len(known), device=device)
    bits = (packed.columns[CARRIED][place // 8].to(torch.int64) >> (place % 8)) & 1
    source = known[bits.bool()]
    carried = torch.bincount(frame[source] + 1, minlength=len(counts))[: len(counts)]
    new = counts - carried
    if bool((new < 0).any()):
        number = int(torch.nonzero(new < 0)[0])
        raise StoreError(
            f"frame {number} of a batch has {int(counts[number])} entries, but {int(carried[number])} are carried into it; the "
            "shard is damaged"
        )
    kinds = torch.tensor([False, True], device=device).repeat(len(counts))
    is_new = torch.repeat_interleave(kinds, torch.stack([carried, new], 1).reshape(-1), output_size=entries)
    origin = torch.arange(entries, device=device)
    origin[~is_new] = source
    return origin, is_new, new


def _sums(steps: Tensor, counts: Tensor) -> Tensor:
    """Class ids from steps: one running sum, from which each frame takes off what the frames before have summed."""
    sums = torch.cumsum(steps + 1, 0)
    before = torch.cat([sums.new_zeros(1), sums])[torch.cumsum(counts, 0) - counts]
    return sums - 1 - torch.repeat_interleave(before, counts, output_size=len(steps))


def _values(codec: Codec, codes: Tensor, counts: Tensor, frame: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the entries, and the mass that is missing in each frame."""
    frames = len(counts)
    if isinstance(codec, (TopK, Nucleus)):
        log_probs = codes.float() * -LOG_STEP
        kept = torch.zeros(frames, dtype=torch.float64, device=codes.device).index_add_(
            0, frame, log_probs.double().exp()
        )
        return log_probs, torch.where(counts < layout.num_classes, (1.0 - kept).clamp(0.0, 1.0), 0.0)
    nothing = torch.zeros(frames, device=codes.device)
    units = codes.double() + 1
    if isinstance(codec, Sampled):
        return torch.log(units / codec.draws), nothing
    if not isinstance(codec, Hybrid):
        raise ConfigError(f"codec {codec.spec!r} has nothing to unpack on a device")
    tail = codes < codec.draws
    share = torch.where(tail, units / codec.draws, (units - codec.draws) / HEAD_GRID)
    left = 1.0 - torch.zeros(frames, dtype=torch.float64, device=codes.device).index_add_(0, frame, share * tail)
    head = torch.log(left.clamp_min(0.5 / codec.draws))[frame]
    return torch.log(share) + torch.where(tail, 0.0, head), nothing


def _joined_planes(columns: Mapping[str, Tensor], name: str, count: int) -> Tensor:
    values = columns[f"{name}_0"].to(torch.int64)
    for number in range(1, count):
        values = values + (columns[f"{name}_{number}"].to(torch.int64) << (8 * number))
    return values


def _joined(columns: Mapping[str, Tensor], names: Sequence[str], width: int) -> Tensor:
    """Little-endian integers of `width` bytes."""
    planes = columns[names[0]].view(-1, width).to(torch.int64)
    return sum((planes[:, number] << (8 * number) for number in range(width)), torch.zeros_like(planes[:, 0]))


def _check(row: Mapping[str, bytes | NDArray], num_frames: int, layout: Layout) -> None:
    """Sizes of the columns, so that a damaged row cannot shift those behind it."""
    missing = [name for name in layout.columns if name not in row or row[name] is None]
    if missing:
        raise StoreError(f"column {missing[0]!r} is not among {', '.join(row)}; the shard is of another codec")
    sizes = {name: len(row[name]) for name in layout.columns}
    counts = np.zeros(0, layout.count_type)
    if sizes[COUNTS] % layout.count_type.itemsize == 0:
        counts = np.frombuffer(bytes(row[COUNTS]), layout.count_type)
    entries = int(counts.sum())
    known = entries - (int(counts[-1]) if len(counts) else 0)
    bits = np.unpackbits(np.frombuffer(bytes(row[CARRIED]), np.uint8), bitorder="little")[:known]
    carried = int(bits.sum())
    expected = {COUNTS: num_frames * layout.count_type.itemsize, CARRIED: math.ceil(known / 8)}
    for name in layout.columns:
        belong = expected.get(name, entries - carried if name.startswith(IDS) else entries)
        if sizes[name] != belong:
            raise StoreError(f"column {name!r} has {sizes[name]} bytes where {belong} belong; the shard is damaged")


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), np.uint8)) if data else torch.zeros(0, dtype=torch.uint8)
