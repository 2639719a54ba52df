from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from helpers import make_teacher

from asrkd.errors import StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store
from asrkd.store.card import CardFacts, card
from asrkd.store.schema import shard_schema


@pytest.mark.parametrize("codec", ["hybrid:0:16", "topk:3", "dense"])
def test_a_card_says_what_the_store_holds(codec: str, corpus: Path, tmp_path: Path) -> None:
    teacher = make_teacher(tmp_path / "teacher.pt")
    root = str(tmp_path / "store")
    plan(str(corpus / "unlabeled.jsonl.gz"), root, teacher=teacher, codec=codec, embed="audio")
    with pytest.raises(StoreError, match="no finished shard yet"):
        card(Store.open(root), CardFacts("Tones"))
    run(Local(Store.open(root)))
    text = card(
        Store.open(root), CardFacts("Tones: höhen", "cc-by-4.0", "mit", ["ar"], "a synthesizer", "Tests alone.")
    )
    _, front, body = text.split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["pretty_name"] == "Tones: höhen" and meta["license"] == "cc-by-4.0"
    assert meta["size_categories"] == ["n<1K"] and meta["configs"][0]["data_files"] == "shards/*.parquet"
    store = Store.open(root)
    frames = sum(row["num_frames"] for row in store.rows(["num_frames"]))
    assert f"20 utterances, 0.0 hours, {frames:,} frames, in 1 Parquet shards" in body
    assert f"`{codec}`; one frame every 30 ms" in body and store.identity.teacher_fingerprint in body
    for field in shard_schema(store.identity):
        assert f"| `{field.name}` | `{field.type}` |" in body
    assert meta["language"] == ["ar"] and "## Intended use\n\nTests alone." in body
    for line in (
        "Audio and transcripts: `cc-by-4.0`",
        "Source of the audio: a synthesizer",
        f"`checkpoint:{tmp_path}/teacher.pt`, `mit`",
    ):
        assert line in body
    bare = card(Store.open(root), CardFacts("Tones"))
    assert "not meant for evaluation" in bare and bare.count("not stated") == 2
    assert "license" not in card(Store.open(root), CardFacts("Tones")).split("---\n")[1]


def test_a_store_of_transcripts_has_a_card_too(corpus: Path) -> None:
    text = card(Store.open(str(corpus / "stores/labeled")), CardFacts("Tones"))
    assert "24 utterances" in text and "Soft targets" not in text and "audio with transcripts" in text
