from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.inventory import Inventory, inventory_bytes, read_inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.topology import BLANK, SILENCE
from asrkd.errors import ConfigError, CorpusError

LEXICON = Lexicon.from_pairs([("yes", ["Y", "EH", "S"]), ("so", ["S", "OW"]), ("hm", ["SIL"])])


def test_ctc_is_the_blank_and_the_phones() -> None:
    inventory = Inventory.from_lexicon(LEXICON, "ctc")
    assert inventory.units == (BLANK, "EH", "OW", "S", "SIL", "Y")
    assert inventory.ids(["Y", "EH", "S"]) == [5, 1, 3]
    assert len(inventory) == 6 and inventory.states_per_phone == 1


@pytest.mark.parametrize("states", [1, 2, 3])
def test_hmm_is_silence_and_the_states_left_to_right(states: int) -> None:
    inventory = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=states)
    phones = ["EH", "OW", "S", "Y"]
    assert inventory.units == (SILENCE, *(f"{phone}_{state}" for phone in phones for state in range(states)))
    expected = [0]
    for phone in ("S", "OW"):
        first = 1 + phones.index(phone) * states
        expected += range(first, first + states)
    assert inventory.ids([SILENCE, "S", "OW"]) == expected


def test_an_unknown_phone_is_refused() -> None:
    for topology in ("ctc", "hmm"):
        inventory = Inventory.from_lexicon(LEXICON, topology)
        with pytest.raises(CorpusError, match=f"'ZH' is not in the inventory of {len(inventory)} units .{topology}"):
            inventory.ids(["S", "ZH"])


@pytest.mark.parametrize(
    ("units", "topology", "states", "message"),
    [
        (("a", "b"), "rnnt", 1, "'rnnt'.*hmm, ctc"),
        (("a", "b", "a"), "ctc", 1, "'a' occurs twice"),
        (("a",), "ctc", 1, r"at least two units.*\['a'\]"),
        ((), "ctc", 1, "at least two units"),
        (("a", "b"), "hmm", 0, "states_per_phone is 0"),
        (("a", "b\nc"), "ctc", 1, r"'b\\nc'.*line break"),
        (("a", ""), "ctc", 1, "'' is empty"),
    ],
)
def test_what_is_no_inventory_is_refused(units: tuple[str, ...], topology: str, states: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Inventory(units, topology, states)


def test_states_below_one_are_refused_before_units_are_made() -> None:
    with pytest.raises(ConfigError, match="states_per_phone is 0"):
        Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=0)


def test_the_fingerprint_tells_order_topology_and_states_apart() -> None:
    made = [
        Inventory(("a", "b"), "ctc"),
        Inventory(("b", "a"), "ctc"),
        Inventory(("a", "b"), "hmm"),
        Inventory(("a", "b"), "hmm", 2),
        Inventory(("a", "b", "c"), "ctc"),
    ]
    assert len({one.fingerprint for one in made}) == len(made)
    asked = Inventory(("a", "b"), "ctc")
    asked.ids(["a"])
    assert asked == made[0] and asked.fingerprint == made[0].fingerprint


def test_it_is_written_a_unit_a_line(tmp_path: Path) -> None:
    inventory = Inventory((BLANK, "é", "▁a"), "ctc")
    inventory.write(tmp_path / "inventory.txt")
    assert (tmp_path / "inventory.txt").read_bytes() == "<blk>\né\n▁a\n".encode()


@given(st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=6, unique=True))
def test_any_units_are_read_as_they_were_written_or_refused(units: list[str]) -> None:
    try:
        inventory = Inventory(tuple(units), "ctc")
    except ConfigError:
        assert units[0].startswith("\ufeff") or any(re.search("\n|\r$|[\ud800-\udfff]", unit) for unit in units)
        return
    assert read_inventory(inventory_bytes(inventory.units)) == units
