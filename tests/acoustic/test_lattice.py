from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from graph_helpers import needs_k2, trained

from asrkd.acoustic import load_model
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import ModelError
from asrkd.graphs import word_loop_graph
from asrkd.labeling.job import run as label
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.verify import verify

EXACT = {"exact": True}
BEAMS = pytest.param({"search_beam": 1e3, "output_beam": 1e3}, marks=needs_k2, id="beams")


@pytest.fixture(scope="module", params=["hmm", "ctc"])
def model(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(corpus, tmp_path_factory.mktemp(request.param), request.param)


def spec(folder: Path, corpus: Path, model: Path, **changes: object) -> str:
    content = {"teacher": f"checkpoint:{model}", "lexicon": str(corpus / "lexicon.txt")} | changes
    path = folder / f"lattice-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(content))
    return f"lattice:{path}"


def all_paths(scores: np.ndarray, lexicon: Lexicon, inventory) -> np.ndarray:
    """(T, V) posteriors of the classes, by a forward-backward pass over the whole word loop (with epsilons), in double precision."""
    text = word_loop_graph(lexicon, inventory).fst.to_str(show_weight_one=True, fst_field_separator=" ")
    rows = [line.split() for line in text.splitlines() if line]
    arcs = [(int(a), int(b), int(i), float(w)) for a, b, i, _, w in (row for row in rows if len(row) == 5)]
    final = {int(row[0]): float(row[1]) for row in rows if len(row) == 2}
    states = 1 + max(max(a, b) for a, b, _, _ in arcs)
    moving = [arc for arc in arcs if arc[2]]
    free = [arc for arc in arcs if not arc[2]]

    def closed(alpha: np.ndarray, backward: bool) -> np.ndarray:
        # Epsilon arcs lead from a word's end to a beginning and no further.
        after = alpha.copy()
        for a, b, _, w in free:
            a, b = (b, a) if backward else (a, b)
            after[b] = np.logaddexp(after[b], alpha[a] - w)
        return after

    start = np.full(states, -np.inf)
    start[0] = 0.0
    forward = [closed(start, False)]
    for frame in scores:
        after = np.full(states, -np.inf)
        for a, b, i, w in moving:
            after[b] = np.logaddexp(after[b], forward[-1][a] - w + frame[i - 1])
        forward.append(closed(after, False))
    end = np.full(states, -np.inf)
    for state, weight in final.items():
        end[state] = -weight
    total = np.logaddexp.reduce(forward[-1] + end)
    beta, found = closed(end, True), np.zeros(scores.shape)
    for t in range(len(scores) - 1, -1, -1):
        before = np.full(states, -np.inf)
        for a, b, i, w in moving:
            score = beta[b] - w + scores[t, i - 1]
            found[t, i - 1] += np.exp(forward[t][a] + score - total)
            before[a] = np.logaddexp(before[a], score)
        beta = closed(before, True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("paths", [pytest.param(EXACT, id="exact"), BEAMS])
def test_posteriors_are_those_of_the_word_graph(
    corpus: Path, model: Path, tmp_path: Path, paths: dict[str, object]
) -> None:
    lattice = load_model(spec(tmp_path, corpus, model, acoustic_scale=0.5, **paths))
    below = load_model(f"checkpoint:{model}")
    prior = 0.0
    if below.inventory.topology.needs_prior:
        prior = torch.load(model / "final.pt", weights_only=True)["log_prior"].numpy()
    features = torch.randn(2, 20, below.front_end.feature_dim, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([20, 13])
    found, out_lengths = lattice.log_probs(features, lengths)
    plain, _ = below.log_probs(features, lengths)
    assert out_lengths.tolist() == [20, 13]
    lexicon = Lexicon.read(corpus / "lexicon.txt")
    for n, length in enumerate(out_lengths.tolist()):
        scores = 0.5 * (plain[n, :length].numpy().astype(np.float64) - prior)
        expected = all_paths(scores, lexicon, below.inventory)
        np.testing.assert_allclose(expected.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(found[n, :length].exp().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("model", ["ctc"], indirect=True)
def test_posteriors_are_those_of_a_grammar_of_sentences(corpus: Path, model: Path, tmp_path: Path) -> None:
    """Every labeling of a few frames, counted with the sentences that it spells: `low high` and `up` are spelled alike."""
    grammar = tmp_path / "sentences.fst.txt"
    grammar.write_text("0 1 low 0.5\n1 2 high 0.25\n0 2 up 1\n2 3 low\n2 0.75\n3\n")
    sentences = {"l h": math.exp(-0.5 - 0.25 - 0.75) + math.exp(-1 - 0.75), "l h l": math.exp(-0.75) + math.exp(-1)}
    lattice = load_model(spec(tmp_path, corpus, model, grammar=str(grammar), acoustic_scale=0.7, **EXACT))
    below = load_model(f"checkpoint:{model}")
    names = below.inventory.units
    features = torch.randn(2, 7, below.front_end.feature_dim, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([7, 4])
    found, out_lengths = lattice.log_probs(features, lengths)
    plain, _ = below.log_probs(features, lengths)
    for n, length in enumerate(out_lengths.tolist()):
        expected = np.zeros((length, len(names)))
        for labeling in itertools.product(range(len(names)), repeat=length):
            collapsed = [label for label, _ in itertools.groupby(labeling) if label]
            weight = sentences.get(" ".join(names[label] for label in collapsed), 0.0)
            weight *= math.exp(0.7 * sum(float(plain[n, t, label]) for t, label in enumerate(labeling)))
            expected[range(length), labeling] += weight
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[n, :length].exp().numpy(), expected, atol=1e-5)


def test_a_store_of_lattice_posteriors(corpus: Path, model: Path, tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    teacher = spec(tmp_path, corpus, model, **EXACT)
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=teacher, codec="nucleus:0.99:8", embed="audio")
    label(Local(Store.open(root)))
    assert not verify(root)
    rows = list(Store.open(root).rows())
    assert len(rows) == 20 and all(0 < row["confidence"] <= 1 for row in rows)


def test_the_graph_is_part_of_the_teachers_identity(corpus: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("low l\nhigh h\n")
    found = {
        load_model(spec(tmp_path, corpus, model, **EXACT | changes)).fingerprint
        for changes in (
            {},
            {"acoustic_scale": 0.5},
            {"lexicon": str(tmp_path / "other.txt")},
            {"insertion_penalty": 1.0},
        )
    }
    assert len(found) == 4


def test_an_ensemble_has_the_mean_of_its_members_priors(corpus: Path, model: Path, tmp_path: Path) -> None:
    members = tmp_path / "members.yaml"
    members.write_text(yaml.safe_dump({"teachers": [{"spec": f"checkpoint:{model}"}] * 2, "domain": "probability"}))
    single = load_model(spec(tmp_path, corpus, model, **EXACT))
    twice = load_model(spec(tmp_path, corpus, model, **EXACT, teacher=f"ensemble:{members}"))
    features = torch.randn(1, 15, single.front_end.feature_dim, generator=torch.Generator().manual_seed(0))
    expected, _ = single.log_probs(features, torch.tensor([15]))
    found, _ = twice.log_probs(features, torch.tensor([15]))
    np.testing.assert_allclose(found.exp(), expected.exp(), atol=1e-5)
    members.write_text(yaml.safe_dump({"teachers": [{"spec": "python:a:b"}]}))
    if "hmm" in str(model):
        with pytest.raises(ModelError, match="cannot be imported"):
            load_model(spec(tmp_path, corpus, model, **EXACT, teacher=f"ensemble:{members}"))


def test_what_cannot_be_used_is_refused(corpus: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="beam: there is no such key; did you mean"):
        load_model(spec(tmp_path, corpus, model, beam=3))
    with pytest.raises(ModelError, match="acoustic_scale: must be above 0, not 0"):
        load_model(spec(tmp_path, corpus, model, acoustic_scale=0))
    with pytest.raises(
        ModelError, match="insertion_penalty: is 2, but it is for the loop of words; the grammar 'a.arpa'"
    ):
        load_model(spec(tmp_path, corpus, model, grammar="a.arpa", insertion_penalty=2))
    with pytest.raises(ModelError, match="none.yaml' does not exist"):
        load_model(f"lattice:{tmp_path / 'none.yaml'}")
    if "hmm" in str(model):
        with pytest.raises(ModelError, match="prior: checkpoint .*none.pt. does not exist"):
            load_model(spec(tmp_path, corpus, model, prior=str(tmp_path / "none.pt")))


@needs_k2
def test_beams_without_a_path_are_told(corpus: Path, model: Path, tmp_path: Path) -> None:
    narrow = load_model(
        spec(tmp_path, corpus, model, search_beam=1e-3, output_beam=1e-3, max_active=2, acoustic_scale=50.0)
    )
    features = torch.randn(2, 7, narrow.front_end.feature_dim, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match="no path through the words.*widen search_beam"):
        narrow.log_probs(10 * features, torch.tensor([7, 7]))
