"""Decoding while audio comes in: frame by frame through a graph, with endpoints, and a student on live samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import kaldi_decoder
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.live_front_end import LiveFrontEnd
from asrkd.decoding.decode import BEAM, MAX_ACTIVE, Hypothesis, check_scores, hypothesis_of, search_options
from asrkd.decoding.greedy import check_blank, collapsed
from asrkd.errors import ConfigError
from asrkd.graphs import DecodingGraph
from asrkd.models import FeatureStream, stream_layout


@dataclass(frozen=True)
class EndpointRules:
    """When an utterance has ended; any of them is enough (Kaldi's `online2/online-endpoint.h`, rules 1, 2 and 5).

    Attributes:
        silence_before_words: seconds of silence before any word.
        silence_after_words: seconds of silence after a word.
        longest: seconds of an utterance.
    """

    silence_before_words: float = 5.0
    silence_after_words: float = 0.8
    longest: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"endpoint rules: {name} is {value}, but must be above 0 seconds")


class LiveSearch(Protocol):
    """A search that is fed with chunks of acoustic scores.

    Attributes:
        num_frames: of the running utterance so far.
    """

    num_frames: int

    def restart(self) -> None:
        """Begin an utterance."""

    def accept(self, scores: NDArray[np.float32]) -> None:
        """Continue with (C, V) acoustic scores (`AcousticModel.scores_of`)."""

    def best(self, *, ended: bool = False) -> Hypothesis:
        """The best path so far; with `ended`, of the whole utterance."""


class LiveGreedy:
    """Greedy decoding of CTC, fed with chunks; the tokens are those of `greedy_decode` of all frames at once.

    Raises:
        MismatchError: a model without a blank.
    """

    def __init__(self, inventory: Inventory) -> None:
        check_blank(inventory)
        self._inventory = inventory
        self.restart()

    def restart(self) -> None:
        """Begin an utterance."""
        self._classes: list[NDArray[np.int64]] = []
        self._score = 0.0
        self.num_frames = 0

    def accept(self, scores: NDArray[np.float32]) -> None:
        """Continue with (C, V) acoustic scores.

        Raises:
            MismatchError: V is not the inventory's.
            CorpusError: NaN among the scores.
        """
        scores = check_scores(scores, self._inventory)
        self._classes.append(scores.argmax(axis=1))
        self._score += float(scores.max(axis=1).sum(dtype=np.float64))
        self.num_frames += len(scores)

    def best(self, *, ended: bool = False) -> Hypothesis:
        """The tokens so far, which does not depend on whether the utterance has ended."""
        if not self.num_frames:
            return Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))
        return collapsed(np.concatenate(self._classes), self._score, self._inventory)


class LiveDecoder:
    """Kaldi's token-passing decoder, fed with chunks of acoustic scores.

    The words are those of `graph_decode` of all frames at once with the same beam.

    Args:
        graph: the decoding graph.
        beam, max_active: as in `graph_decode`.

    Raises:
        ConfigError: a beam or number of states that cannot be used.
    """

    def __init__(self, graph: DecodingGraph, *, beam: float = BEAM, max_active: int = MAX_ACTIVE) -> None:
        self.graph = graph
        self._decoder = kaldi_decoder.FasterDecoder(graph.fst, search_options(beam, max_active))
        self.restart()

    def restart(self) -> None:
        """Begin an utterance."""
        self._decoder.init_decoding()
        self.num_frames = 0

    def accept(self, scores: NDArray[np.float32]) -> None:
        """Continue with (C, V) acoustic scores (`AcousticModel.scores_of`).

        Raises:
            MismatchError: V is not the graph's inventory's.
            CorpusError: NaN among the scores.
        """
        scores = check_scores(scores, self.graph.inventory)
        if len(scores):
            self._decoder.advance_decoding(kaldi_decoder.DecodableCtc(scores, self.num_frames))
            self.num_frames += len(scores)

    def best(self, *, ended: bool = False) -> Hypothesis:
        """The best path so far; with `ended`, of paths that end at a word's end, if there is one.

        Raises:
            CorpusError: no path survives the beam.
        """
        return hypothesis_of(self._decoder, self.graph, self.num_frames, ended=ended)


def is_endpoint(found: Hypothesis, rules: EndpointRules, frame_seconds: float) -> bool:
    """Whether an utterance ended, by its best path so far. Class 0 is silence (`hmm`) or blank (`ctc`)."""
    spoken = np.flatnonzero(found.classes)
    silence = len(found.classes) - (spoken[-1] + 1 if len(spoken) else 0)
    longest_silence = rules.silence_after_words if found.words else rules.silence_before_words
    return silence * frame_seconds >= longest_silence or len(found.classes) * frame_seconds >= rules.longest


@dataclass(frozen=True)
class LiveHypothesis:
    """What a recognizer has made of the audio so far.

    Attributes:
        words: of the running utterance, or of the one that has just ended; tokens, where the search finds those.
        ended: whether the utterance has ended; the next chunk begins another.
        seconds: of audio since the utterance began.
    """

    words: tuple[str, ...]
    ended: bool
    seconds: float


class LiveRecognizer:
    """A streaming student on live samples: features, model and decoder chunk by chunk.

    Model and features run on over endpoints, as they did over the words of an utterance in training; the decoder begins again.

    Args:
        search: `LiveDecoder` or `LiveGreedy`; `Search.live` gives one.
        acoustic_scale, prior_scale, blank_penalty: as in `AcousticModel.scores`.

    Raises:
        ConfigError: a model that cannot stream, a front end that needs the whole utterance, or a blank penalty for a model without blank.
        ModelError: a model that needs priors has none.
    """

    def __init__(
        self,
        model: AcousticModel,
        search: LiveSearch,
        rules: EndpointRules | None = None,
        *,
        acoustic_scale: float = 1.0,
        prior_scale: float = 1.0,
        blank_penalty: float = 0.0,
    ) -> None:
        model.check_prior()
        model.check_blank_penalty(blank_penalty)
        self._scales = {"acoustic_scale": acoustic_scale, "prior_scale": prior_scale, "blank_penalty": blank_penalty}
        network: Any = model.network
        stream_layout(network, "run on live audio")
        self.model, self.search, self.rules = model, search, rules or EndpointRules()
        if not isinstance(model.front_end, FrontEnd):
            raise ConfigError("the model reads whole utterances of samples, so it cannot run on live audio")
        if model.front_end.filterbank == "whisper":
            raise ConfigError(
                "the model reads Whisper's features, which are scaled by the loudest part of the whole utterance, so it cannot run on "
                "live audio; a live student is trained with `preset: study` or `preset: sherpa`"
            )
        law = model.front_end.frame_law(model.subsampling_factor)
        self.frame_seconds = law.frame_shift / model.front_end.sampling_rate
        self._network, self._front_end_settings = network, model.front_end
        self._begin()

    def _begin(self) -> None:
        self._front_end = LiveFrontEnd(self._front_end_settings)
        self._stream = FeatureStream(self._network)
        self.search.restart()

    @torch.inference_mode()
    def accept(self, samples: Tensor) -> LiveHypothesis:
        """Continue with (num_samples,) samples; what has been heard so far."""
        return self._advance(self._stream.accept(self._front_end.accept(samples)[None]), last=False)

    @torch.inference_mode()
    def finish(self) -> LiveHypothesis:
        """End the stream: what has been heard. The next chunk begins another stream."""
        logits = [self._stream.accept(self._front_end.finish()[None]), self._stream.finish()]
        found = self._advance(torch.cat(logits, dim=1), last=True)
        self._begin()
        return found

    def _advance(self, logits: Tensor, *, last: bool) -> LiveHypothesis:
        self.search.accept(self.model.scores_of(logits[0].log_softmax(-1), **self._scales).numpy())
        if not self.search.num_frames:
            return LiveHypothesis((), last, 0.0)
        seconds = self.search.num_frames * self.frame_seconds
        found = self.search.best(ended=last)
        if not last and is_endpoint(found, self.rules, self.frame_seconds):
            words = self.search.best(ended=True).words
            self.search.restart()
            return LiveHypothesis(words, True, seconds)
        return LiveHypothesis(found.words, last, seconds)
