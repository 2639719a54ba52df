from __future__ import annotations

import pytest

from asrkd.alignment.left_out import MOST_REASONS, LeftOut
from asrkd.errors import CorpusError


def test_all_are_counted_and_some_named() -> None:
    left_out = LeftOut()
    for unit in range(30, 0, -1):
        left_out.add({f"{unit:02d}-{n:03d}": f"reason {unit}" for n in range(100)})
    assert left_out.count == 3000 and len(left_out.reasons) == MOST_REASONS
    assert list(left_out.reasons) == sorted(left_out.reasons) and left_out.reasons["30-000"] == "reason 30"
    left_out.check(6000, 0.5)
    with pytest.raises(CorpusError, match=r"3000 of 5999 utterances .*'21-000'.* and others\); the first: reason 21"):
        left_out.check(5999, 0.5)
