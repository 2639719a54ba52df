"""Free Spoken Digit Dataset: connected English digits, one speaker labeled, four unlabeled, one left out for the test.

python recipes/fsdd/run.py --corpus-dir CORPUS --test-speaker theo
python recipes/fsdd/run.py --corpus-dir CORPUS --test-speaker all
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from asrkd.cli import run_command
from asrkd.cli.recipe import recipe_command

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from prepare import SPEAKERS, prepare  # noqa: E402


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.option("--test-speaker", type=click.Choice([*SPEAKERS, "all"]), default=SPEAKERS[0])
@click.option("--exp", type=click.Path(path_type=Path), default=HERE / "exp")
@click.pass_context
def run(context: click.Context, test_speaker: str, exp: Path) -> None:
    if "-h" in context.args or "--help" in context.args:
        click.echo(f"  --test-speaker [{'|'.join(SPEAKERS)}|all]  the speaker left out\n")
    for speaker in SPEAKERS if test_speaker == "all" else (test_speaker,):
        command = recipe_command(HERE, partial(prepare, speaker), ("ctc", "hmm"))
        command.main([*context.args, "--exp", str(exp / speaker)], standalone_mode=False)


if __name__ == "__main__":
    run_command(run)
