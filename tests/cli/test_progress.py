"""Progress of long commands: plain lines in a log, a bar on a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from asrkd.cli import cli, progress
from asrkd.cli.progress import ProgressBar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the bar takes for the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_have_hours_speed_bytes_and_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressBar() as bar:
        clock[0] += 10
        bar.show("label", 1, 4, "quarantined 0", seconds=3600.0, num_bytes=2_000_000)
        clock[0] += 5
        bar.show("label", 2, 4, seconds=7200.0)  # too early for another line
        clock[0] += 15
        bar.show("label", 3, 4, {"loss": 0.123456}, seconds=10800.0)
        clock[0] += 10
        bar.show("label", 4, 4, seconds=14400.0)
        bar.show("label", 4, 4, seconds=14400.0)
    assert capsys.readouterr().err.splitlines() == [
        "label: 1/4, 1.00 h, 360 x real time, 2.0 MB, quarantined 0",
        "label: 3/4, 3.00 h, 360 x real time, loss 0.1235, 00:10 left",
        "label: 4/4, 4.00 h, 360 x real time",
    ]


def test_what_an_earlier_run_did_is_not_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    clock[0] += 1
    bar.show("train", 901, 1000)
    clock[0] += 10
    bar.show("train", 911, 1000)
    assert capsys.readouterr().err.splitlines() == ["train: 901/1000", "train: 911/1000, 01:29 left"]


def test_a_training_that_goes_back_to_its_checkpoint_has_time_left(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    bar = ProgressBar()
    for done in (480, 400, 410, 420):
        bar.show("train", done, 900)
        clock[0] += 10
    assert capsys.readouterr().err.splitlines()[1:] == [
        "train: 400/900",
        "train: 410/900, 08:10 left",
        "train: 420/900, 08:00 left",
    ]


def test_audio_that_comes_all_at_once_has_a_speed(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    clock[0] += 2
    bar.show("decode", 1, 8, seconds=72.0)  # a batch of eight, whose audio is read before the first is searched
    bar.show("decode", 8, 8, seconds=72.0)
    assert capsys.readouterr().err.splitlines()[-1] == "decode: 8/8, 0.02 h, 36 x real time"


def test_what_is_done_at_once_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for seconds_each, expected in ((0.4, []), (5.0, ["read: 2/3, 00:05 left", "read: 3/3"])):
        bar = ProgressBar(quiet_seconds=2.0)
        for done in range(4):
            bar.show("read", done, 3)
            clock[0] += seconds_each
        assert capsys.readouterr().err.splitlines() == expected


def test_a_stage_without_parts_is_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar()
    bar.show("plan labeled", 0, None)
    bar.show("label labeled", 1, 1)
    bar.show("segment", 3, None)
    assert capsys.readouterr().err.splitlines() == ["plan labeled", "label labeled: 1/1", "segment: 3"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    with open(theirs, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with ProgressBar() as bar:
            for done in (480, 400, 900):
                bar.show("train", done, 900)
            assert list(bar.each("decode", "ab", 2, lambda: 7200.0)) == ["a", "b"]
    read = b""
    with contextlib.suppress(OSError):  # a terminal that nobody writes to any more has no end of file
        while more := os.read(ours, 10_000):
            read += more
    os.close(ours)
    said = read.decode()
    assert "train: 100%" in said and "-" not in said  # no time left or speed below 0
    assert "\r" in said and re.search(r"decode: .*2/2 .*2\.00 h, \d+ x real time", said)


@pytest.mark.slow
def test_logs_have_no_carriage_returns(corpus: Path, tmp_path: Path) -> None:
    store = str(corpus / "stores/labeled")
    for command in (
        ["store", "verify", store],
        ["store", "compact", store, str(tmp_path / "compact")],
        ["segment", str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "segments.jsonl"), "--vad", "energy"],
        ["corpus", "measure", str(corpus / "unlabeled.jsonl.gz"), str(tmp_path / "measured.jsonl")],
        [
            "align",
            store,
            str(tmp_path / "aligned"),
            "--lexicon",
            str(corpus / "lexicon.txt"),
            "--states-per-phone",
            "1",
        ],
    ):
        run = CliRunner().invoke(cli, command)
        assert run.exit_code == 0, run.output
        assert re.search(
            r"^(verify|compact|segment|measure|align): \d+(/\d+)?, \d+\.\d\d h, \d+ x real time", run.stderr, re.M
        )
        assert "\r" not in run.stderr
