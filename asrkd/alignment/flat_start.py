"""Flat start: a model that aligns, from nothing but cepstra, transcripts and a lexicon.

As Kaldi's `train_mono.sh`: Viterbi training of phones of three states, from one Gaussian a state to mixtures that grow, with rounds of
realignment that become rarer; but silence is started from energy, and the phones cut equally into what is spoken. A second growth on
linear discriminants of spliced cepstra was tried and left out: it moved the ends of words by 15 ms and found fewer silences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.features import Cepstra
from asrkd.alignment.mixtures import Mixtures, SufficientStatistics
from asrkd.alignment.phone_graph import SILENCE_STATE, PhoneGraph
from asrkd.alignment.phone_model import BestPath, PhoneModel, num_states
from asrkd.errors import CorpusError

_FRAMES_PER_GAUSSIAN = 250
_MOST_GAUSSIANS = 1200
_REALIGNED = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20)
_ROUNDS, _GROWS_UNTIL = 20, 16
_CHUNK = 60_000


def flat_start(
    utterances: Sequence[Cepstra],
    graphs: Sequence[PhoneGraph],
    phones: Sequence[str],
    sampling_rate: int,
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PhoneModel:
    """Train a model on these utterances, each with the graph of its transcript.

    Raises:
        CorpusError: there are no utterances.
    """
    if not utterances:
        raise CorpusError("there are no transcribed utterances to align; give a labeled set with text")
    labels = [equal_states(utterance.spoken, graph) for utterance, graph in zip(utterances, graphs, strict=True)]
    states = num_states(len(phones))
    dimension = 3 * utterances[0].values.shape[1]
    model = PhoneModel(tuple(phones), sampling_rate, _one_gaussian(states, dimension), np.full(states, 0.7))
    trainer = _Training(utterances, graphs, labels, np.random.default_rng(seed), progress)
    model = trainer.run(model)
    return model.with_usual([path.gain for path in trainer.realign(model)])


class _Training:
    """Rounds of estimation and realignment over utterances in memory."""

    def __init__(
        self,
        utterances: Sequence[Cepstra],
        graphs: Sequence[PhoneGraph],
        labels: list[NDArray[np.int64]],
        rng: np.random.Generator,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.utterances, self.graphs, self.labels = utterances, graphs, labels
        self._rng, self._progress = rng, progress
        self._frames = sum(len(own) for own in utterances)
        self._chunks = _chunks([len(own) for own in utterances])

    def run(self, model: PhoneModel) -> PhoneModel:
        """Estimate from the labels, then round by round, realigning in some; mixtures grow until a round."""
        states = len(model.stay)
        most = max(states, min(_MOST_GAUSSIANS, self._frames // _FRAMES_PER_GAUSSIAN))
        # The first estimate is of the labels alone: one Gaussian a state.
        model = dataclasses.replace(model, mixtures=self._estimate(model, states))
        for number in range(1, _ROUNDS + 1):
            if number in _REALIGNED:
                paths = self.realign(model)
                self.labels = [path.states for path in paths]
                model = _transitions(model, paths, self.graphs)
            wanted = states + (most - states) * min(number, _GROWS_UNTIL) // _GROWS_UNTIL
            model = dataclasses.replace(model, mixtures=self._estimate(model, wanted))
            if self._progress:
                self._progress(number, _ROUNDS)
        return model

    def realign(self, model: PhoneModel) -> list[BestPath]:
        """The best path of every utterance."""
        return [
            path
            for own in self._chunks
            for path in model.align([self.utterances[n] for n in own], [self.graphs[n] for n in own])
        ]

    def _estimate(self, model: PhoneModel, num_gaussians: int) -> Mixtures:
        statistics = SufficientStatistics(model.mixtures)
        for own in self._chunks:
            features = np.concatenate([model.features(self.utterances[n]) for n in own])
            statistics.add(features, np.concatenate([self.labels[n] for n in own]))
        return statistics.estimate(num_gaussians, self._rng)


def equal_states(spoken: NDArray[np.bool_], graph: PhoneGraph) -> NDArray[np.int64]:
    """(T,) states: silence where nothing is spoken, and the first pronunciations cut equally into the rest.

    They need not be a path of the graph: a pause may fall within a word.
    """
    wanted = _first_pronunciations(graph)
    speech = spoken.copy()
    if speech.sum() < len(wanted):
        speech[:] = True
    frames = int(speech.sum())
    labels = np.full(len(spoken), SILENCE_STATE)
    labels[speech] = wanted[np.arange(frames) * len(wanted) // max(frames, 1)]
    return labels


def _first_pronunciations(graph: PhoneGraph) -> NDArray[np.int64]:
    """States of the first pronunciation of each word, in order."""
    keep = np.zeros(len(graph.states), dtype=bool)
    for word in range(graph.words.max() + 1):
        begin = int(np.flatnonzero(graph.words == word)[0])
        end = begin + 1
        while end < len(graph.states) and graph.follows[end] and graph.words[end] == word:
            end += 1
        keep[begin:end] = True
    return graph.states[keep & (graph.states != SILENCE_STATE)]


def _transitions(model: PhoneModel, paths: Sequence[BestPath], graphs: Sequence[PhoneGraph]) -> PhoneModel:
    """The model with transition probabilities counted on these paths."""
    states = len(model.stay)
    frames, visits = np.zeros(states), np.zeros(states)
    # Silence must earn its place: a few places without it, or with it at the ends, are taken as seen.
    begun, within, ended, places = 1.0, 1.0, 1.0, 9.0
    for path, graph in zip(paths, graphs, strict=True):
        enters = np.r_[True, path.nodes[1:] != path.nodes[:-1]]
        frames += np.bincount(path.states, minlength=states)
        visits += np.bincount(path.states[enters], minlength=states)
        quiet = graph.words[path.nodes] < 0
        runs = int((quiet[1:] & ~quiet[:-1]).sum())
        begun += bool(quiet[0])
        ended += bool(quiet[-1])
        within += runs - bool(quiet[-1])
        places += int(graph.words.max())
    # A silence passes through its states that cannot last, each once.
    stay = np.where(visits > 0, 1 - (visits + 1) / (frames + 2), model.stay)
    count = len(paths) + 2.0
    silence = (begun / count, within / (places + 1), ended / count)
    return dataclasses.replace(model, stay=stay, silence=silence)


def _one_gaussian(states: int, dimension: int) -> Mixtures:
    return Mixtures(np.ones((states, 1)), np.zeros((states, 1, dimension)), np.ones((states, 1, dimension)))


def _chunks(lengths: Sequence[int]) -> list[list[int]]:
    """Utterances in order, together about `_CHUNK` frames."""
    chunks: list[list[int]] = [[]]
    frames = 0
    for number, length in enumerate(lengths):
        if frames + length > _CHUNK and chunks[-1]:
            chunks.append([])
            frames = 0
        chunks[-1].append(number)
        frames += length
    return chunks
