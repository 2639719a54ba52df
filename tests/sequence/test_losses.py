from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

k2 = pytest.importorskip("k2", reason="k2 is not installed; CI runs this on Python 3.10 with k2 1.23.4")

from edit_distance import levenshtein  # noqa: E402
from graph_oracles import finite_difference, path_scores  # noqa: E402

from asrkd.errors import ConfigError, CorpusError  # noqa: E402
from asrkd.sequence.grammar import phone_ngram, word_loop  # noqa: E402
from asrkd.sequence.graphs import decoding_graph, denominator, numerators, transcript_acceptor  # noqa: E402
from asrkd.sequence.lattice import Beam, confidences, lattices, occupancies, total_scores  # noqa: E402
from asrkd.sequence.losses import mmi, mwer, smbr  # noqa: E402
from asrkd.sequence.topology import hmm_topology  # noqa: E402

STATES = [[0], [1, 2], [3]]
LENGTHS = torch.tensor([4, 5, 3])
SPELLED = [[[[2]], [[3]]], [[[3]], [[2]]], [[[2], [3]]]]
SEQUENCES = [[1, 2, 3], [3, 2], [2, 1], [2, 3], [3, 1, 2, 1], [1, 3], [2], [1]]
ALIGNMENT = torch.tensor([[1, 2, 2, 3, -1], [3, 3, 1, 2, 0], [1, 1, 2, -1, -1]])
GREAT = Beam(search=1e6, output=1e6, max_active=100000)


def batch(seed: int = 0) -> Tensor:
    return torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def graphs(order: int = 2) -> tuple[Any, Any]:
    """Numerators and denominator of LF-MMI."""
    topology, lm = hmm_topology(STATES), phone_ngram(SEQUENCES, order)
    acceptors = [transcript_acceptor(one, silence=1) for one in SPELLED]
    return numerators(topology, acceptors, lm), denominator(topology, lm)


def word_graph() -> Any:
    words = [(1, [2]), (2, [3]), (3, [3, 3])]
    return decoding_graph(
        hmm_topology(STATES), words, word_loop({1: 0.5, 2: 0.7, 3: 1.0}), num_tokens=3, num_words=3, silence=1
    )


def dense_total(graph: Any, scores: Tensor) -> Tensor:
    return path_scores(graph, scores)[1].logsumexp(0)


def forward_total(graph: Any, scores: Tensor) -> Tensor:
    """The forward algorithm in log space, state by state."""
    arcs = [(*arc, score) for arc, score in zip(graph.arcs.values()[:, :3].tolist(), graph.scores.tolist())]  # noqa: B905
    alpha = torch.full((graph.shape[0],), -torch.inf, dtype=scores.dtype)
    alpha[0] = 0.0
    for frame in scores:
        after = torch.full_like(alpha, -torch.inf)
        for source, target, label, score in arcs:
            if label >= 0:
                after[target] = torch.logaddexp(after[target], alpha[source] + score + frame[label])
        alpha = after
    ends = [alpha[source] + score for source, _, label, score in arcs if label == -1]
    return torch.stack(ends).logsumexp(0)


@pytest.mark.parametrize("beam", [None, GREAT])
def test_total_scores_equal_the_forward_algorithm_and_every_path(beam: Beam | None) -> None:
    shared = word_graph()
    scores = batch()
    totals = total_scores(lattices(scores, LENGTHS, shared, beam=beam))
    assert totals.dtype == torch.float64
    for n, length in enumerate(LENGTHS.tolist()):
        own = scores[n, :length].double()
        assert forward_total(shared, own).item() == pytest.approx(dense_total(shared, own).item(), abs=1e-9)
        assert totals[n].item() == pytest.approx(forward_total(shared, own).item(), abs=1e-5)


def dense_mmi(number: int, num: Any, den: Any, scores: Tensor, boost: float = 0.0) -> Tensor:
    length = int(LENGTHS[number])
    boosted = scores.clone()
    boosted[range(length), ALIGNMENT[number, :length]] -= boost
    return dense_total(den, boosted) - dense_total(num[number], scores)


@pytest.mark.parametrize("boost", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["lf-mmi bigram", "lf-mmi trigram", "mmi"])
def test_mmi_equals_enumeration_and_finite_differences(kind: str, boost: float) -> None:
    num, den = graphs(3 if "trigram" in kind else 2)
    if kind == "mmi":
        num, den = numerators(hmm_topology(STATES), [transcript_acceptor(s, silence=1) for s in SPELLED]), word_graph()
    scores = batch().requires_grad_()
    found = mmi(scores, LENGTHS, num, den, boost=boost, alignment=ALIGNMENT)
    assert not found.skipped
    found.losses.sum().backward()
    for n, length in enumerate(LENGTHS.tolist()):
        own = batch()[n, :length].double().requires_grad_()
        expected = dense_mmi(n, num, den, own, boost)
        (gradient,) = torch.autograd.grad(expected, own)
        numeric = finite_difference(lambda at, n=n: dense_mmi(n, num, den, at, boost), own.detach())
        torch.testing.assert_close(gradient, numeric, rtol=0, atol=1e-8)
        assert found.losses[n].item() == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(scores.grad[n, :length].double(), gradient, rtol=0, atol=1e-5)
        assert not scores.grad[n, length:].any()


def dense_risk(number: int, graph: Any, scores: Tensor, ignore: tuple[int, ...] = ()) -> Tensor:
    right = ALIGNMENT[number, : len(scores)].tolist()
    paths, totals = path_scores(graph, scores)
    wrong = [sum(a != b and b not in ignore for a, b in zip(path, right)) for path in paths]  # noqa: B905
    return (totals.softmax(0) * torch.tensor(wrong, dtype=scores.dtype)).sum()


@pytest.mark.parametrize("ignore", [(), (0,)])
def test_smbr_equals_enumeration_and_finite_differences(ignore: tuple[int, ...]) -> None:
    graph = word_graph()
    scores = batch().requires_grad_()
    found = smbr(scores, LENGTHS, graph, ALIGNMENT, ignore=ignore)
    assert not found.skipped
    found.losses.sum().backward()
    for n, length in enumerate(LENGTHS.tolist()):
        own = batch()[n, :length].double().requires_grad_()
        expected = dense_risk(n, graph, own, ignore)
        (gradient,) = torch.autograd.grad(expected, own)
        numeric = finite_difference(lambda at, n=n: dense_risk(n, graph, at, ignore), own.detach())
        torch.testing.assert_close(gradient, numeric, rtol=0, atol=1e-8)
        assert found.losses[n].item() == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(scores.grad[n, :length].double(), gradient, rtol=0, atol=1e-5)


def test_the_gradient_of_mwer_is_its_slope_and_leads_down() -> None:
    graph = word_graph()
    words = [[1, 2], [2, 1], [3]]

    def at(scores: Tensor) -> Tensor:
        found = mwer(scores, LENGTHS, graph, words, beam=GREAT, num_paths=2000, nbest_scale=0.3)
        assert not found.skipped
        return found.losses

    scores = batch(3).requires_grad_()
    first = at(scores)
    first.sum().backward()
    gradient, step = scores.grad, 0.02
    with torch.no_grad():
        slope = (at(scores + step * gradient) - at(scores - step * gradient)).sum() / (2 * step)
        assert slope.item() == pytest.approx(gradient.square().sum().item(), rel=0.05)
        assert (at(scores - 2 * gradient) < first).all()


def test_mwer_equals_enumeration_where_words_have_one_path_each() -> None:
    # A word a frame, so that k2, which keeps one of the paths that it draws for a word sequence, has them all.
    loop = "0 0 0 1 -0.1\n0 0 1 2 -0.3\n0 0 2 3 -0.2\n0 0 3 4 -0.5\n0 1 -1 -1 0\n1"
    graph = k2.arc_sort(k2.Fsa.from_str(loop, aux_label_names=["aux_labels"]))
    lengths, words = torch.tensor([3, 2, 3]), [[1, 2], [4], [1, 1, 3]]
    scores = batch(5).requires_grad_()
    found = mwer(scores, lengths, graph, words, beam=GREAT, num_paths=20000, nbest_scale=0.1)
    found.losses.sum().backward()
    for n, length in enumerate(lengths.tolist()):
        own = batch(5)[n, :length].double().requires_grad_()
        paths, totals = path_scores(graph, own)
        errors = [levenshtein(tuple(label + 1 for label in path), words[n]) for path in paths]
        expected = (totals.softmax(0) * torch.tensor(errors, dtype=torch.float64)).sum()
        (gradient,) = torch.autograd.grad(expected, own)
        assert found.losses[n].item() == pytest.approx(expected.item(), abs=1e-5)
        torch.testing.assert_close(scores.grad[n, :length].double(), gradient, rtol=0, atol=1e-5)


def test_occupancies_and_confidences_equal_enumeration() -> None:
    graph = word_graph()
    scores = batch()
    found = occupancies(scores, LENGTHS, graph)
    sure = confidences(lattices(scores, LENGTHS, graph))
    for n, length in enumerate(LENGTHS.tolist()):
        paths, totals = path_scores(graph, scores[n, :length].double())
        expected = torch.zeros(5, 4, dtype=torch.float64)
        for path, chance in zip(paths, totals.softmax(0)):  # noqa: B905
            expected[range(length), list(path)] += chance
        torch.testing.assert_close(found[n].double(), expected, rtol=0, atol=1e-5)
        assert sure[n].item() == pytest.approx(float(totals.softmax(0).max()), abs=1e-5)


def test_rejected_frames_have_no_gradient_and_others_keep_theirs() -> None:
    num, den = graphs()
    scores = batch()
    right = ALIGNMENT.clamp_min(0)
    chance = occupancies(scores, LENGTHS, den).gather(2, right[..., None])[..., 0]
    limit = float(chance[ALIGNMENT >= 0].median())
    plain, kept = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    mmi(plain, LENGTHS, num, den).losses.sum().backward()
    found = mmi(kept, LENGTHS, num, den, reject=limit, alignment=ALIGNMENT)
    found.losses.sum().backward()
    rejected = (chance < limit) & (ALIGNMENT >= 0)
    assert rejected.any() and not rejected.all()
    assert not kept.grad[rejected].any()
    torch.testing.assert_close(kept.grad[~rejected], plain.grad[~rejected])
    assert plain.grad[rejected].abs().sum() > 0


def test_utterances_without_paths_are_skipped_and_named_and_others_are_as_alone() -> None:
    num, den = graphs()
    scores, lengths = batch().requires_grad_(), torch.tensor([4, 5, 1])
    # One frame is too few for utterance 2's words of HMM states 1 and 2, enough for the phone of one state.
    short = numerators(
        hmm_topology(STATES),
        [transcript_acceptor(one, silence=1) for one in [*SPELLED[:2], [[[2]]]]],
        phone_ngram(SEQUENCES),
    )
    found = mmi(scores, lengths, short, den)
    assert list(found.skipped) == [2] and "too few frames" in found.skipped[2]
    found.losses.sum().backward()
    assert found.losses[2] == 0 and torch.isfinite(scores.grad).all() and not scores.grad[2].any()
    alone = mmi(batch()[:2], lengths[:2], k2.index_fsa(short, torch.tensor([0, 1], dtype=torch.int32)), den)
    torch.testing.assert_close(found.losses[:2], alone.losses)
    with_one = smbr(batch(), torch.tensor([4, 5, 1]), two_state_graph(), ALIGNMENT)
    assert list(with_one.skipped) == [2] and "lattice is empty" in with_one.skipped[2]
    errors = mwer(batch(), torch.tensor([4, 5, 1]), two_state_graph(), [[1], [], [1]], beam=GREAT, num_paths=100)
    assert "transcript is empty" in errors.skipped[1] and "lattice is empty" in errors.skipped[2]
    assert errors.losses[1] == errors.losses[2] == 0


def two_state_graph() -> Any:
    """Words that need two frames at least."""
    return decoding_graph(hmm_topology(STATES), [(1, [2])], word_loop({1: 0.5}), num_tokens=3, num_words=1)


def test_too_narrow_a_beam_gives_no_nan() -> None:
    scores = (50 * torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
    found = smbr(
        scores, LENGTHS, word_graph(), ALIGNMENT, beam=Beam(search=1e-3, output=1e-3, min_active=0, max_active=1)
    )
    found.losses.sum().backward()
    assert torch.isfinite(found.losses).all() and torch.isfinite(scores.grad).all()
    assert found.skipped and all("widen the beam" in why for why in found.skipped.values())


def test_what_cannot_be_used_is_refused() -> None:
    num, den = graphs()
    with pytest.raises(ConfigError, match="give the alignment"):
        mmi(batch(), LENGTHS, num, den, boost=0.1)
    with pytest.raises(CorpusError, match=r"alignment is of shape \(3, 4\)"):
        smbr(batch(), LENGTHS, den, ALIGNMENT[:, :4])
    with pytest.raises(CorpusError, match="utterance 1 of the batch has no frames"):
        mmi(batch(), torch.tensor([4, 0, 3]), num, den)
    with pytest.raises(ConfigError, match="graph has class 3, the model gives 3"):
        smbr(batch()[..., :3], LENGTHS, den, ALIGNMENT)
    with pytest.raises(CorpusError, match="hold NaN"):
        smbr(batch() * torch.nan, LENGTHS, den, ALIGNMENT)
    with pytest.raises(ConfigError, match="beams must be above 0"):
        Beam(search=0.0)
