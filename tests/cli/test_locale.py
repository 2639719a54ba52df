"""The locale changes nothing: not what is read, not what is stored; and output never ends in a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asrkd.store.files import Files
from asrkd.store.plan import read_cuts

Command = Callable[..., list[str]]


@pytest.fixture(scope="module", params=["ascii", "latin-1"])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LC_", "LANG", "PYTHONUTF8", "PYTHONIO"))
    }
    if request.param == "ascii":
        return kept | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    folder = tmp_path_factory.mktemp("locale")
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not installed")
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")], capture_output=True
    )
    if made.returncode > 1 or not (folder / "en_US.ISO-8859-1").exists():
        pytest.skip("localedef has no definition of en_US")
    return kept | {"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": str(folder)}


@pytest.mark.slow
def test_names_and_texts_are_those_of_the_files(
    corpus: Path, tmp_path: Path, asrkd_command: Command, environment: dict[str, str]
) -> None:
    folder = tmp_path / "fôlder"
    folder.mkdir()
    shutil.copy(corpus / "audio/labeled/labeled-0.flac", folder / "caf\u00e9 名.flac")
    (tmp_path / "täble.tsv").write_bytes(
        "audio\ttext\tspeaker\nfôlder/caf\u00e9 名.flac\tna\u00efve \u2028\t李\n".encode()
    )
    root = tmp_path / "störe"
    command = asrkd_command("label", "plan", tmp_path / "täble.tsv", folder, root)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0 and "planned 2 cuts, 0.001 h, 1 units in " in done.stdout.decode(), done.stderr
    table, file = read_cuts(Files(str(root)), 0)
    assert (table["id"], file["id"]) == ("fôlder/caf\u00e9 名", "caf\u00e9 名")
    assert all(cut["recording"]["sources"][0]["source"].endswith("fôlder/caf\u00e9 名.flac") for cut in (table, file))
    assert table["supervisions"][0]["text"] == "na\u00efve \u2028" and table["supervisions"][0]["speaker"] == "李"


@pytest.mark.slow
def test_names_are_printed_whatever_the_encoding_of_the_output(tmp_path: Path, asrkd_command: Command) -> None:
    (tmp_path / "ref.txt").write_bytes("caf\u00e9名 a b\n".encode())
    (tmp_path / "hyp.txt").write_bytes("名 a b\n".encode())
    encoded = dict(os.environ) | {"PYTHONIOENCODING": "latin-1"}
    command = asrkd_command("score", tmp_path / "ref.txt", tmp_path / "ref.txt")
    done = subprocess.run(command, env=encoded, capture_output=True, timeout=120)
    assert done.returncode == 0 and b"  caf\xe9\\u540d\t0.00 %" in done.stdout, done.stderr
    command[-2] = str(tmp_path / "hyp.txt")
    done = subprocess.run(command, env=encoded, capture_output=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith(b"asrkd: ") and b"'caf\xe9\\u540d'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
