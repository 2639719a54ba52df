"""The nearest sentence of a grammar, against all of its sentences."""

from __future__ import annotations

import math
from pathlib import Path

import kaldialign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.text_rules import TextRules
from asrkd.errors import CorpusError
from asrkd.text_teachers.sentences import Sentences
from asrkd.text_teachers.settings import TextSettings

WORDS = ("A", "AB", "BA", "CAB")


@st.composite
def grammars(draw: st.DrawFn) -> tuple[list[tuple[int, int, str]], list[int]]:
    """Arcs that lead from a state to a later one, whose numbers are shuffled."""
    count = draw(st.integers(2, 5))
    names = draw(st.permutations(range(count)))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    arcs = draw(st.lists(st.tuples(st.sampled_from(pairs), st.sampled_from(WORDS)), max_size=8))
    first = (0, draw(st.integers(1, count - 1)))
    found = [(first, draw(st.sampled_from(WORDS))), *arcs]
    ends = draw(st.sets(st.integers(0, count - 1), max_size=3)) | {first[1]}
    return [(names[a], names[b], word) for (a, b), word in found], [names[end] for end in ends]


def all_sentences(arcs: list[tuple[int, int, str]], ends: list[int]) -> set[tuple[str, ...]]:
    found, waiting = set(), [(arcs[0][0], ())]
    while waiting:
        state, words = waiting.pop()
        if state in ends:
            found.add(words)
        waiting += [(target, (*words, word)) for source, target, word in arcs if source == state]
    return found


def distance(said: list[str], sentence: tuple[str, ...]) -> float:
    rows = [[float(n) for n in range(len(sentence) + 1)]]
    for number, one in enumerate(said, 1):
        row = [float(number)]
        for place, other in enumerate(sentence, 1):
            letters = kaldialign.edit_distance(list(one), list(other))["total"] / max(len(one), len(other))
            row.append(min(rows[-1][place] + 1, row[-1] + 1, rows[-1][place - 1] + letters))
        rows.append(row)
    return rows[-1][-1]


@given(grammars(), st.lists(st.sampled_from((*WORDS, "X", "ABX")), max_size=4))
def test_nearest_of_all(grammar: tuple[list[tuple[int, int, str]], list[int]], said: list[str]) -> None:
    arcs, ends = grammar
    found = Sentences(arcs, ends, name="g").nearest(" ".join(said))
    distances = {" ".join(one): distance(said, one) for one in all_sentences(arcs, ends)}
    first, second = sorted([*distances.values(), math.inf])[:2]
    assert found.distance == pytest.approx(first) == pytest.approx(distances[found.sentence])
    assert found.next_distance == pytest.approx(second)
    assert found.is_ambiguous == (second - first < 1e-6)


def test_every_size_is_as_near_to_a_number_in_figures(tmp_path: Path) -> None:
    path = tmp_path / "orders.fst.txt"
    path.write_text("0 1 EIGHT\n0 1 SIXTEEN\n1 2 OUNCE\n2\n")
    settings = TextSettings(model="python:x:y", sentences=str(path), text=TextRules(case="upper"))
    assert settings.settled("16 ounce") == ("EIGHT OUNCE", True)
    assert settings.settled("sixteen ounces") == ("SIXTEEN OUNCE", False)


def test_a_text_teacher_with_sentences(tmp_path: Path) -> None:
    path = tmp_path / "orders.fst.txt"
    path.write_text("0 1 ONE\n0 1 TWO 0.5\n1 2 COFFEE\n1 2 COFFEES\n2\n")
    settings = TextSettings(model="python:x:y", sentences=str(path), text=TextRules(case="upper", punctuation="remove"))
    assert settings.written("Two cofees, please!") == "TWO COFFEES"
    # Nothing was written: that says something, and a sentence would not.
    assert settings.written(" . ") == ""
    path.write_text("0 1 ONE\n1 0 TWO\n1\n")
    with pytest.raises(CorpusError, match="has a loop"):
        Sentences.read(path)
    path.write_text("0 1 ONE\n2\n")
    with pytest.raises(CorpusError, match="has no sentence"):
        Sentences.read(path)
