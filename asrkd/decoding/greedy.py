"""Greedy decoding of CTC: the best class of each frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.topology import NOTHING
from asrkd.decoding.decode import Hypothesis, check_scores
from asrkd.errors import MismatchError


def check_blank(inventory: Inventory) -> None:
    """Raise `MismatchError` for a model without a blank."""
    if not inventory.topology.collapses_repeats:
        raise MismatchError(
            f"greedy decoding reads CTC outputs; the topology here is {inventory.topology_name!r}, which has no blank. Use a graph"
        )


def greedy_decode(scores: NDArray[np.float32], inventory: Inventory) -> Hypothesis:
    """CTC best-path decoding (Graves et al. 2006) of (T, V) scores: collapse repeats, drop blanks. The words are tokens.

    Raises:
        MismatchError: a model without a blank, or V is not the inventory's.
        CorpusError: NaN among the scores.
    """
    check_blank(inventory)
    scores = check_scores(scores, inventory)
    if not len(scores):
        return Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))
    return collapsed(scores.argmax(axis=1), float(scores.max(axis=1).sum(dtype=np.float64)), inventory)


def collapsed(classes: NDArray[np.int64], score: float, inventory: Inventory) -> Hypothesis:
    """The tokens of a path of (T,) classes, T above 0: without repeats and blanks."""
    kept = classes[np.concatenate([[True], classes[1:] != classes[:-1]])]
    tokens = tuple(inventory.units[unit] for unit in kept if unit != NOTHING)
    return Hypothesis(tokens, score, classes)
