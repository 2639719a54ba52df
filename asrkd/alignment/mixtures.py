"""Diagonal Gaussian mixtures, one a state, that grow while they are trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# A state's share of the Gaussians goes with this power of its frames (Kaldi's gmm-est --power).
_POWER = 0.2
_LEAST_FRAMES = 20.0
# Of the variance over all frames, and of the variance over the frames of all states.
_FLOOR = 0.05
_BLOCK = 256


@dataclass(frozen=True)
class Mixtures:
    """V mixtures of at most G Gaussians over D dimensions; a Gaussian that is not there has the weight 0.

    Attributes:
        weights: (V, G), each mixture's sum to 1.
        means, variances: (V, G, D).
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]

    @property
    def num_gaussians(self) -> int:
        return int((self.weights > 0).sum())

    def log_terms(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Constants (V, G) and the factors of values and of their squares, (V, G, D), whose sum is a Gaussian's weighted log-density."""
        precision = 1.0 / self.variances
        with np.errstate(divide="ignore"):
            constant = np.log(self.weights) - 0.5 * (
                np.log(2 * np.pi * self.variances).sum(axis=2) + (self.means**2 * precision).sum(axis=2)
            )
        return (
            np.maximum(constant, -1e30).astype(np.float32),
            (self.means * precision).astype(np.float32),
            (-0.5 * precision).astype(np.float32),
        )

    def log_likelihoods(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, D) -> (T, V) natural log-densities of each mixture's best Gaussian."""
        constant, linear, square = self.log_terms()
        num_states, width = constant.shape
        # Gaussian by Gaussian, each a row of states, and blocks of frames that fit into the cache.
        factors = np.concatenate([linear, square, constant[:, :, None]], axis=2)
        factors = np.ascontiguousarray(factors.transpose(1, 0, 2).reshape(num_states * width, -1).T)
        both = np.concatenate([values, values**2, np.ones((len(values), 1), np.float32)], axis=1)
        best = np.empty((len(values), num_states), dtype=np.float32)
        terms = np.empty((_BLOCK, num_states * width), dtype=np.float32)
        for begin in range(0, len(values), _BLOCK):
            block = both[begin : begin + _BLOCK]
            np.matmul(block, factors, out=terms[: len(block)])
            own = best[begin : begin + _BLOCK]
            own[:] = terms[: len(block), :num_states]
            for gaussian in range(1, width):
                at = gaussian * num_states
                np.maximum(own, terms[: len(block), at : at + num_states], out=own)
        return best


class SufficientStatistics:
    """Sums over frames, from which mixtures are estimated again."""

    def __init__(self, mixtures: Mixtures) -> None:
        self._terms = mixtures.log_terms()
        shape = mixtures.means.shape
        self.counts = np.zeros(shape[:2])
        self.sums: NDArray[np.float64] = np.zeros(shape)
        self.squares: NDArray[np.float64] = np.zeros(shape)
        self.log_likelihood = 0.0

    @property
    def frames(self) -> float:
        return float(self.counts.sum())

    def add(self, values: NDArray[np.float32], states: NDArray[np.integer]) -> None:
        """(T, D) frames, each of a known state (T,)."""
        constant, linear, square = self._terms
        order = np.argsort(states, kind="stable")
        bounds = np.searchsorted(states[order], np.arange(len(constant) + 1))
        sorted_values = values[order]
        for state in np.flatnonzero(np.diff(bounds)):
            own = sorted_values[bounds[state] : bounds[state + 1]]
            squared = own**2
            scores = own @ linear[state].T + squared @ square[state].T + constant[state]
            most = scores.max(axis=1, keepdims=True)
            shares = np.exp(scores - most)
            total = shares.sum(axis=1, keepdims=True)
            self.log_likelihood += float((most + np.log(total)).sum())
            shares /= total
            self.counts[state] += shares.sum(axis=0)
            self.sums[state] += shares.T @ own
            self.squares[state] += shares.T @ squared

    def estimate(self, num_gaussians: int, rng: np.random.Generator) -> Mixtures:
        """Mixtures of most likelihood, grown to about `num_gaussians` Gaussians in all."""
        total = self.counts.sum()
        middle = self.sums.sum(axis=(0, 1)) / total
        spread = self.squares.sum(axis=(0, 1)) / total - middle**2
        floor = _FLOOR * np.maximum(spread, 1e-8)
        wanted = _wanted(self.counts.sum(axis=1), num_gaussians)
        width = int(max(wanted.max(), 1))
        num_states, dimension = len(self.sums), int(self.sums.shape[-1])
        weights = np.zeros((num_states, width))
        means, variances = np.zeros((num_states, width, dimension)), np.ones((num_states, width, dimension))
        for state in range(num_states):
            keep = np.flatnonzero(self.counts[state] >= min(2.0, self.counts[state].max(initial=0.0)))
            counts = self.counts[state, keep]
            if not counts.sum() > 0:
                # A state without frames looks like every frame, from where it can win some.
                weights[state, 0], means[state, 0], variances[state, 0] = 1.0, middle, np.maximum(spread, 1e-8)
                continue
            centers = self.sums[state, keep] / counts[:, None]
            spreads = np.maximum(self.squares[state, keep] / counts[:, None] - centers**2, floor)
            counts, centers, spreads = _grown(counts, centers, spreads, int(wanted[state]), rng)
            counts, centers, spreads = counts[:width], centers[:width], spreads[:width]
            weights[state, : len(counts)] = counts / counts.sum()
            means[state, : len(counts)], variances[state, : len(counts)] = centers, spreads
        return Mixtures(weights, means, variances)


def _wanted(frames: NDArray[np.float64], num_gaussians: int) -> NDArray[np.int64]:
    """(V,) Gaussians of each state: one more for the state that has most (powered) frames for each of its Gaussians, in turn."""
    most = np.maximum(frames / _LEAST_FRAMES, 1).astype(np.int64)
    powered = frames**_POWER
    low, high = 0.0, float(num_gaussians) / max(powered.min(initial=1.0), 1.0) + 1
    for _ in range(50):
        middle = (low + high) / 2
        total = np.clip(np.floor(powered * middle), 1, most).sum()
        low, high = (middle, high) if total <= num_gaussians else (low, middle)
    return np.clip(np.floor(powered * low), 1, most).astype(np.int64)


def _grown(counts, centers, spreads, wanted: int, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """The Gaussians of a state, the heaviest split in two until there are `wanted`."""
    counts, centers, spreads = list(counts), list(centers), list(spreads)
    while len(counts) < wanted:
        heavy = int(np.argmax(counts))
        shift = 0.2 * np.sqrt(spreads[heavy]) * rng.standard_normal(len(spreads[heavy]))
        counts[heavy] /= 2
        counts.append(counts[heavy])
        centers.append(centers[heavy] + shift)
        spreads.append(spreads[heavy])
        centers[heavy] = centers[heavy] - shift
    return np.array(counts), np.array(centers), np.array(spreads)
