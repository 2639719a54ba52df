"""The edit distance as a plain loop, against which counted errors are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def levenshtein(reference: Sequence[Any], hypothesis: Sequence[Any]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        previous, row[0] = row[0], i
        for j, h in enumerate(hypothesis, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (r != h))
    return row[-1]
