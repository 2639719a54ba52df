from __future__ import annotations

import random
from typing import Any

import pytest
import torch

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")

from asrkd.errors import CorpusError  # noqa: E402
from asrkd.sequence.grammar import phone_ngram  # noqa: E402
from asrkd.sequence.graphs import denominator, numerators, transcript_acceptor  # noqa: E402
from asrkd.sequence.losses import mmi  # noqa: E402
from asrkd.sequence.numerators import NumeratorGraphs  # noqa: E402
from asrkd.sequence.topology import hmm_topology  # noqa: E402

TOPOLOGY = hmm_topology([[0], [1, 2], [3]])
SPELLED: dict[str, list[list[list[int]]]] = {
    "a b": [[[2]], [[3]]],
    "b a": [[[3]], [[2]]],
    "c": [[[2], [3]]],
    "a c": [[[2]], [[2], [3, 2]]],
    "b": [[[3]]],
}
PHONE_LM = phone_ngram([[1, 2, 3], [3, 2], [2, 1], [2, 3], [3, 1, 2, 1], [1, 3], [2], [1]], 2)


def batches() -> list[list[str]]:
    rng = random.Random(0)
    return [rng.choices(list(SPELLED), k=3) for _ in range(8)]


def rebuilt(texts: list[str], phone_lm: Any) -> Any:
    """What training did before graphs were kept."""
    return numerators(TOPOLOGY, [transcript_acceptor(SPELLED[text], silence=1) for text in texts], phone_lm)


@pytest.mark.parametrize("phone_lm", [None, PHONE_LM])
@pytest.mark.parametrize("room", [0, 25_000, 10**9])
def test_losses_and_gradients_are_those_of_graphs_built_again_bit_for_bit(phone_lm: Any, room: int) -> None:
    graphs, total = (
        NumeratorGraphs(TOPOLOGY, phone_lm, silence=1, max_bytes=room),
        denominator(TOPOLOGY, PHONE_LM),
    )
    for number, texts in enumerate(batches()):
        results = []
        made = graphs(texts, lambda n, texts=texts: SPELLED[texts[n]])  # type: ignore[misc]
        for graph in (made, rebuilt(texts, phone_lm)):
            scores = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(number)).requires_grad_()
            found = mmi(scores.log_softmax(-1), torch.tensor([7, 5, 6]), graph, total)
            found.losses.sum().backward()
            results.append((found.losses.detach(), scores.grad, found.skipped))
        (losses, gradient, skipped), (expected, same, as_well) = results
        assert torch.equal(losses, expected) and torch.equal(gradient, same) and skipped == as_well


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (25_000, 2), (10**9, 5)])
def test_a_transcript_is_spelled_once_if_there_is_room(room: int, kept: int) -> None:
    graphs, asked = NumeratorGraphs(TOPOLOGY, silence=1, max_bytes=room), []

    def of(text: str) -> Any:
        def spell(number: int) -> list[list[list[int]]]:
            asked.append(text)
            return SPELLED[text]

        return graphs([text], spell)

    for _ in range(3):
        for text in SPELLED:
            assert of(text).arcs.values().tolist() == rebuilt([text], None).arcs.values().tolist()
    once = [text for text in SPELLED if asked.count(text) == 1]
    assert once == list(SPELLED)[:kept] and len(asked) == kept + 3 * (len(SPELLED) - kept)


def test_a_transcript_that_cannot_be_made_is_refused_each_time() -> None:
    graphs = NumeratorGraphs(TOPOLOGY, silence=1, max_bytes=10**9)
    for _ in range(2):
        with pytest.raises(CorpusError, match="a transcript is empty, or has a word without tokens"):
            graphs([""], lambda number: [])
