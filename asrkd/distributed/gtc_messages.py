"""Messages of compressed gradients as bytes: of few places a word each, of many a bit for every place that there is.

- Words: 32 bits for each place that is sent: a sign, a count of thresholds, the place (Ström 2015 has a sign and the place).
- Planes: a bit for every place, whether it is sent; then for those that are, a sign each and the count in Elias' gamma code (Elias 1975, "Universal
  codeword sets"), bit by bit over all of them: whether a count continues after bit e, and if so its bit e. A count of 1 takes one bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asrkd.errors import ConfigError

# Of a word; the other 31 bits are a count and a place.
_SIGN = 1 << 31


def place_bits(size: int) -> int:
    """Bits that a place among `size` takes in a word.

    Raises:
        ConfigError: more than leave room for a count.
    """
    bits = max((size - 1).bit_length(), 1)
    if bits > 30:
        raise ConfigError(f"a bucket of {size} gradients is too large for 32-bit messages; lower DDP's bucket_cap_mb")
    return bits


def largest_count(size: int) -> int:
    """The largest count that a word has room for, next to a place among `size`."""
    return (1 << (31 - place_bits(size))) - 1


def pack_shortest(places: Tensor, counts: Tensor, size: int, *, planes: bool = True) -> tuple[Tensor, bool]:
    """The messages as bytes, and whether they are planes: where these are shorter, if they may be taken. Arguments as in `pack_planes`."""
    # Planes take at least a bit for every place and two for each that is sent.
    if planes and size + 2 * len(places) < 32 * len(places):
        content = pack_planes(places, counts, size)
        if len(content) < 4 * len(places):
            return content, True
    return pack_words(places, counts, size), False


def unpack_messages(content: Tensor, size: int, *, planes: bool) -> tuple[Tensor, Tensor]:
    """Places and counts (K,) int64, as `pack_shortest` had them."""
    return (unpack_planes if planes else unpack_words)(content, size)


def pack_words(places: Tensor, counts: Tensor, size: int) -> Tensor:
    """(4 K,) uint8 from places (K,) below `size` and counts (K,) int64 that are not 0 and at most `largest_count(size)`."""
    # The sign bit of an int32 stands for -2^31.
    words = (counts.abs() << place_bits(size)) + places - _SIGN * (counts < 0)
    return words.to(torch.int32).view(torch.uint8)


def unpack_words(content: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places and counts (K,) int64, as `pack_words` had them."""
    words, bits = content.contiguous().view(torch.int32).long(), place_bits(size)
    value = words + _SIGN * (words < 0)
    return value & ((1 << bits) - 1), (value >> bits) * torch.where(words < 0, -1, 1)


def pack_planes(places: Tensor, counts: Tensor, size: int) -> Tensor:
    """uint8 from places (K,), ascending, below `size`, and counts (K,) int64 that are not 0."""
    sent = torch.zeros(size, dtype=torch.bool, device=places.device)
    sent[places] = True
    planes, left, bit = [sent, counts < 0], counts.abs(), 0
    while len(left):
        goes_on = left >> bit > 1
        left = left[goes_on]
        planes += [goes_on, (left >> bit & 1).bool()]
        bit += 1
    return _to_bytes(torch.cat(planes))


def unpack_planes(content: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places and counts (K,) int64, as `pack_planes` had them."""
    bits, start = _to_bits(content), 0

    def read(length: int) -> Tensor:
        nonlocal start
        start += length
        return bits[start - length : start]

    places = read(size).nonzero()[:, 0]
    negative = read(len(places))
    counts, left, bit = torch.zeros_like(places), torch.arange(len(places), device=places.device), 0
    while len(left):
        goes_on = read(len(left))
        counts[left[~goes_on]] += 1 << bit
        left = left[goes_on]
        counts[left] += read(len(left)).long() << bit
        bit += 1
    return places, torch.where(negative, -counts, counts)


# torch has no packbits, and gradients stay on their device.
def _powers(device: torch.device) -> Tensor:
    return torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)


def _to_bytes(bits: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -len(bits) % 8))
    return (padded.view(-1, 8) * _powers(bits.device)).sum(dim=1, dtype=torch.uint8)


def _to_bits(content: Tensor) -> Tensor:
    return (content[:, None] & _powers(content.device)).bool().view(-1)
