"""Search: from the acoustic scores of utterances to text, greedily, by a beam of prefixes, or through a graph of words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, decode_names, normalized, vocabulary
from asrkd.decoding.beam import BeamDecoder, BeamSettings
from asrkd.decoding.decode import BEAM, MAX_ACTIVE, Hypothesis, graph_decode, graph_n_best, search_options
from asrkd.decoding.greedy import check_blank, greedy_decode
from asrkd.decoding.k2_decode import K2Decoder
from asrkd.decoding.live import LiveDecoder, LiveGreedy, LiveSearch
from asrkd.decoding.units import searchable, spelling_of
from asrkd.decoding.words import TimedWord, timed_words
from asrkd.errors import ConfigError
from asrkd.graphs import DecodingGraph, ngram_graph, word_loop_graph
from asrkd.sequence.acceptor import SUFFIX, is_acceptor
from asrkd.sequence.grammar import why_no_penalty
from asrkd.sequence.lattice import Beam

DECODERS = ("greedy", "beam", "graph", "k2")
# Utterances that k2 decodes at a time.
K2_BATCH = 32


@dataclass(frozen=True)
class Decoded:
    """What was found in an utterance.

    Attributes:
        key: its id.
        text: the best text.
        words: its words with times from the utterance's beginning.
        score: log score of the best path (greedy, graph, k2) or of the sum of its paths (beam).
        alternatives: the next best texts with their scores.
    """

    key: str
    text: str
    words: tuple[TimedWord, ...] = ()
    score: float = 0.0
    alternatives: tuple[tuple[str, float], ...] = field(default=())


def best_decoder(inventory: Inventory, tokenizer: Tokenizer | None, grammar: str | None) -> tuple[str, str]:
    """The decoder to take for an inventory, and why, in words."""
    if inventory.topology.needs_prior:
        return "graph", f"units of topology {inventory.topology_name!r} need a graph of words"
    if tokenizer is not None and tokenizer.words is not None:
        return "graph", "there is a lexicon of words"
    if grammar is not None and is_acceptor(grammar):
        return "graph", "a grammar of sentences is searched as a graph"
    if grammar is not None:
        return "beam", "CTC units with a language model and no lexicon of words"
    return "greedy", "CTC units without a lexicon of words or a language model"


class Search:
    """What is searched, and how.

    Args:
        tokenizer: the words, or what spells words; None for the units of a `ctc` model alone.
        model: whose scores are searched: of its inventory, and of its weights at the time of the search where a search runs a part of the model itself.
        decoder: `greedy`: the best class of each frame. `beam`: prefix beam search (flashlight-text). `graph`: the best path through the words
            (kaldi-decoder). `k2`: the same by k2. By default `best_decoder`.
        grammar: a language model, an ARPA file (for `beam` also a binary file of KenLM), or a grammar of sentences, `NAME.fst.txt` (`asrkd.sequence.acceptor`); a graph without one is a loop of all words.
        insertion_penalty: cost of every word, in nats; not for a graph with a grammar.
        leave_early: an `hmm` phone may end after any of its states.
        beam: of the search, in nats.
        max_active: states of a graph kept a frame.
        beam_size: entries that `beam` keeps a frame, up to three for a prefix.
        lm_weight: factor of the language model's scores in `beam`.
        n_best: texts to find for each utterance; not with `greedy`.
        device: where k2 searches; the others run on a CPU.

    Attributes:
        tokenizer: what spells the words that are found.
        decoder: its name.
        seconds: that searching has taken so far.

    Raises:
        CorpusError: a grammar that cannot be used.
        MismatchError: a model without a blank for `greedy` or `beam`, or units that are not the tokenizer's.
        ConfigError: an unknown decoder, a beam or number that cannot be used, or a setting that is not for this search.
        DependencyError: what the search needs is not installed, or k2 has no CUDA.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        model: AcousticModel,
        *,
        decoder: str | None = None,
        grammar: str | None = None,
        insertion_penalty: float = 0.0,
        leave_early: bool = False,
        beam: float = BEAM,
        max_active: int = MAX_ACTIVE,
        beam_size: int = BeamSettings.beam_size,
        lm_weight: float = BeamSettings.lm_weight,
        n_best: int = 1,
        device: str = "cpu",
    ) -> None:
        self._normalize = partial(normalized, tokenizer) if tokenizer is not None else str
        decoder = decoder or best_decoder(model.inventory, tokenizer, grammar)[0]
        if decoder not in DECODERS:
            raise ConfigError(f"decoder is {decoder!r}, but must be one of {', '.join(DECODERS)}")
        _check_settings(decoder, grammar, insertion_penalty, lm_weight, n_best)
        search_options(beam, max_active)
        self.decoder, self.seconds, self._inventory = decoder, 0.0, model.inventory
        self._n_best, self._beam, self._max_active = n_best, beam, max_active
        law = model.front_end.frame_law(model.subsampling_factor)
        self._frame_seconds = law.frame_shift / model.front_end.sampling_rate
        self.tokenizer = searchable(spelling_of(tokenizer, model.inventory), grammar)
        if decoder == "greedy":
            check_blank(model.inventory)
            if self.tokenizer.words is not None:  # what it finds are the tokens of the lexicon
                self.tokenizer = spelling_of(None, model.inventory)
        model.inventory.check_tokenizer(self.tokenizer, f"the tokenizer of the search with model {model.spec!r}")
        if decoder == "greedy":
            return
        if decoder == "beam":
            settings = BeamSettings(beam_size, beam=beam, lm_weight=lm_weight, word_score=-insertion_penalty)
            self._prefixes = BeamDecoder(model.inventory, vocabulary(self.tokenizer), grammar, settings)
            return
        if grammar is None:
            self._graph = word_loop_graph(
                self.tokenizer, model.inventory, insertion_penalty=insertion_penalty, leave_early=leave_early
            )
        else:
            self._graph = ngram_graph(self.tokenizer, model.inventory, grammar, leave_early=leave_early)
        if decoder == "k2":
            self._k2 = K2Decoder(self._graph, device=device, beam=Beam.of_search(beam, max_active))

    @property
    def graph(self) -> DecodingGraph:
        """The graph that `graph` and `k2` search.

        Raises:
            ConfigError: another decoder, which has none.
        """
        if self.decoder not in ("graph", "k2"):
            raise ConfigError(f"decoder {self.decoder!r} searches no graph; take graph or k2")
        return self._graph

    def decode(self, scores: Iterable[tuple[str, NDArray[np.float32]]]) -> Iterator[Decoded]:
        """What is found in utterances of ids and (T, V) acoustic scores (`AcousticModel.scores`), which are taken and dropped one by one.

        Raises:
            MismatchError: V is not the inventory's, or its units are not the tokenizer's.
            CorpusError: no path survives the beam, or NaN among the scores.
        """
        for part in _parts(scores, K2_BATCH if self.decoder == "k2" else 1):
            began = time.perf_counter()
            lists = self._hypotheses([frames for _, frames in part])
            found = [self._decoded(key, frames, one) for (key, frames), one in zip(part, lists, strict=True)]
            self.seconds += time.perf_counter() - began
            yield from found

    def live(self) -> LiveSearch:
        """The same search for audio that is still coming in.

        Raises:
            ConfigError: a decoder that searches whole utterances.
        """
        if self.decoder == "greedy":
            return LiveGreedy(self._inventory)
        if self.decoder == "graph":
            return LiveDecoder(self._graph, beam=self._beam, max_active=self._max_active)
        raise ConfigError(
            f"decoder {self.decoder!r} searches whole utterances, so it gives no words while they are spoken; take greedy or graph"
        )

    def references(self, transcripts: Mapping[str, str]) -> dict[str, str]:
        """Transcripts as text that is found is compared with them: normalized by the rules of the tokenizer."""
        return {key: self._normalize(transcript) for key, transcript in transcripts.items()}

    def texts(self, scores: Iterable[tuple[str, NDArray[np.float32]]]) -> dict[str, str]:
        """The text of each utterance by its id; as `decode`."""
        return {one.key: one.text for one in self.decode(scores)}

    def _hypotheses(self, scores: Sequence[NDArray[np.float32]]) -> list[list[Hypothesis]]:
        """For each utterance the best sentences, the best first; of the others the words and scores alone."""
        if self.decoder == "greedy":
            return [[greedy_decode(one, self._inventory)] for one in scores]
        if self.decoder == "beam":
            return [self._prefixes.decode(one, self._n_best) for one in scores]
        if self.decoder == "k2":
            return self._k2.decode(scores, self._n_best)
        return [self._through_graph(one) for one in scores]

    def _through_graph(self, scores: NDArray[np.float32]) -> list[Hypothesis]:
        best = graph_decode(scores, self._graph, beam=self._beam, max_active=self._max_active)
        others: list[Hypothesis] = []
        if self._n_best > 1:
            lists = graph_n_best(scores, self._graph, self._n_best, beam=self._beam)
            others = [Hypothesis(words, score, best.classes) for words, score in lists if words != best.words]
        return [best, *others[: self._n_best - 1]]

    def _decoded(self, key: str, scores: NDArray[np.float32], found: Sequence[Hypothesis]) -> Decoded:
        best, *others = found
        words = timed_words(best.words, best.classes, scores, self._frame_seconds, self._inventory, self.tokenizer)
        alternatives = tuple((self.text(one.words), one.score) for one in others)
        return Decoded(key, self.text(best.words), tuple(words), best.score, alternatives)

    def text(self, words: Sequence[str]) -> str:
        """The text of words that were found, which are tokens where the tokenizer has no list of words."""
        if self.tokenizer.words is None:
            return decode_names(self.tokenizer, words)
        return " ".join(words)


def _check_settings(decoder: str, grammar: str | None, insertion_penalty: float, lm_weight: float, n_best: int) -> None:
    if n_best < 1:
        raise ConfigError(f"n_best is {n_best}, but must be at least 1")
    if decoder == "greedy":
        for name, value in (("grammar", grammar), ("insertion_penalty", insertion_penalty), ("n_best", n_best - 1)):
            if value:
                raise ConfigError(
                    f"{name} is given, but greedy decoding takes the best class of each frame and nothing else; use the decoder beam or graph"
                )
    elif decoder == "beam" and grammar is not None and is_acceptor(grammar):
        raise ConfigError(
            f"grammar {grammar!r} is one of sentences ({SUFFIX}), but the decoder beam takes a language model; use the decoder graph"
        )
    elif decoder != "beam" and (why := why_no_penalty(grammar, insertion_penalty)):
        raise ConfigError(f"insertion_penalty {why}")
    if lm_weight != BeamSettings.lm_weight and (decoder != "beam" or grammar is None):
        raise ConfigError(
            f"lm_weight is {lm_weight:g}, but it is for the decoder beam with a grammar; a graph has its grammar's costs, which acoustic_scale weighs"
        )


def _parts(
    scores: Iterable[tuple[str, NDArray[np.float32]]], size: int
) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    rest = iter(scores)
    while part := list(itertools.islice(rest, size)):
        yield part
