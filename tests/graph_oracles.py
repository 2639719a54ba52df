"""Oracles for graphs: every path, one by one, in double precision."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def graph_paths(graph: Any, length: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """The classes and the graph's score of every path that takes `length` frames."""
    arcs = [(*arc, score) for arc, score in zip(graph.arcs.values()[:, :3].tolist(), graph.scores.tolist())]  # noqa: B905
    leaving: dict[int, list[tuple[int, int, float]]] = {}
    for source, target, label, score in arcs:
        leaving.setdefault(source, []).append((target, label, score))

    def walk(state: int, left: int) -> Iterator[tuple[tuple[int, ...], float]]:
        for target, label, score in leaving.get(state, []):
            if label == -1:
                if not left:
                    yield (), score
            elif left:
                for rest, more in walk(target, left - 1):
                    yield (label, *rest), score + more

    return walk(0, length)


def path_scores(graph: Any, scores: Tensor) -> tuple[list[tuple[int, ...]], Tensor]:
    """Paths and their (P,) scores, differentiable, through (T, V) scores."""
    found = list(graph_paths(graph, len(scores)))
    acoustic = [scores[range(len(scores)), list(classes)].sum() for classes, _ in found]
    return [classes for classes, _ in found], torch.stack(acoustic) + torch.tensor(
        [one for _, one in found], dtype=scores.dtype
    )


def hmm_readings(
    path: Sequence[int], states: Sequence[Sequence[int]], *, leave_early: bool = False
) -> Iterator[tuple[int, ...]]:
    """Every token sequence that a path of classes can be read as: the definition of left-to-right HMMs with self-loops.

    With `leave_early` a token may end after any of its states.
    """
    if not path:
        yield ()
        return
    for token, own in enumerate(states, 1):
        for size in range(1 if leave_early else len(own), len(own) + 1):
            for ends in itertools.combinations(range(1, len(path) + 1), size):
                begins = (0, *ends[:-1])
                if all(set(path[a:b]) == {label} for a, b, label in zip(begins, ends, own)):  # noqa: B905
                    for rest in hmm_readings(path[ends[-1] :], states, leave_early=leave_early):
                        yield (token, *rest)


def ctc_reading(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(unit for i, unit in enumerate(path) if unit and (i == 0 or path[i - 1] != unit))


def finite_difference(function: Callable[[Tensor], Tensor], at: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function, in double precision."""
    gradient = torch.zeros_like(at)
    for index in itertools.product(*map(range, at.shape)):
        up, down = at.clone(), at.clone()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def random_arpa(rng: random.Random, names: list[str], path: Path) -> None:
    """Random n-grams up to order 3 with random scores and back-offs, each with its beginning and its end as an n-gram, too."""
    grams: list[dict[tuple[str, ...], float]] = [{(name,): 0.0 for name in [*names, "</s>"]}, {}, {}]
    for _ in range(2 * len(names)):
        second = (rng.choice(["<s>", *names]), rng.choice([*names, "</s>"]))
        grams[1][second] = 0.0
        if second[1] != "</s>" and rng.random() < 0.5:
            after = (second[1], rng.choice([*names, "</s>"]))
            grams[1][after] = grams[2][(*second, after[1])] = 0.0
    grams[0][("<s>",)] = 0.0
    lines = ["", "\\data\\", *(f"ngram {n}={len(own)}" for n, own in enumerate(grams, 1))]
    for order, own in enumerate(grams, 1):
        lines += ["", f"\\{order}-grams:"]
        for gram in own:
            score = -99.0 if gram == ("<s>",) else -rng.uniform(0.1, 2)
            backoff = "" if order == 3 or gram[-1] == "</s>" else f"\t{rng.uniform(-1, 0.2):.4f}"
            lines.append(f"{score:.4f}\t{' '.join(gram)}{backoff}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))
