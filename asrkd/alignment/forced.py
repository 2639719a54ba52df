"""Forced alignment: the hard labels of a transcribed utterance.

`hmm`: Viterbi over the transcript's HMM (pronunciation variants, optional silence between words).
`ctc`: `torchaudio.functional.forced_align`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.topology import SILENCE
from asrkd.errors import CorpusError


@dataclass(frozen=True)
class TranscriptGraph:
    """The HMM of one transcript, S states, each with a self-loop.

    Attributes:
        classes: (S,) class id that the state emits.
        words: (S,) number of the word that the state is of, -1 for silence between words.
        predecessors: (S, P) states from which a state can be entered, itself first; padded with -1.
        initial, final: (S,) bool.
    """

    classes: NDArray[np.int64]
    words: NDArray[np.int64]
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


def transcript_graph(
    text: str, lexicon: Lexicon, inventory: Inventory, *, leave_early: bool = False, what: str = "transcript"
) -> TranscriptGraph:
    """All the state sequences that a transcript allows under the `hmm` topology.

    Args:
        leave_early: a phone may end after any of its states, so that one frame is enough for it.

    Raises:
        CorpusError: a word is outside the lexicon, a phone outside the inventory, or the transcript is empty.
    """
    spelled = lexicon.spell(text, what=what)
    if not spelled:
        raise CorpusError(f"{what} is empty, so there is nothing to align; leave the cut out of the labeled set")
    silence = inventory.ids([SILENCE])[0]
    classes: list[int] = []
    words: list[int] = []
    predecessors: list[list[int]] = []
    initial: list[bool] = []

    def add(label: int, word: int, before: list[int], at_start: bool) -> int:
        classes.append(label)
        words.append(word)
        predecessors.append([len(classes) - 1, *before])
        initial.append(at_start)
        return len(classes) - 1

    ends, at_start = [add(silence, -1, [], True)], True
    for word, spellings in enumerate(spelled):
        word_ends = []
        for phones in spellings:
            before, first = ends, at_start
            for phone in phones:
                own: list[int] = []
                for label in inventory.ids([phone]):
                    own.append(add(label, word, own[-1:] or before, first and not own))
                before, first = own if leave_early else own[-1:], False
            word_ends += before
        ends, at_start = [*word_ends, add(silence, -1, word_ends, False)], False
    width = max(map(len, predecessors))
    padded = np.array([row + [-1] * (width - len(row)) for row in predecessors], dtype=np.int64)
    final = np.zeros(len(classes), dtype=bool)
    final[ends] = True
    return TranscriptGraph(np.array(classes), np.array(words), padded, np.array(initial), final)


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


def too_few_frames(num_frames: int, graph: TranscriptGraph, *, what: str = "transcript") -> CorpusError:
    """The error of an utterance that is too short for its transcript."""
    return CorpusError(
        f"{what}: {num_frames} frames are too few for the {graph.min_frames} states of its transcript, so it cannot be aligned; check the "
        "transcript or leave the cut out"
    )


def ctc_align(log_probs: torch.Tensor, tokens: list[int], *, what: str = "utterance") -> NDArray[np.int64]:
    """(T,) class ids (0 is the blank) of the best CTC path of `tokens` through (T, V) log-probabilities.

    Raises:
        CorpusError: more tokens (and repeats) than frames.
    """
    repeats = sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))
    if len(tokens) + repeats > len(log_probs) or not tokens:
        raise CorpusError(
            f"{what}: {len(tokens)} tokens with {repeats} repeats do not fit into {len(log_probs)} frames; check the "
            "transcript or leave the cut out"
        )
    path, _ = torchaudio.functional.forced_align(log_probs[None], torch.tensor([tokens], dtype=torch.int32), blank=0)
    return path[0].numpy().astype(np.int64)
