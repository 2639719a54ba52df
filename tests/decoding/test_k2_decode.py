from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_helpers import needs_k2

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.k2_decode import K2Decoder
from asrkd.errors import CorpusError, MismatchError
from asrkd.graphs import ngram_graph, word_loop_graph
from asrkd.sequence.lattice import Beam

pytestmark = needs_k2
LEXICON = Lexicon.from_pairs([("x", ["a", "b"]), ("y", ["b", "b"]), ("z", ["b", "a"]), ("w", ["a"]), ("w", ["c"])])
ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1.0 </s>
-99 <s> -0.3
-0.6 x -0.2
-0.4 y -0.1
-0.9 z
-0.7 w -0.5

\\2-grams:
-0.2 <s> y
-0.5 y x
-0.3 x </s>

\\end\\
"""


@pytest.mark.parametrize("grammar", [False, True])
@pytest.mark.parametrize("topology", ["ctc", "hmm"])
def test_both_decoders_find_one_path_of_one_score(topology: str, grammar: bool, tmp_path: Path) -> None:
    inventory = Inventory.from_lexicon(LEXICON, topology)
    (tmp_path / "lm.arpa").write_text(ARPA)
    graph = (
        ngram_graph(LEXICON, inventory, tmp_path / "lm.arpa")
        if grammar
        else word_loop_graph(LEXICON, inventory, insertion_penalty=0.4)
    )
    rng = np.random.default_rng(0)
    lengths = [12, 30, 1, 25]
    log_probs = [np.log(rng.dirichlet(np.full(len(inventory), 0.3), n) + 1e-6).astype(np.float32) for n in lengths]
    log_probs[2] = np.zeros((0, len(inventory)), dtype=np.float32)
    decoder = K2Decoder(graph, beam=Beam(1000.0, 1000.0))
    for (one,), frames in zip(decoder.decode(log_probs), log_probs, strict=True):
        other = graph_decode(frames, graph, beam=1000.0)
        assert other.complete and one.score == pytest.approx(other.score, abs=1e-3)
        assert (one.words, one.classes.tolist()) == (other.words, other.classes.tolist())
    with pytest.raises(MismatchError, match="gives 2 classes"):
        decoder.decode([np.zeros((3, 2), dtype=np.float32)])
    if grammar:
        return
    narrow = K2Decoder(graph, beam=Beam(1e-3, 1e-3, 0, 1))
    with pytest.raises(CorpusError, match="survives the beam"):
        narrow.decode([50 * one for one in log_probs])
