"""`asrkd store`: look into a store and check it."""

from __future__ import annotations

import json
import sys

import click

from asrkd.labeling.relabel import relabel
from asrkd.store.inspect import head as first_rows
from asrkd.store.inspect import info as describe
from asrkd.store.inspect import statistics
from asrkd.store.verify import verify as find_problems
from asrkd.teachers import load_teacher


@click.group()
def store() -> None:
    """Look into a store of soft targets, and check it."""


@store.command()
@click.argument("root", metavar="STORE")
def info(root: str) -> None:
    """Teacher, inventory, front end, codec, plan and totals."""
    click.echo(json.dumps(describe(root), indent=1, ensure_ascii=False))


@store.command()
@click.argument("root", metavar="STORE")
@click.option("-n", "--rows", default=3, help="Utterances to show.")
def head(root: str, rows: int) -> None:
    """The first utterances, with the most probable classes of a few frames."""
    for row in first_rows(root, rows):
        click.echo(json.dumps(row, ensure_ascii=False))


@store.command()
@click.argument("root", metavar="STORE")
def stats(root: str) -> None:
    """Kept mass, entropy, confidence and durations over all utterances; bytes a frame by column."""
    click.echo(json.dumps(statistics(root), indent=1))


@store.command()
@click.argument("root", metavar="STORE")
@click.option("--relabel", "share", type=float, help="Share of the utterances to label again and compare, e.g. 0.001.")
@click.option("--teacher", help="The store's teacher, for --relabel.")
def verify(root: str, share: float | None, teacher: str | None) -> None:
    """Check every shard: checksums, identity, frame law, ids, mass, statistics, order, and what the plan says is missing.

    Targets that are whole but of the wrong frames show only when some are labeled again (--relabel).
    """
    if (share is None) != (teacher is None):
        raise click.UsageError("--relabel and --teacher are given together: the share, and who labels it")
    problems = find_problems(root)
    if share is not None and teacher is not None:
        compared, different = relabel(root, load_teacher(teacher), share)
        click.echo(f"labeled again: {compared} utterances")
        problems += different
    for problem in problems:
        click.echo(problem)
    click.echo(f"{len(problems)} problems" if problems else "no problems")
    if problems:
        sys.exit(1)
