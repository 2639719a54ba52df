"""Search: from the acoustic scores of utterances to text, through a graph of a lexicon's words."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.decoding.decode import BEAM, MAX_ACTIVE, Hypothesis, graph_decode, search_options
from asrkd.decoding.k2_decode import K2Decoder
from asrkd.errors import ConfigError
from asrkd.graphs import ngram_graph, word_loop_graph
from asrkd.sequence.lattice import Beam

DECODERS = ("kaldi", "k2")
# Utterances that k2 decodes at a time.
K2_BATCH = 32


class Search:
    """A graph of words, and who searches it.

    Args:
        lexicon: the words.
        model: whose scores are searched: of its inventory, and of its weights at the time of the search where a search runs a part of the model itself.
        grammar: an ARPA file, in place of the loop of all words.
        insertion_penalty: cost of every word of the loop, in nats.
        leave_early: an `hmm` phone may end after any of its states.
        beam: of the search, in nats.
        max_active: states kept a frame.
        decoder: `kaldi` or `k2`.
        device: where k2 searches; kaldi-decoder runs on a CPU.

    Attributes:
        graph: what is searched.
        seconds: that searching has taken so far.

    Raises:
        CorpusError: a grammar that cannot be used.
        ConfigError: an unknown decoder, a beam or number of states that cannot be used, or an insertion penalty for a grammar.
        DependencyError: k2 or kaldilm is needed and not installed, or k2 has no CUDA.
    """

    def __init__(
        self,
        lexicon: Tokenizer,
        model: AcousticModel,
        *,
        grammar: str | None = None,
        insertion_penalty: float = 0.0,
        leave_early: bool = False,
        beam: float = BEAM,
        max_active: int = MAX_ACTIVE,
        decoder: str = "kaldi",
        device: str = "cpu",
    ) -> None:
        if decoder not in DECODERS:
            raise ConfigError(f"decoder is {decoder!r}, but must be one of {', '.join(DECODERS)}")
        if grammar is not None and insertion_penalty:
            raise ConfigError(
                f"insertion_penalty is {insertion_penalty:g}, but it is for the loop of words; a grammar has costs for words already, so leave it out"
            )
        search_options(beam, max_active)
        if grammar is None:
            self.graph = word_loop_graph(
                lexicon, model.inventory, insertion_penalty=insertion_penalty, leave_early=leave_early
            )
        else:
            self.graph = ngram_graph(lexicon, model.inventory, grammar, leave_early=leave_early)
        self.seconds = 0.0
        self._beam, self._max_active = beam, max_active
        self._k2: K2Decoder | None = None
        if decoder == "k2":
            self._k2 = K2Decoder(self.graph, device=device, beam=Beam.of_search(beam, max_active))

    def texts(self, scores: Iterable[tuple[str, NDArray[np.float32]]]) -> dict[str, str]:
        """Text by utterance id, of ids and (T, V) acoustic scores (`AcousticModel.scores`), which are taken and dropped one by one.

        Raises:
            MismatchError: V is not the inventory's.
            CorpusError: no path survives the beam, or NaN among the scores.
        """
        found: dict[str, str] = {}
        for part in _parts(scores, K2_BATCH if self._k2 else 1):
            began = time.perf_counter()
            paths = self._paths([frames for _, frames in part])
            found |= {key: self.graph.text(path.words) for (key, _), path in zip(part, paths, strict=True)}
            self.seconds += time.perf_counter() - began
        return found

    def _paths(self, scores: Sequence[NDArray[np.float32]]) -> list[Hypothesis]:
        if self._k2:
            return self._k2.decode(scores)
        return [graph_decode(one, self.graph, beam=self._beam, max_active=self._max_active) for one in scores]


def _parts(
    scores: Iterable[tuple[str, NDArray[np.float32]]], size: int
) -> Iterator[list[tuple[str, NDArray[np.float32]]]]:
    rest = iter(scores)
    while part := list(itertools.islice(rest, size)):
        yield part
