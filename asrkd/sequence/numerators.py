"""The numerator graphs of transcripts, each made once while there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asrkd.cache import FillCache
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.graphs import numerators, transcript_acceptor

# Of an arc (itself, its attributes, its state's number) and of the objects around a graph.
_ARC_BYTES, _GRAPH_BYTES = 40, 10_000


class NumeratorGraphs:
    """Makes the graphs of a batch's transcripts (`graphs.numerators`), and keeps the first ones.

    An epoch passes over the transcripts in a new order each time, so the first graphs that fit are kept: the last ones would
    be dropped before their next use.

    Args:
        topology: H, from classes to tokens.
        phone_lm: for LF-MMI, that of its denominator.
        silence: the token of optional silence.
        max_bytes: memory for graphs, as estimated from their arcs.
    """

    def __init__(
        self, topology: Any, phone_lm: Any | None = None, *, silence: int | None = None, max_bytes: int
    ) -> None:
        self._topology, self._phone_lm, self._silence = topology, phone_lm, silence
        self._graphs: FillCache[Any] = FillCache(max_bytes)

    def __call__(self, transcripts: Sequence[str], spell: Callable[[int], Sequence[Sequence[Sequence[int]]]]) -> Any:
        """An FsaVec with one graph a transcript.

        Args:
            transcripts: of the batch; equal ones have equal graphs.
            spell: the pronunciations of each word of transcript n, as tokens; asked for those that are not kept.

        Raises:
            CorpusError: an empty transcript, or a word without tokens.
        """

        def graph(number: int) -> Any:
            def make() -> Any:
                acceptor = transcript_acceptor(spell(number), silence=self._silence)
                return numerators(self._topology, [acceptor], self._phone_lm)[0]

            return self._graphs.get(transcripts[number], make, _size)

        return import_k2().create_fsa_vec([graph(number) for number in range(len(transcripts))])


def _size(graph: Any) -> int:
    return _GRAPH_BYTES + _ARC_BYTES * int(graph.num_arcs)
