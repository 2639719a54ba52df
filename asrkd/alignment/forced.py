"""Forced alignment: the hard labels of a transcribed utterance.

The best path of a transcript through a model's scores: pronunciation variants, and between words optional silence (`hmm`) or blanks
(`ctc`, where two equal tokens need one between them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, spell
from asrkd.corpus.topology import SILENCE
from asrkd.errors import CorpusError


@dataclass(frozen=True)
class TranscriptGraph:
    """The states of one transcript, S of them, each with a self-loop.

    Attributes:
        classes: (S,) class id that the state emits.
        words: (S,) number of the word that the state is of, -1 for what is between words.
        phones: (S,) a number for each phone (or token) of the transcript, counted over all pronunciations; -1 for silence and blanks.
        predecessors: (S, P) states from which a state can be entered, itself first; padded with -1.
        initial, final: (S,) bool.
    """

    classes: NDArray[np.int64]
    words: NDArray[np.int64]
    phones: NDArray[np.int64]
    predecessors: NDArray[np.int64]
    initial: NDArray[np.bool_]
    final: NDArray[np.bool_]

    @property
    def min_frames(self) -> int:
        """Frames that the shortest path needs, one for each of its states."""
        needed: list[int] = []
        for state, starts in enumerate(self.initial):
            before = [needed[other] for other in self.predecessors[state] if 0 <= other < state]
            needed.append(1 if starts else 1 + min(before))
        return min(needed[state] for state in np.flatnonzero(self.final))


class _States:
    """The states of a graph while they are added."""

    def __init__(self) -> None:
        self.classes: list[int] = []
        self.words: list[int] = []
        self.phones: list[int] = []
        self.predecessors: list[list[int]] = []
        self.initial: list[bool] = []

    def add(self, label: int, word: int, phone: int, before: list[int], at_start: bool) -> int:
        self.classes.append(label)
        self.words.append(word)
        self.phones.append(phone)
        self.predecessors.append([len(self.classes) - 1, *before])
        self.initial.append(at_start)
        return len(self.classes) - 1

    def graph(self, ends: list[int]) -> TranscriptGraph:
        """The finished graph, whose paths end in one of `ends`."""
        width = max(map(len, self.predecessors))
        padded = np.array([row + [-1] * (width - len(row)) for row in self.predecessors], dtype=np.int64)
        final = np.zeros(len(self.classes), dtype=bool)
        final[ends] = True
        return TranscriptGraph(
            np.array(self.classes), np.array(self.words), np.array(self.phones), padded, np.array(self.initial), final
        )


def transcript_graph(
    text: str, tokenizer: Tokenizer, inventory: Inventory, *, leave_early: bool = False, what: str = "transcript"
) -> TranscriptGraph:
    """All the state sequences that a transcript allows.

    Args:
        leave_early: an `hmm` phone may end after any of its states, so that one frame is enough for it.

    Raises:
        CorpusError: a word is outside the lexicon, a phone outside the inventory, or the transcript is empty.
    """
    spelled = spell(tokenizer, text, what=what)
    if not spelled:
        raise CorpusError(f"{what} is empty, so there is nothing to align; leave the cut out of the labeled set")
    if inventory.topology.collapses_repeats:
        return _ctc_graph([[inventory.ids(phones) for phones in spellings] for spellings in spelled])
    return _hmm_graph(spelled, inventory, leave_early)


def _hmm_graph(spelled: Sequence[Sequence[Sequence[str]]], inventory: Inventory, leave_early: bool) -> TranscriptGraph:
    silence = inventory.ids([SILENCE])[0]
    states, count = _States(), 0
    ends, at_start = [states.add(silence, -1, -1, [], True)], True
    for word, spellings in enumerate(spelled):
        word_ends = []
        for phones in spellings:
            before, first = ends, at_start
            for phone in phones:
                own: list[int] = []
                number = -1 if phone == SILENCE else count
                for label in inventory.ids([phone]):
                    own.append(states.add(label, word, number, own[-1:] or before, first and not own))
                before, first = own if leave_early else own[-1:], False
                count += 1
            word_ends += before
        ends, at_start = [*word_ends, states.add(silence, -1, -1, word_ends, False)], False
    return states.graph(ends)


def _ctc_graph(spelled: Sequence[Sequence[Sequence[int]]]) -> TranscriptGraph:
    """A blank before the first token, between tokens and after the last, which may be passed by between different tokens."""
    states, count = _States(), 0
    ends, at_start = [states.add(0, -1, -1, [], True)], True
    for word, spellings in enumerate(spelled):
        word_ends = []
        for tokens in spellings:
            before, first = ends, at_start
            for place, token in enumerate(tokens):
                if place:
                    before = [*before, states.add(0, word, -1, before, False)]
                sources = [state for state in before if states.classes[state] != token]
                before, first = [states.add(token, word, count, sources, first)], False
                count += 1
            word_ends += before
        ends, at_start = [*word_ends, states.add(0, -1, -1, word_ends, False)], False
    return states.graph(ends)


def viterbi(scores: NDArray[np.floating], graph: TranscriptGraph) -> tuple[NDArray[np.int64], float]:
    """The best path of a graph: (T,) state numbers and its score.

    Args:
        scores: (T, V) log-likelihoods, or log-posteriors less log-priors.

    Raises:
        CorpusError: fewer frames than the shortest path has states, or no path of finite score.
    """
    num_frames = len(scores)
    emit = np.asarray(scores, dtype=np.float64)[:, graph.classes]
    best = np.where(graph.initial, emit[0], -np.inf) if num_frames else np.full(len(graph.classes), -np.inf)
    padding = graph.predecessors < 0
    back = np.zeros((num_frames, len(graph.classes)), dtype=np.int64)
    rows = np.arange(len(graph.classes))
    for t in range(1, num_frames):
        entering = np.where(padding, -np.inf, best[graph.predecessors])
        choice = entering.argmax(axis=1)
        back[t] = graph.predecessors[rows, choice]
        best = entering[rows, choice] + emit[t]
    best = np.where(graph.final, best, -np.inf)
    if not np.isfinite(best.max()):
        if num_frames < graph.min_frames:
            raise too_few_frames(num_frames, graph)
        raise CorpusError(
            "no path through the scores is finite: they are NaN or infinite; look at the features and the model"
        )
    path = np.empty(num_frames, dtype=np.int64)
    path[-1] = best.argmax()
    for t in range(num_frames - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path, float(best.max())


class TooFewFrames(CorpusError):
    """An utterance has fewer frames than its transcript needs."""


def too_few_frames(num_frames: int, graph: TranscriptGraph, *, what: str = "transcript") -> TooFewFrames:
    """The error of an utterance that is too short for its transcript."""
    return TooFewFrames(
        f"{what}: {num_frames} frames are too few for the {graph.min_frames} that its transcript needs, so it cannot be aligned: the speech is "
        "too fast for the frame rate, or the transcript says more than the audio; check the transcript or leave the cut out"
    )
