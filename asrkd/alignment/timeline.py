"""An aligned utterance as spans of words and phones, whatever made the alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd import text as texts
from asrkd.alignment.forced import TranscriptGraph
from asrkd.alignment.phone_graph import SILENCE_STATE, STATES, PhoneGraph
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokens import Tokens


@dataclass(frozen=True)
class Span:
    """Frames `start` to `end` (excluded) and what is said in them."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Timeline:
    """An utterance of `frames` frames; frames without a phone are silence (`hmm`) or blanks (`ctc`)."""

    frames: int
    words: tuple[Span, ...]
    phones: tuple[Span, ...]

    @property
    def silent_frames(self) -> int:
        """Frames without a phone."""
        return self.frames - sum(span.end - span.start for span in self.phones)


def of_phone_path(nodes: NDArray[np.int64], graph: PhoneGraph, text: str, phones: Sequence[str]) -> Timeline:
    """Of a (T,) path at 10 ms; `phones` are the aligner's."""
    states = graph.states[nodes]
    names = {SILENCE_STATE: ""} | {
        1 + STATES * n + part: name for n, name in enumerate(phones) for part in range(STATES)
    }
    return _timeline(
        graph.words[nodes], graph.phones[nodes], _names(graph.words, text), lambda frame: names[int(states[frame])]
    )


def of_state_path(path: NDArray[np.int64], graph: TranscriptGraph, text: str, inventory: Inventory) -> Timeline:
    """Of a (T,) path through the states of a transcript's graph."""
    classes = graph.classes[path]
    tokens = Tokens.of(inventory)
    names = {label: name for name, labels in zip(tokens.names, tokens.states, strict=True) for label in labels}
    return _timeline(
        graph.words[path], graph.phones[path], _names(graph.words, text), lambda frame: names[int(classes[frame])]
    )


def _timeline(words: NDArray[np.int64], phones: NDArray[np.int64], said: Sequence[str], name_at) -> Timeline:  # type: ignore[no-untyped-def]
    return Timeline(
        len(words),
        tuple(Span(start, end, said[int(words[start])]) for start, end in _runs(words)),
        tuple(Span(start, end, name_at(start)) for start, end in _runs(phones)),
    )


def _names(numbers: NDArray[np.int64], text: str) -> list[str]:
    """What the words of a graph are called; a tokenizer may cut a transcript otherwise than at spaces."""
    said, count = texts.words(texts.normal(text)), int(numbers.max()) + 1
    if count == len(said):
        return said
    return [text] if count == 1 else [""] * count


def _runs(numbers: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where runs of one number begin and end; -1 is nothing."""
    edges = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1], True]).tolist()
    return [(start, end) for start, end in zip(edges[:-1], edges[1:], strict=True) if numbers[start] >= 0]
