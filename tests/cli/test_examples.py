"""The help of every command ends with an example, of options that it has."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from helpers import command_paths
from test_pages import wrong_with

from asrkd.cli import cli
from asrkd.cli.examples import EXAMPLES


def test_every_command_has_an_example() -> None:
    assert sorted(command_paths(cli)) == sorted(EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES)
def test_help_ends_with_an_example_that_exists(path: str) -> None:
    run = CliRunner().invoke(cli, [*path.split(), "--help"])
    example = EXAMPLES[path]
    assert run.exit_code == 0 and f"Example:\n    {example}\n" in run.stdout
    assert example.startswith(f"asrkd {path}") and not wrong_with(example)


def test_the_help_tells_exit_codes_and_completion() -> None:
    said = CliRunner().invoke(cli, ["--help"]).stdout
    assert all(code in said for code in ("0 ", "1 ", "2 ", "130 ", "141 ", "143 "))
    assert "_ASRKD_COMPLETE=bash_source" in said
