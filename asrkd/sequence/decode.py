"""Decoding with k2: best paths, n-best lists, rescoring."""

from __future__ import annotations

from collections.abc import Sequence
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


def decode(scores: Tensor, lengths: Tensor, graph: Any, *, beam: Beam | None = None) -> list[Path]:
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
        raise CorpusError(f"no path of utterance {number} of the batch survives the beam; widen it")
    labels = fsa.labels
    return Path(tuple(_words(fsa)), float(fsa.scores.double().sum()), labels[labels >= 0].to(torch.int64))


def _words(fsa: Any) -> list[int]:
    """The outputs of a linear fsa; none for an acceptor."""
    if not hasattr(fsa, "aux_labels"):
        return []
    words = fsa.aux_labels
    flat = words if isinstance(words, Tensor) else words.values
    return [word for word in flat.tolist() if word > 0]


def n_best(lattice: Any, count: int, *, num_paths: int = 1000, scale: float = 0.5) -> list[list[Path]]:
    """For each lattice, up to `count` different word sequences, the best first, each with its best path.

    Paths are drawn from the lattice, so that sequences of small probability may be missing; the best path always stands first.

    Args:
        count: of word sequences.
        num_paths: drawn.
        scale: multiplies scores while drawing; smaller gives more different sequences.
    """
    k2 = import_k2()
    first = best_paths(lattice)
    drawn = k2.Nbest.from_lattice(lattice=lattice, num_paths=num_paths, use_double_scores=True, nbest_scale=scale)
    exact = drawn.intersect(lattice)
    splits = exact.shape.row_splits(1).tolist()
    found = []
    for n, (begin, end) in enumerate(zip(splits, splits[1:])):  # noqa: B905
        by_words = {first[n].words: first[n]}
        for one in range(begin, end):
            path = _path(exact.fsa[one], n)
            if path.words not in by_words or path.score > by_words[path.words].score:
                by_words[path.words] = path
        found.append(sorted(by_words.values(), key=lambda path: -path.score)[:count])
    return found


def grammar_scores(grammar: Any, sentences: Sequence[Sequence[int]], backoff: int | None = None) -> Tensor:
    """(len(sentences),) float64 score of each word sequence in a grammar, by the best path; -inf where it has none.

    Args:
        grammar: an acceptor or transducer of words.
        backoff: the label of its back-off arcs, which take no word.
    """
    k2 = import_k2()
    plain = k2.Fsa(grammar.arcs.clone() if hasattr(grammar.arcs, "clone") else grammar.arcs)
    if backoff is not None:
        labels = plain.labels.clone()
        labels[labels == backoff] = 0
        plain.labels = labels
    plain = k2.arc_sort(plain)
    linear = k2.add_epsilon_self_loops(k2.linear_fsa([list(own) for own in sentences]))
    found = [k2.intersect(plain, linear[n], treat_epsilons_specially=False) for n in range(len(sentences))]
    whole = k2.create_fsa_vec([k2.top_sort(k2.connect(one)) for one in found])
    return whole.get_tot_scores(log_semiring=False, use_double_scores=True)


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
