"""Fixtures: a small corpus with its store, the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import make_cuts
from hypothesis import settings

from asrkd.corpus.lexicon import Lexicon
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store

torch.set_num_threads(1)
# CI draws the same examples every time, so that a red run is about the change; elsewhere they vary.
settings.register_profile("ci", derandomize=True, deadline=None)
# A busy machine is not a reason for a red run.
settings.register_profile("busy", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "busy")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`labeled.jsonl.gz` (24 utterances), `unlabeled.jsonl.gz` (20), `lexicon.txt`, and the store `stores/labeled`."""
    folder = tmp_path_factory.mktemp("corpus")
    lexicon = Lexicon.from_pairs([("low", ["l"]), ("high", ["h"]), ("up", ["l", "h"])])
    lexicon.write(folder / "lexicon.txt")
    make_cuts(folder, "labeled", 24)
    make_cuts(folder, "unlabeled", 20, seed=1, text=False)
    plan(str(folder / "labeled.jsonl.gz"), str(folder / "stores/labeled"), embed="audio", unit_hours=0.003)
    run(Local(Store.open(str(folder / "stores/labeled"))))
    return folder


@pytest.fixture
def asrkd_command() -> Callable[..., list[str]]:
    """The command line of the package under test, as a list."""

    def make(*arguments: object) -> list[str]:
        return [sys.executable, "-c", "from asrkd.__main__ import main; main()", *map(str, arguments)]

    return make


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("gpu"):
        wanted = mark.args[0] if mark.args else 1
        if torch.cuda.device_count() < wanted:
            pytest.skip(
                f"needs {wanted} GPU{'s' if wanted > 1 else ''}, and this machine has {torch.cuda.device_count()}"
            )
