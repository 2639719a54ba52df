"""Flat start: alignments from nothing but features, transcripts and a lexicon.

Viterbi training of one Gaussian a state (Kaldi's `train_mono.sh` in small): equal segmentation, then rounds of
estimation and realignment, first on principal components of the features, then on linear discriminants of the
states found so far (Haeb-Umbach & Ney 1992), where one covariance shared by all states is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.forced import TranscriptGraph, uniform_path, viterbi
from asrkd.errors import CorpusError

Array = NDArray[np.float64]


def flat_start(
    features: Sequence[NDArray[np.float32]],
    graphs: Sequence[TranscriptGraph],
    num_classes: int,
    *,
    rounds: int = 12,
    discriminant_rounds: int = 8,
    dimension: int = 40,
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.int64]]:
    """Align every utterance; returns (T,) class ids for each.

    Args:
        features: (T, F) each, mean-normalised.
        graphs: one `transcript_graph` each.
        num_classes: V of the inventory.
        rounds: rounds on principal components.
        discriminant_rounds: rounds on linear discriminants after that.
        dimension: components kept.

    Raises:
        CorpusError: no utterances, or one too short for its transcript.
    """
    if not features:
        raise CorpusError("there are no transcribed utterances to align; give a labeled set with text")
    splits = np.cumsum([len(f) for f in features])[:-1]
    pooled = np.concatenate(features).astype(np.float64)
    classes = [g.classes[uniform_path(len(f), g)] for f, g in zip(features, graphs, strict=True)]
    space = _principal_components(pooled, dimension)
    for number in range(rounds + discriminant_rounds):
        if number >= rounds:
            space = _linear_discriminants(pooled, np.concatenate(classes), num_classes, dimension)
        mapped = pooled @ space
        scores = _gaussian_scores(mapped, np.concatenate(classes), num_classes, shared=number >= rounds)
        classes = [g.classes[viterbi(s, g)[0]] for s, g in zip(np.split(scores, splits), graphs, strict=True)]
        if progress:
            progress(number + 1, rounds + discriminant_rounds)
    return classes


def _principal_components(pooled: Array, dimension: int) -> Array:
    """(F, dimension) whitening projection."""
    variances, vectors = np.linalg.eigh(np.cov(pooled, rowvar=False))
    keep = np.argsort(variances)[::-1][:dimension]
    return vectors[:, keep] / np.sqrt(np.maximum(variances[keep], 1e-8))


def _linear_discriminants(pooled: Array, labels: NDArray[np.int64], num_classes: int, dimension: int) -> Array:
    """(F, dimension) projection in which the within-class covariance is the identity."""
    counts, means = _class_means(pooled, labels, num_classes)
    centered = pooled - means[labels]
    within = centered.T @ centered / len(pooled)
    within += np.eye(len(within)) * 1e-3 * np.trace(within) / len(within)
    offset = means - pooled.mean(axis=0)
    between = (offset * counts[:, None]).T @ offset / len(pooled)
    values, vectors = np.linalg.eigh(within)
    whiten = vectors / np.sqrt(values)
    strength, rotation = np.linalg.eigh(whiten.T @ between @ whiten)
    return whiten @ rotation[:, np.argsort(strength)[::-1][: min(dimension, num_classes - 1)]]


def _class_means(values: Array, labels: NDArray[np.int64], num_classes: int) -> tuple[Array, Array]:
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    order = np.argsort(labels, kind="stable")
    totals = np.zeros((num_classes, values.shape[1]))
    present = np.flatnonzero(counts)
    starts = np.concatenate([[0], np.cumsum(counts[present]).astype(int)[:-1]])
    totals[present] = np.add.reduceat(values[order], starts, axis=0)
    # A state that lost all its frames goes to the global mean, from where it can win frames back.
    weight = 5.0
    return counts, (totals + weight * values.mean(axis=0)) / (counts + weight)[:, None]


def _gaussian_scores(values: Array, labels: NDArray[np.int64], num_classes: int, *, shared: bool) -> Array:
    """(N, V) log-likelihoods under one diagonal Gaussian a class, with floored or shared variances."""
    counts, means = _class_means(values, labels, num_classes)
    pooled = ((values - means[labels]) ** 2).mean(axis=0)
    if shared:
        variances = np.tile(pooled, (num_classes, 1))
    else:
        squares = _class_means(values**2, labels, num_classes)[1]
        variances = np.maximum(squares - means**2, 0.2 * pooled)
    precision = 1.0 / variances
    constant = -0.5 * (np.log(variances).sum(axis=1) + (means**2 * precision).sum(axis=1))
    return constant - 0.5 * (values**2) @ precision.T + values @ (means * precision).T
