"""Unpacks joined columns of bytes with torch, on the device that they are on: `packing.unpack` for a GPU, step by step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from asrkd.errors import StoreError
from asrkd.targets.packing import CARRIED, CODES, COUNTS, IDS, ByteLayout


def unpack_on_device(
    columns: Mapping[str, Tensor], lengths: Tensor, layout: ByteLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (M,), ids (E,) and codes (E,), int64, by ascending id within a frame.

    Args:
        columns: joined.
        lengths: (U,) frames of each utterance.

    Raises:
        StoreError: the columns contradict each other.
    """
    device = lengths.device
    width = layout.count_type.itemsize
    counts = _integers([columns[COUNTS][number::width] for number in range(width)])
    frames, entries = len(counts), int(counts.sum())
    frame = torch.arange(frames, device=device).repeat_interleave(counts, output_size=entries)
    source = _carried(columns[CARRIED], counts, lengths)
    carried = torch.bincount(frame[source] + 1, minlength=frames)[:frames]
    new = counts - carried
    if bool((new < 0).any()):
        number = int(torch.nonzero(new < 0)[0])
        raise StoreError(
            f"frame {number} has {int(counts[number])} entries, but {int(carried[number])} are carried into it; the shard is damaged"
        )
    # Carried entries come first in their frame, in the order of their sources.
    kinds = torch.tensor([False, True], device=device).repeat(frames)
    is_new = kinds.repeat_interleave(torch.stack([carried, new], 1).view(-1), output_size=entries)
    origin = torch.arange(entries, device=device)
    origin[~is_new] = source
    ids = torch.zeros(entries, dtype=torch.int64, device=device)
    ids[is_new] = _sums(_planes(columns, IDS, layout.id_bytes), new)
    longest = int(lengths.max()) if len(lengths) else 0
    # Each round doubles the distance back to the frame in which a class came up.
    for _ in range(max(longest - 1, 0).bit_length()):
        origin = origin[origin]
    ids = ids[origin]
    if entries and int(ids.max()) >= layout.num_classes:
        raise StoreError(
            f"stored class id {int(ids.max())} is outside the {layout.num_classes} classes; the shard is damaged"
        )
    keys, order = torch.sort(frame * layout.num_classes + ids, stable=True)
    if bool((keys[1:] == keys[:-1]).any()):
        raise StoreError("a class stands twice in a frame; the shard is damaged")
    return counts, ids[order], _planes(columns, CODES, layout.code_bytes)[order]


def _carried(data: Tensor, counts: Tensor, lengths: Tensor) -> Tensor:
    """The entries, among those of all utterances, whose class the next frame has too."""
    ends = lengths.cumsum(0)
    cumulated = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    starts = cumulated[ends - lengths]
    # Entries with a bit are those of all frames but an utterance's last; each utterance begins with a byte of its own.
    sizes = (cumulated[torch.maximum(ends - 1, ends - lengths)] - starts + 7) // 8
    bits = (data[:, None] >> torch.arange(8, dtype=torch.uint8, device=data.device)) & 1
    places = torch.nonzero(bits.view(-1))[:, 0]
    ends_of_bits = 8 * sizes.cumsum(0)
    ones = torch.searchsorted(places, ends_of_bits).diff(prepend=ends_of_bits.new_zeros(1))
    shift = starts - (ends_of_bits - 8 * sizes)
    return places + shift.repeat_interleave(ones, output_size=len(places))


def _sums(steps: Tensor, counts: Tensor) -> Tensor:
    """Class ids from steps: one running sum, from which each frame takes off what the frames before have summed."""
    sums = torch.cumsum(steps + 1, 0)
    before = torch.cat([sums.new_zeros(1), sums])[torch.cumsum(counts, 0) - counts]
    return sums - 1 - before.repeat_interleave(counts, output_size=len(steps))


def _planes(columns: Mapping[str, Tensor], name: str, count: int) -> Tensor:
    return _integers([columns[f"{name}_{number}"] for number in range(count)])


def _integers(planes: list[Tensor]) -> Tensor:
    """Little-endian integers from their planes of bytes."""
    values = planes[0].to(torch.int64)
    for number, plane in enumerate(planes[1:], 1):
        values = values + (plane.to(torch.int64) << (8 * number))
    return values
