from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import make_teacher
from target_helpers import pack

from asrkd.acoustic import load_model
from asrkd.cli import cli
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.labeling.relabel import relabel
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.verify import verify
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import Sampled
from asrkd.targets.select import Entries


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_teacher(tmp_path_factory.mktemp("teacher") / "final.pt")


def labeled(corpus: Path, root: Path, teacher: str, codec: str, embed: str = "audio") -> str:
    plan(str(corpus / "unlabeled.jsonl.gz"), str(root), teacher=teacher, codec=codec, embed=embed, unit_hours=1.0)
    run(Local(Store.open(str(root))))
    return str(root)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "embed"),
    [("topk:3", "audio"), ("hybrid:1:8", "opus:32"), ("dense", "features"), ("dense", "features:8bit")],
)
def test_a_whole_store_gives_the_same_again(codec: str, embed: str, corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = labeled(corpus, tmp_path / "store", teacher, codec, embed)
    assert relabel(Store.open(root), load_model(teacher), 1.0) == (20, [])
    few, problems = relabel(Store.open(root), load_model(teacher), 0.3, seed=4)
    assert 1 <= few < 20 and not problems
    assert relabel(Store.open(root), load_model(teacher), 1e-9)[0] == 1


@pytest.mark.parametrize("embed", ["audio", "features:8bit"])
def test_a_shift_by_one_frame_is_found_here_alone(corpus: Path, teacher: str, tmp_path: Path, embed: str) -> None:
    """All else fits: checksums, identity, frame law, statistics."""
    root = labeled(corpus, tmp_path / "store", teacher, "sampled:8", embed)
    store = Store.open(root)
    rows = list(store.rows())
    shifted = rows[7]
    targets = store.targets(shifted)
    moved = targets.frames((torch.arange(targets.num_frames) - 1).clamp(min=0))
    codes = (moved.log_probs.exp() * 8).round().long() - 1
    shifted |= pack(Sampled(8), Entries(moved.counts, moved.ids, codes, targets.num_classes))
    write_shard(Files(root), 0, rows, store.identity)
    assert verify(root) == []
    compared, problems = relabel(Store.open(root), load_model(teacher), 1.0)
    assert compared == 20 and len(problems) == 1
    assert (
        f"part-00000.parquet: utterance {shifted['id']!r} labeled again differs by a total variation of" in problems[0]
    )
    result = CliRunner().invoke(cli, ["store", "verify", root, "--relabel", "1", "--teacher", teacher])
    assert result.exit_code == 1 and "labeled again: 20 utterances" in result.output and "1 problems" in result.output


def test_what_cannot_be_compared_is_refused(corpus: Path, teacher: str, tmp_path: Path) -> None:
    root = labeled(corpus, tmp_path / "store", teacher, "topk:3", "none")
    with pytest.raises(StoreError, match="embeds neither audio nor features"):
        relabel(Store.open(root), load_model(teacher), 0.5)
    with pytest.raises(StoreError, match="holds transcripts without posteriors"):
        relabel(Store.open(str(corpus / "stores/labeled")), load_model(teacher), 0.5)
    with pytest.raises(ConfigError, match="share to label again is 0, but must be above 0"):
        relabel(Store.open(root), load_model(teacher), 0)
    root = labeled(corpus, tmp_path / "audio", teacher, "topk:3")
    other = make_teacher(tmp_path / "other.pt", seed=5)
    with pytest.raises(MismatchError, match="was labeled by .*every target would differ"):
        relabel(Store.open(root), load_model(other), 0.5)
    result = CliRunner().invoke(cli, ["store", "verify", root, "--relabel", "0.1"])
    assert result.exit_code == 2 and "given together" in result.output
