"""Decoding: from the acoustic scores of one utterance to words or tokens."""

from __future__ import annotations

from dataclasses import dataclass

import kaldi_decoder
import kaldifst
import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.graphs import DecodingGraph

# Of Kaldi's decoder, in nats and states a frame.
BEAM, MAX_ACTIVE = 24.0, 7000
# What is further below the best path is not among an n-best list.
_LATTICE_BEAM = 10.0


@dataclass(frozen=True)
class Hypothesis:
    """The best path of one utterance.

    Attributes:
        words: the words.
        score: log score of the path: scaled acoustic scores less graph costs.
        classes: (T,) class id of each frame on the path.
        complete: whether the path ends at a word's end; otherwise it is the best one cut off by the end of the audio.
    """

    words: tuple[str, ...]
    score: float
    classes: NDArray[np.int64]
    complete: bool = True


def graph_decode(
    scores: NDArray[np.float32],
    graph: DecodingGraph,
    *,
    beam: float = BEAM,
    max_active: int = MAX_ACTIVE,
) -> Hypothesis:
    """Best path through a graph by Kaldi's token-passing decoder (`kaldi_decoder.FasterDecoder`).

    Args:
        scores: (T, V) acoustic scores (`AcousticModel.scores`).
        beam: log-score beam.
        max_active: states kept a frame.

    Raises:
        MismatchError: V is not the graph's inventory's.
        CorpusError: no path survives the beam, or the scores hold NaN.
        ConfigError: a beam or number of states that cannot be used.
    """
    scores = check_scores(scores, graph.inventory)
    if not len(scores):
        return Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))
    decoder = kaldi_decoder.FasterDecoder(graph.fst, search_options(beam, max_active))
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    return hypothesis_of(decoder, graph, len(scores), ended=True)


def graph_n_best(
    scores: NDArray[np.float32], graph: DecodingGraph, count: int, *, beam: float = BEAM
) -> list[tuple[tuple[str, ...], float]]:
    """The `count` best word sequences with their scores, the best first, by Kaldi's lattices; fewer where the beam holds no more.

    Kaldi's decoder that makes lattices has no `max_active`.

    Raises:
        As `graph_decode`.
    """
    scores = check_scores(scores, graph.inventory)
    if not len(scores):
        return [((), 0.0)]
    search_options(beam, MAX_ACTIVE)
    decoder = kaldi_decoder.LatticeSimpleDecoder(
        graph.fst, kaldi_decoder.LatticeSimpleDecoderConfig(beam=beam, lattice_beam=min(beam, _LATTICE_BEAM))
    )
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    found, lattice = decoder.get_raw_lattice(True)
    if not found:
        raise CorpusError(f"no path survives the beam over {len(scores)} frames; widen the beam")
    lines = []
    for line in lattice.to_str(show_weight_one=True, fst_field_separator=" ").splitlines():
        *places, weight = line.split(" ")
        cost = sum(map(float, weight.split(",")))
        # An acceptor of words: from, to, and the word twice.
        lines.append(f"{places[0]} {cost}" if len(places) == 1 else " ".join([*places[:2], *places[3:] * 2, str(cost)]))
    words = kaldifst.compile(s="\n".join(lines), acceptor=False)
    kaldifst.determinize_star(words)
    paths = []
    for path in kaldifst.convert_nbest_to_vector(kaldifst.shortest_path(words, n=count)):
        _, labels, _, cost = kaldifst.get_linear_symbol_sequence(path)
        paths.append((tuple(graph.words[label] for label in labels), -float(cost.value)))
    return sorted(paths, key=lambda one: -one[1])


def search_options(beam: float, max_active: int) -> kaldi_decoder.FasterDecoderOptions:
    """Kaldi's options.

    Raises:
        ConfigError: a beam that is not above 0, or fewer than 2 states.
    """
    if not beam > 0 or max_active < 2:
        raise ConfigError(f"beam is {beam} and max_active {max_active}, but they must be above 0 and at least 2")
    return kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=max_active, min_active=min(20, max_active - 1))


def check_scores(scores: NDArray[np.float32], inventory: Inventory) -> NDArray[np.float32]:
    """(T, V) acoustic scores, as the decoders take them.

    Raises:
        MismatchError: V is not the inventory's.
        CorpusError: NaN among the scores.
    """
    if scores.shape[1] != len(inventory):
        raise MismatchError(
            f"the model gives {scores.shape[1]} classes, the search was made for {len(inventory)}; "
            "make it of the model's own inventory"
        )
    scores = np.ascontiguousarray(scores, dtype=np.float32)
    if np.isnan(scores).any():
        raise CorpusError("the acoustic scores hold NaN; the model or its input is broken")
    return scores


def hypothesis_of(
    decoder: kaldi_decoder.FasterDecoder, graph: DecodingGraph, num_frames: int, *, ended: bool
) -> Hypothesis:
    """The best path of a decoder that has read `num_frames`; with `ended`, of paths that end at a word's end, if there is one.

    Raises:
        CorpusError: no path survives the beam.
    """
    found, lattice = decoder.get_best_path(ended)
    if not found:
        raise CorpusError(f"no path survives the beam over {num_frames} frames; widen the beam or raise max_active")
    _, ilabels, olabels, weight = kaldifst.get_linear_symbol_sequence(lattice)
    words = tuple(graph.words[label] for label in olabels)
    return Hypothesis(
        words,
        -float(weight.value1 + weight.value2),
        np.array(ilabels, dtype=np.int64) - 1,
        bool(decoder.reached_final()),
    )
