"""Decoding with k2: best paths, n-best lists, rescoring."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrkd.errors import CorpusError
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.lattice import Beam, lattices


@dataclass(frozen=True)
class Path:
    """A path through a graph.

    Attributes:
        words: word ids.
        score: of the path: scaled acoustic scores and graph scores.
        classes: (T,) int64 class of each frame.
    """

    words: tuple[int, ...]
    score: float
    classes: Tensor


def one_best(scores: Tensor, lengths: Tensor, graph: Any, *, beam: Beam | None = None) -> list[Path]:
    """The best path of each utterance.

    Args:
        scores: (N, T, V) natural-log scores, already scaled.
        lengths: (N,) frames.
        graph: a decoding graph, its `aux_labels` words.
        beam: None searches every path.

    Raises:
        CorpusError: no path survives the beam.
        ConfigError: as for `lattices`.
    """
    with torch.no_grad():
        return best_paths(lattices(scores, lengths, graph, beam=beam))


def best_paths(lattice: Any) -> list[Path]:
    """The best path of each lattice.

    Raises:
        CorpusError: a lattice without a path.
    """
    k2 = import_k2()
    best = k2.shortest_path(lattice, use_double_scores=True)
    return [_path(best[n], n) for n in range(best.shape[0])]


def _path(fsa: Any, number: int) -> Path:
    if not fsa.num_arcs:
        raise _no_path(number)
    labels = fsa.labels
    return Path(tuple(_words(fsa)), float(fsa.scores.double().sum()), labels[labels >= 0].to(torch.int64))


def _no_path(number: int) -> CorpusError:
    return CorpusError(f"no path of utterance {number} of the batch survives the beam; widen it")


def _words(fsa: Any) -> list[int]:
    """The outputs of a linear fsa; none for an acceptor."""
    if not hasattr(fsa, "aux_labels"):
        return []
    words = fsa.aux_labels
    flat = words if isinstance(words, Tensor) else words.values
    return [word for word in flat.tolist() if word > 0]


def n_best(lattice: Any, count: int) -> list[list[Path]]:
    """For each lattice, the `count` best word sequences (or all, if there are fewer), the best first, each with its best path.

    Exact: the lattice is made deterministic on words, so that each sequence has one path, and searched best first.

    Raises:
        CorpusError: a lattice without a path.
    """
    k2 = import_k2()
    found = []
    for n in range(lattice.shape[0]):
        if not lattice[n].num_arcs:
            raise _no_path(n)
        by_words = _inverted(lattice[n])
        acceptor = by_words.clone()
        del acceptor.aux_labels
        acceptor = k2.connect(k2.determinize(k2.connect(k2.remove_epsilon(acceptor))))
        found.append([_best_with(by_words, words) for words in _best_first(k2.top_sort(acceptor), count)])
    return found


def _best_first(acceptor: Any, count: int) -> Iterator[tuple[int, ...]]:
    """The labels of the `count` best paths of an acceptor without cycles, the best first (A* with exact costs to go)."""
    whole = import_k2().create_fsa_vec([acceptor])
    to_go = whole.get_backward_scores(use_double_scores=True, log_semiring=False).tolist()
    leaving: dict[int, list[tuple[int, int, float]]] = {}
    for (source, target, label), score in zip(acceptor.arcs.values()[:, :3].tolist(), acceptor.scores.tolist()):  # noqa: B905
        leaving.setdefault(source, []).append((target, label, score))
    waiting: list[tuple[float, tuple[int, ...], int, float]] = [(-to_go[0], (), 0, 0.0)]
    while waiting and count:
        _, words, state, score = heapq.heappop(waiting)
        if words and words[-1] == -1:
            count -= 1
            yield words[:-1]
        for target, label, more in leaving.get(state, []):
            heapq.heappush(waiting, (-(score + more + to_go[target]), (*words, label), target, score + more))


def _inverted(fsa: Any) -> Any:
    """A lattice from words to classes + 1, which leaves 0 for epsilon."""
    k2 = import_k2()
    moved = fsa.clone()
    labels = moved.labels.clone()
    labels[labels >= 0] += 1
    moved.labels = labels
    return k2.arc_sort(k2.invert(moved))


def _best_with(by_words: Any, words: Sequence[int]) -> Path:
    """The best path of a lattice that says these words."""
    k2 = import_k2()
    said = k2.connect(k2.compose(_linear(words), by_words, treat_epsilons_specially=True))
    best = k2.shortest_path(k2.create_fsa_vec([k2.top_sort(said)]), use_double_scores=True)[0]
    classes = best.aux_labels
    return Path(tuple(words), float(best.scores.double().sum()), classes[classes > 0].to(torch.int64) - 1)


def _linear(words: Sequence[int]) -> Any:
    """A transducer with one path, from these words to these words."""
    # An epsilon where there is no word: k2 cannot select from graphs of a single arc.
    labels = list(words) or [0]
    lines = [f"{n} {n + 1} {label} {label} 0" for n, label in enumerate(labels)]
    end = len(labels)
    text = "\n".join([*lines, f"{end} {end + 1} -1 -1 0", str(end + 1)])
    k2 = import_k2()
    return k2.arc_sort(k2.Fsa.from_str(text, aux_label_names=["aux_labels"]))


def grammar_scores(grammar: Any, sentences: Sequence[Sequence[int]], backoff: int | None = None) -> Tensor:
    """(len(sentences),) float64 score of each word sequence in a grammar, by the best path; -inf where it has none.

    Args:
        grammar: an acceptor or transducer of words.
        backoff: the label of its back-off arcs, which take no word.
    """
    k2 = import_k2()
    acceptor = grammar.clone()
    if hasattr(acceptor, "aux_labels"):
        del acceptor.aux_labels
    if backoff is not None:
        labels = acceptor.labels.clone()
        labels[labels == backoff] = 0
        acceptor.labels = labels
    acceptor = k2.arc_sort(acceptor)
    totals = []
    for own in sentences:
        found = k2.connect(k2.intersect(acceptor, _linear(own), treat_epsilons_specially=True))
        whole = k2.create_fsa_vec([k2.top_sort(found)])
        totals.append(whole.get_tot_scores(log_semiring=False, use_double_scores=True))
    return torch.cat(totals)


def rescored(
    paths: Sequence[Path], old: Any, new: Any, *, backoff: int | None = None, scale: float = 1.0
) -> list[Path]:
    """An n-best list with a grammar's scores in place of another's, the best first.

    Args:
        paths: of one utterance.
        old, new: the grammar that the graph was built with, and the one to score with.
        backoff: the label of their back-off arcs.
        scale: multiplies the new grammar's scores.
    """
    sentences = [path.words for path in paths]
    change = scale * grammar_scores(new, sentences, backoff) - grammar_scores(old, sentences, backoff)
    moved = [Path(path.words, path.score + float(delta), path.classes) for path, delta in zip(paths, change)]  # noqa: B905
    return sorted(moved, key=lambda path: -path.score)
