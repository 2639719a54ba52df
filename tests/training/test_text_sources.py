"""Students learn from a text teacher's store: by CTC on its text or the n best, by frames aligned to it, filtered by figures and flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import WORDS, make_cuts
from lhotse import CutSet
from training_helpers import settings

from asrkd.alignment.align_store import align_store
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.text_flags import FLAGS
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.errors import ConfigError, MismatchError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.losses.hard import ctc_loss
from asrkd.store import Store
from asrkd.store.card import CardFacts, card
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.inspect import head, store_statistics
from asrkd.store.verify import verify
from asrkd.streaming.batch import collate
from asrkd.streaming.selection import Filter
from asrkd.streaming.source import Source
from asrkd.streaming.view import UtteranceView
from asrkd.targets.streams import POSTERIORS, TOKENS
from asrkd.training.objective import FrameObjective, SoftLossConfig
from asrkd.training.student import StudentOutput
from asrkd.training.trainer import Trainer

# Knows the transcripts by the lengths of the audio; every third is a loop, and each second hypothesis is another word.
TEACHER = """
import json, os
from asrkd.text_teachers import TextTeacher, Transcription, WrittenText

KNOWN = json.load(open(os.path.join(os.path.dirname(__file__), "known.json")))

def written(samples):
    found = []
    for one in samples:
        text, number = KNOWN[str(len(one))]
        if number % 3 == 2:
            text = " ".join([text] * 12)
        ids = list(range(len(text.split())))
        best = WrittenText(text.upper() + ".", ids, [-0.1 * (number + 1)] * len(ids))
        found.append(Transcription([best, WrittenText("Up!", [1], [-1.0]), WrittenText("Ouch", [2], [-1.5])]))
    return found

def teacher():
    return TextTeacher(written, "a" * 32, batch_size=4)
"""


@pytest.fixture(scope="module")
def text_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """12 utterances of tone words with the text of a teacher that knows them."""
    folder = tmp_path_factory.mktemp("texts")
    cuts = make_cuts(folder, "w", 12, seed=5)
    known = {
        str(cut.num_samples): (cut.supervisions[0].text, number) for number, cut in enumerate(CutSet.from_file(cuts))
    }
    assert len(known) == 12
    (folder / "known.json").write_text(json.dumps(known))
    (folder / "teacher_that_knows.py").write_text(TEACHER)
    (folder / "t.yaml").write_text("model: python:teacher_that_knows:teacher\nnum_beams: 3\nn_best: 3\n")
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    store = plan(str(cuts), str(folder / "store"), teacher=f"text:{folder / 't.yaml'}", embed="audio", unit_hours=0.002)
    run(Local(store))
    patch.undo()
    return Store.open(store.root)


@pytest.fixture
def lexicon(tmp_path: Path) -> Path:
    path = tmp_path / "lexicon.txt"
    phones = {400.0: "L", 2500.0: "H"}
    path.write_text("".join(f"{word} {' '.join(phones[tone] for tone in tones)}\n" for word, tones in WORDS.items()))
    return path


def test_filters_by_figures_and_flags(text_store: Store, tmp_path: Path) -> None:
    rows = list(text_store.rows())
    expected = [row["id"] for row in rows if "repetition" not in row["text_flags"]]
    assert 0 < len(expected) < len(rows)

    def kept(**filters: Any) -> list[str]:
        view = UtteranceView(
            Source("s", Store.open(text_store.root), filter=Filter(**filters)), front_end=text_store.identity.front_end
        )  # type: ignore[arg-type]
        return [view[number].id for number in range(len(view))]

    assert kept(without_flags=frozenset(["repetition"])) == expected
    assert kept(bounds={"text_confidence": (0.5, None)}) == [row["id"] for row in rows if row["text_confidence"] >= 0.5]
    assert kept(bounds={"text_rate": (None, 20.0)}) == [row["id"] for row in rows if row["text_rate"] <= 20]
    with pytest.raises(ConfigError, match="none is left by the filter"):
        kept(bounds={"text_no_speech": (0.0, 1.0)})
    with pytest.raises(ConfigError, match="has no flag 'loud'"):
        Filter(without_flags=frozenset(["loud"]))
    # Without the catalog, from the shards.
    assert Path(text_store.root, "catalog").is_dir()
    index = write_catalog(text_store)
    assert index.column("text_flags").tolist() == [
        sum(1 << FLAGS.index(flag) for flag in row["text_flags"]) for row in rows
    ]
    plain = plan(str(make_cuts(tmp_path, "p", 2)), str(tmp_path / "plain"), embed="audio")
    run(Local(plain))
    for given in ({"without_flags": frozenset(["long"])}, {"bounds": {"text_rate": (0.0, 1.0)}}):
        with pytest.raises(ConfigError, match="is of no text teacher, so it has no such column"):
            Source("s", Store.open(plain.root), filter=Filter(**given))  # type: ignore[arg-type]


def test_what_people_see_of_it(text_store: Store) -> None:
    found = store_statistics(text_store)
    assert found["text_flags"]["repetition"] == 4 and 0 < found["text_confidence"]["p50"] < 1
    (row,) = head(text_store, 1)
    assert row["text_flags"] == [] and row["text_raw"] == f"{row['text'].upper()}." and json.dumps(row)
    text = card(text_store, CardFacts(name="texts"))
    assert "## Texts" in text and "repetition 4" in text and "`token_scores`" in text


def test_the_n_best_are_weighted(text_store: Store, lexicon: Path) -> None:
    tokenizer = read_tokenizer(f"{lexicon}")
    inventory = Inventory.from_lexicon(tokenizer, "ctc")
    source = Source("s", text_store, streams=(POSTERIORS, TOKENS))
    view = UtteranceView(source, front_end=text_store.identity.front_end)  # type: ignore[arg-type]
    batch = collate([view[number] for number in (0, 1, 3)], layouts=text_store.identity.layouts, unpack=True)
    lengths = batch.num_frames
    logits = torch.randn(3, int(lengths.max()), len(inventory), requires_grad=True)
    objective = FrameObjective(tokenizer, inventory, {"s": "labeled"}, SoftLossConfig(), n_best={"s": 3})

    class Fixed:
        output = StudentOutput(logits, lengths)

    loss, _ = objective(Fixed(), batch)  # type: ignore[arg-type]
    expected = torch.zeros(())
    for row, text in enumerate(batch.texts):
        assert text is not None
        first = -0.1 * ([0, 1, 3][row] + 1) * len(text.split())
        # "ouch" is not in the lexicon.
        weights = torch.tensor([first, -1.0]).softmax(0)
        for said, weight in zip((text, "up"), weights, strict=True):
            one = ctc_loss(logits[row : row + 1], lengths[row : row + 1], [objective.tokens(said, what="")])[0]
            expected = expected + weight * one
    assert float(loss) == pytest.approx(float(expected) / int(lengths.sum()), rel=1e-5)
    loss.backward()
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_a_student_of_the_text(text_store: Store, lexicon: Path, tmp_path: Path) -> None:
    root = text_store.root

    def train(name: str, **source: Any) -> Any:
        config = settings(
            tmp_path, tmp_path / name, dev=root,
            inventory={"lexicon": f"{lexicon}", "topology": "ctc"},
            sources={"labeled": {"store": root, "without_flags": ["repetition"], **source}},
            schedule=[{"steps": 4, "mixture": {"labeled": 1}}], eval_steps=4,
        )  # fmt: skip
        return Trainer(config).train()

    train("best")
    train("several", n_best=3)
    with pytest.raises(ConfigError, match="sources.labeled.n_best: is 4, but the store .* has 3 texts"):
        train("more", n_best=4)
    with pytest.raises(
        MismatchError, match="a store of the text of a text teacher without soft targets, but its kind is 'soft'"
    ):
        train("soft", kind="soft")
    with pytest.raises(ConfigError, match="sources.labeled.n_best: is 2, but kind 'soft' trains on posteriors"):
        train("soft2", kind="soft", n_best=2)
    with pytest.raises(ConfigError, match="sources.labeled.without_flags"):
        train("flags", without_flags=["loud"])
    with pytest.raises(ConfigError, match="inventory.store: .* has no units"):
        Trainer(
            settings(
                tmp_path,
                tmp_path / "units",
                inventory={"store": root, "topology": "ctc"},
                sources={"labeled": {"store": root}},
            )
        )


def test_the_text_is_aligned(text_store: Store, lexicon: Path, tmp_path: Path) -> None:
    out = tmp_path / "aligned"
    found = align_store(text_store, str(out), f"{lexicon}", states_per_phone=1, max_unaligned=0.6)
    aligned = Store.open(str(out))
    assert found.count >= 6 and verify(aligned.root) == []
    rows = list(aligned.rows())
    before = {row["id"]: row for row in text_store.rows()}
    for row in rows:
        assert len(row["alignment"]) == row["num_frames"] and row["text"] == before[row["id"]]["text"]
        assert list(row["text_flags"]) == list(before[row["id"]]["text_flags"])
