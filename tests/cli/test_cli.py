from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from training_helpers import settings

from asrkd.acoustic import KINDS
from asrkd.cli import cli, run_command
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import AsrkdError
from asrkd.store import Store
from asrkd.training.trainer import Trainer

Command = Callable[..., list[str]]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found.append((*path, name))
        command = getattr(command, "loaded", command)
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def test_the_command_line_is_as_documented() -> None:
    assert sorted(" ".join(path) for path in commands(cli)) == [
        "align",
        "corpus",
        "corpus look",
        "corpus measure",
        "decode",
        "demo",
        "doctor",
        "estimate",
        "export",
        "export card",
        "export executorch",
        "export onnx",
        "export sherpa",
        "export web",
        "label",
        "label codebooks",
        "label grow",
        "label plan",
        "label retry",
        "label run",
        "label status",
        "label work",
        "live",
        "report",
        "score",
        "segment",
        "store",
        "store card",
        "store compact",
        "store delete",
        "store head",
        "store index",
        "store info",
        "store pull",
        "store push",
        "store snapshot",
        "store stats",
        "store to-lhotse",
        "store to-nemo",
        "store verify",
        "tokens",
        "train",
        "transcribe",
        "weigh",
    ]


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0 and "Usage:" in result.output
    assert len(result.output.splitlines()) >= 6  # a sentence of what it does, at least


@pytest.mark.parametrize("command", ["label plan", "label codebooks", "estimate", "align", "decode", "live"])
def test_commands_that_take_a_model_say_what_each_kind_is(command: str) -> None:
    result = CliRunner().invoke(cli, [*command.split(), "--help"])
    said = " ".join(result.output.split())
    assert KINDS and all(f"{kind.form} {kind.help}" in said for kind in KINDS.values()), said


def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    """Exit code and what was said; not a traceback, and for exit code 1 one line."""
    monkeypatch.setattr("sys.argv", ["asrkd", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        run_command(cli)
    said = capsys.readouterr().err
    code = stop.value.code
    assert isinstance(code, int) and "Traceback" not in said
    if code == 1:
        assert said.startswith("asrkd: ") and len(said.strip().splitlines()) == 1
    return code, said


def test_wrong_inputs_are_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(code: int, said: str, *arguments: object) -> None:
        found, text = fails(capsys, monkeypatch, *arguments)
        assert found == code and said in text, text

    labeled, store = corpus / "labeled.jsonl.gz", corpus / "stores/labeled"
    (tmp_path / "empty").mkdir()
    (tmp_path / "missing.tsv").write_text("audio\ttext\nnone.flac\tlow\n")
    (tmp_path / "corrupt.tsv").write_text("audio\ncorrupt.flac\n")
    (tmp_path / "corrupt.flac").write_bytes(b"fLaC" + b"\0" * 50)
    check(1, "none.flac", "label", "plan", tmp_path / "missing.tsv", tmp_path / "s")
    check(1, "corrupt.flac", "label", "plan", tmp_path / "corrupt.tsv", tmp_path / "s")
    check(1, "holds no audio", "label", "plan", tmp_path / "empty", tmp_path / "s")
    check(1, "does not exist", "label", "plan", tmp_path / "no-corpus", tmp_path / "s")
    check(1, "is a store already", "label", "plan", labeled, store)
    check(1, "no known kind", "label", "plan", labeled, tmp_path / "s", "--teacher", "pickle:x")
    check(2, "embed", "label", "plan", labeled, tmp_path / "s", "--embed", "zip")
    check(2, "No such command", "lable")
    check(1, "manifest.json", "label", "run", tmp_path / "s")
    check(1, "manifest.json", "store", "info", tmp_path / "s")
    check(1, "config file", "train", tmp_path / "none.yaml")
    (tmp_path / "train.yaml").write_text("optimizer: {learning_rat: 0.1}\n")
    check(1, "did you mean 'optimizer.learning_rate'?", "train", tmp_path / "train.yaml")
    (tmp_path / "train.yaml").write_text("seed: one\n")
    check(1, "seed", "train", tmp_path / "train.yaml")
    check(1, "key=value", "train", tmp_path / "train.yaml", "seed")
    (tmp_path / "hyp.txt").write_text("u a\n")
    (tmp_path / "ref.txt").write_text("u a\nv b\n")
    check(1, "'v'", "score", tmp_path / "hyp.txt", tmp_path / "ref.txt")
    check(1, "'low'", "align", store, tmp_path / "aligned", "--lexicon", _lexicon(tmp_path))


def test_what_cannot_be_decoded_is_said_before_the_model_runs(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Trainer(settings(corpus, tmp_path / "run", schedule=[{"steps": 2, "mixture": {"labeled": 1}}])).train()
    monkeypatch.setitem(sys.modules, "k2", None)  # not installed

    def run_model(*_: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("asrkd.acoustic.AcousticModel.log_probs", run_model)
    command = ["decode", tmp_path / "run", corpus / "labeled.jsonl.gz", tmp_path / "out", "--lexicon"]
    lexicon = corpus / "lexicon.txt"
    for said, arguments in {
        "k2": [lexicon, "--decoder", "k2"],
        "lm.arpa' cannot be read": [lexicon, "--grammar", tmp_path / "lm.arpa"],
        "insertion_penalty is 2": [lexicon, "--grammar", tmp_path / "lm.arpa", "--insertion-penalty", 2],
        "none.txt": [tmp_path / "none.txt"],
    }.items():
        code, text = fails(capsys, monkeypatch, *command, *arguments)
        assert code == 1 and said in text, text
    assert not (tmp_path / "out").exists()


def _lexicon(folder: Path) -> Path:
    path = folder / "lexicon.txt"
    path.write_text("high h\nup h l\n")
    return path


def test_a_store_is_described_and_verified(corpus: Path) -> None:
    store = str(corpus / "stores/labeled")
    runner = CliRunner()
    assert '"utterances": 24' in runner.invoke(cli, ["store", "info", store]).output
    assert '"labeled-0"' in runner.invoke(cli, ["store", "head", store]).output
    assert '"bytes_per_frame"' in runner.invoke(cli, ["store", "stats", store]).output
    assert runner.invoke(cli, ["store", "verify", store]).stdout == "no problems\n"
    assert "units      " in runner.invoke(cli, ["label", "status", store]).output


@pytest.mark.slow
def test_the_installed_command_runs(asrkd_command: Command) -> None:
    done = subprocess.run(asrkd_command("--version"), capture_output=True, text=True)
    assert done.returncode == 0 and "version" in done.stdout


def numbers(kind: type) -> list[tuple[tuple[str, ...], str]]:
    """(command, option) of every option that is a number."""
    found = []
    for path in commands(cli):
        command: click.Command = cli
        for name in path:
            command = command.commands[name]  # type: ignore[attr-defined]
            command = getattr(command, "loaded", command)
        found += [(path, param.opts[0]) for param in command.params if isinstance(param.type, kind)]
    return found


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x", ""])
def test_a_number_that_is_none_is_wrong_usage(value: str) -> None:
    options = numbers(click.types.FloatParamType)
    assert len(options) > 10
    for path, option in options:
        result = CliRunner().invoke(cli, [*path, option, value])
        assert result.exit_code == 2 and option in result.output, (path, option)


@pytest.mark.parametrize("value", ["-1", "1.5", "99999999999999999999", "x"])
def test_a_count_that_is_none_is_wrong_usage(value: str) -> None:
    options = numbers(click.types.IntParamType)
    assert len(options) > 10
    for path, option in options:
        result = CliRunner().invoke(cli, [*path, option, value])
        assert result.exit_code == 2 and option in result.output, (path, option)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("preset: sherpa\nmean_norm: causal\n", ""),
        ("preset: loud\n", "front_end.preset: must be one of"),
        ("mels: 80\n", "front_end.mels: there is no such key"),
        ("80\n", "is not valid YAML"),
    ],
)
def test_a_store_takes_the_front_end_of_a_config(corpus: Path, tmp_path: Path, content: str, wrong: str) -> None:
    (tmp_path / "front_end.yaml").write_text(content)
    command = [
        "label",
        "plan",
        corpus / "labeled.jsonl.gz",
        tmp_path / "out",
        "--front-end",
        tmp_path / "front_end.yaml",
    ]
    result = CliRunner().invoke(cli, [str(part) for part in command])
    if wrong:
        assert isinstance(result.exception, AsrkdError) and wrong in str(result.exception)
    else:
        assert result.exit_code == 0, result.output
        front_end = Store.open(str(tmp_path / "out")).identity.front_end
        assert front_end == FrontEnd.from_dict({"preset": "sherpa", "mean_norm": "causal"})


def test_a_store_takes_the_front_end_of_a_preset(corpus: Path, tmp_path: Path) -> None:
    plan = ["label", "plan", str(corpus / "labeled.jsonl.gz")]
    result = CliRunner().invoke(cli, [*plan, str(tmp_path / "out"), "--front-end", "sherpa"])
    assert result.exit_code == 0, result.output
    assert Store.open(str(tmp_path / "out")).identity.front_end == FrontEnd.from_dict({"preset": "sherpa"})
    result = CliRunner().invoke(cli, [*plan, str(tmp_path / "other"), "--front-end", "loud"])
    assert isinstance(result.exception, AsrkdError) and "loud" in str(result.exception)
    assert not (tmp_path / "other").exists()
