from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from speech_helpers import LEXICON, PHONES

from asrkd.alignment.features import frame_law
from asrkd.alignment.frames import frame_labels, nearest_frames
from asrkd.alignment.phone_graph import Costs, phone_graph, viterbi_paths
from asrkd.alignment.phone_model import num_states, spell_phones
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokens import Tokens

COSTS = Costs(*(np.log(np.full(size, 0.5)) for size in (num_states(len(PHONES)),) * 2 + (3, 2, 2)))
FINE = frame_law(16000)


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.sampled_from(LEXICON.words), min_size=1, max_size=4),
    extra=st.integers(0, 60),
    stack=st.sampled_from([1, 3, 4]),
    subsampling=st.sampled_from([1, 2]),
    states=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_labels_are_what_the_path_says_at_the_centers_of_frames(
    words: list[str], extra: int, stack: int, subsampling: int, states: int, seed: int
) -> None:
    graph = phone_graph(spell_phones(" ".join(words), LEXICON, PHONES, what="text"))
    frames = graph.min_frames + extra
    scores = np.random.default_rng(seed).normal(size=(frames, num_states(len(PHONES)))).astype(np.float32) * 5
    ((nodes, _),) = viterbi_paths([scores], [graph], COSTS)
    law = FrontEnd(stack=stack, stride=stack).frame_law(subsampling)
    samples = FINE.window + (frames - 1) * FINE.shift
    at = nearest_frames(law, law.num_frames(samples), FINE, frames)
    middle = (np.arange(len(at)) * stack * subsampling + (stack - 1 + stack * (subsampling - 1)) / 2) * 160 + 200
    # The last frames of a subsampling model may reach beyond the audio.
    assert (np.abs(np.minimum(middle, samples - 200) - (at * 160 + 200)) <= 80).all()
    inventory = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=states)
    labels = frame_labels(nodes, graph, at, PHONES, inventory)
    tokens = [0 if label == 0 else 1 + (label - 1) // states for label in labels]
    assert tokens == [0 if state == 0 else 1 + (state - 1) // 3 for state in graph.states[nodes][at]]
    # Within a phone: from the first state, one by one, to the last where the frames suffice.
    phones = graph.phones[nodes][at]
    for phone in set(phones[phones >= 0]):
        own = (labels[phones == phone] - 1) % states
        assert own[0] == 0 and set(np.diff(own)) <= {0, 1}
        assert len(own) < states or own[-1] == states - 1


def test_the_tokens_of_an_alignment_are_those_of_the_transcript() -> None:
    graph = phone_graph(spell_phones("mass seam", LEXICON, PHONES, what="text"))
    scores = np.zeros((90, num_states(len(PHONES))), dtype=np.float32)
    ((nodes, _),) = viterbi_paths([scores], [graph], COSTS)
    inventory = Inventory.from_lexicon(LEXICON, "hmm", states_per_phone=2)
    labels = frame_labels(nodes, graph, np.arange(90), PHONES, inventory)
    read = [token for token in Tokens.of(inventory).read(labels) if token != 1]
    assert [Tokens.of(inventory).names[token - 1] for token in read] == list("mas") + list("sim")


@settings(max_examples=20, deadline=None)
@given(words=st.lists(st.sampled_from(LEXICON.words), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_the_search_finds_the_best_path(words: list[str], seed: int) -> None:
    graph = phone_graph(spell_phones(" ".join(words), LEXICON, PHONES, what="text"))
    rng = np.random.default_rng(seed)
    frames, size = graph.min_frames + int(rng.integers(0, 8)), len(graph.states)
    scores = rng.normal(size=(frames, num_states(len(PHONES)))).astype(np.float32)
    costs = Costs(*(np.log(rng.uniform(0.1, 0.9, len(own))) for own in vars(COSTS).values()))
    # Every move at once, as a matrix.
    moves = np.full((size, size), -np.inf)
    leave = np.where(graph.loops, costs.leave[graph.states], 0.0)
    for node in range(size):
        if graph.loops[node]:
            moves[node, node] = costs.stay[graph.states[node]]
        if graph.follows[node]:
            moves[node - 1, node] = leave[node - 1]
    for target, source, kind in graph.entries:
        moves[source, target] = leave[source] + costs.between[kind]
    best = np.where(graph.initial >= 0, costs.begin[graph.initial], -np.inf) + scores[0, graph.states]
    for t in range(1, frames):
        best = (best[:, None] + moves).max(axis=0) + scores[t, graph.states]
    wanted = (best + np.where(graph.final >= 0, costs.end[graph.final] + leave, -np.inf)).max()
    # Next to another utterance, shorter and longer, in one batch.
    others = [rng.normal(size=(n, scores.shape[1])).astype(np.float32) for n in (graph.min_frames, frames + 5)]
    ((nodes, score),) = viterbi_paths([others[0], scores, others[1]], [graph] * 3, costs)[1:2]
    assert np.isclose(score, wanted)
    steps = moves[nodes[:-1], nodes[1:]].sum() + scores[np.arange(frames), graph.states[nodes]].sum()
    ends = costs.begin[graph.initial[nodes[0]]] + costs.end[graph.final[nodes[-1]]] + leave[nodes[-1]]
    assert np.isclose(steps + ends, wanted)
