"""Messages of compressed gradients: what is packed comes back, and takes the bits that it should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from asrkd.distributed.gtc_messages import (
    largest_count,
    pack_planes,
    pack_shortest,
    pack_words,
    place_bits,
    unpack_messages,
    unpack_planes,
    unpack_words,
)
from asrkd.errors import ConfigError


def gamma(number: int) -> str:
    """Elias' gamma code: a 1 for each bit but the leading one, a 0, and these bits."""
    return "1" * (number.bit_length() - 1) + "0" + f"{number:b}"[1:]


@st.composite
def messages(draw: st.DrawFn, most_places: int) -> tuple[Tensor, Tensor, int]:
    """Places, ascending, their counts, and how many places there are."""
    size = draw(st.integers(1, most_places) | st.just(most_places))
    most = largest_count(size)
    places = sorted(draw(st.sets(st.integers(0, size - 1) | st.just(size - 1), max_size=50)))
    one = st.builds(lambda number, sign: number * sign, st.integers(1, most) | st.just(most), st.sampled_from([-1, 1]))
    counts = draw(st.lists(one, min_size=len(places), max_size=len(places)))
    return torch.tensor(places, dtype=torch.int64), torch.tensor(counts, dtype=torch.int64), size


@pytest.mark.slow
@given(messages(1 << 30))
def test_words_of_32_bits_hold_every_place_count_and_sign(given_: tuple[Tensor, Tensor, int]) -> None:
    places, counts, size = given_
    content = pack_words(places, counts, size)
    assert content.dtype == torch.uint8 and len(content) == 4 * len(places)
    found = unpack_words(content, size)
    assert torch.equal(found[0], places) and torch.equal(found[1], counts)


@pytest.mark.slow
@given(messages(200))
def test_planes_hold_the_same_in_as_many_bits_as_the_gamma_code(given_: tuple[Tensor, Tensor, int]) -> None:
    places, counts, size = given_
    content = pack_planes(places, counts, size)
    bits = size + sum(1 + len(gamma(abs(count))) for count in counts.tolist())
    assert content.dtype == torch.uint8 and len(content) == -(-bits // 8)
    # What follows is not read.
    found = unpack_planes(torch.cat([content, torch.full((3,), 255, dtype=torch.uint8)]), size)
    assert torch.equal(found[0], places) and torch.equal(found[1], counts)


def test_planes_bit_by_bit() -> None:
    # Sent 0110 0100, signs 010; the counts 1, 5, 2 continue after bit 0: 011, bits 1 0; after bit 1: 10, bit 0; after bit 2: 0.
    content = pack_planes(torch.tensor([1, 2, 5]), torch.tensor([1, -5, 2]), 8)
    assert [f"{byte:08b}" for byte in content.tolist()] == ["01100100", "01001110", "10000000"]


def test_few_places_are_sent_as_words_and_many_as_planes_which_are_shorter() -> None:
    size = 1000
    few, many = torch.tensor([7, 900]), torch.arange(0, size, 3)
    for places, planes, length in ((few, False, 8), (many, True, -(-(size + 2 * len(many)) // 8))):
        content, in_planes = pack_shortest(places, torch.ones_like(places), size)
        assert (in_planes, len(content)) == (planes, length)
        found = unpack_messages(content, size, planes=in_planes)
        assert torch.equal(found[0], places) and torch.equal(found[1], torch.ones_like(places))
    # Large counts take more bits in planes than in words.
    assert not pack_shortest(many, torch.full_like(many, 1 << 20), size)[1]
    assert not pack_shortest(many, torch.ones_like(many), size, planes=False)[1]


def test_a_bucket_without_room_for_a_count_is_refused() -> None:
    assert place_bits(1 << 30) == 30 and largest_count(1 << 30) == 1
    with pytest.raises(ConfigError, match="a bucket of 1073741825 gradients is too large"):
        place_bits((1 << 30) + 1)
