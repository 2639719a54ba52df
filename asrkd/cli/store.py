"""`asrkd store`: look into a store and check it."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from asrkd.acoustic import as_planned, load_model
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.errors import StoreError
from asrkd.labeling.relabel import relabel
from asrkd.store import Store
from asrkd.store.card import CardFacts
from asrkd.store.card import card as write_card
from asrkd.store.catalog_writer import write_catalog
from asrkd.store.compact import compact as compact_store
from asrkd.store.delete import delete as delete_rows
from asrkd.store.inspect import head as first_rows
from asrkd.store.inspect import info as describe
from asrkd.store.inspect import store_statistics
from asrkd.store.manifests import AUDIO, Exported, to_lhotse, to_nemo
from asrkd.store.share import pull, push
from asrkd.store.snapshot import take as take_snapshot
from asrkd.store.verify import problems as find_problems
from asrkd.text_teachers import is_text_spec


@click.group()
def store() -> None:
    """Look into a store of soft targets, and check it."""


@store.command("info")
@click.argument("root", metavar="STORE")
def info_command(root: str) -> None:
    """Teacher, inventory, front end, codec, plan and totals."""
    click.echo(json.dumps(describe(Store.open(root)), indent=1, ensure_ascii=False))


@store.command("head")
@click.argument("root", metavar="STORE")
@click.option("-n", "--rows", default=3, help="Utterances to show.")
def head_command(root: str, rows: int) -> None:
    """The first utterances, with the most probable classes of a few frames."""
    for row in first_rows(Store.open(root), rows):
        click.echo(json.dumps(row, ensure_ascii=False))


@store.command("stats")
@click.argument("root", metavar="STORE")
def stats_command(root: str) -> None:
    """Kept mass, entropy, confidence and durations over all utterances; bytes a frame by column."""
    with ProgressBar(quiet_seconds=2.0) as progress:
        found = store_statistics(
            Store.open(root), lambda done, total, seconds: progress.show("read", done, total, seconds=seconds)
        )
    click.echo(json.dumps(found, indent=1))


@store.command("verify")
@click.argument("root", metavar="STORE")
@click.option("--relabel", "share", type=float, help="Share of the utterances to label again and compare, e.g. 0.001.")
@click.option("--teacher", metavar="SPEC", help="The store's teacher, for --relabel.")
def verify_command(root: str, share: float | None, teacher: str | None) -> None:
    """Check every shard: checksums, identity, frame law, ids, mass, statistics, order, and what the plan says is missing.

    Targets that are whole but of the wrong frames show only when some are labeled again (--relabel).
    """
    if (share is None) != (teacher is None):
        raise click.UsageError("--relabel and --teacher are given together: the share, and who labels it")
    count = 0
    with ProgressBar() as progress:

        def show(done: int, total: int, seconds: float, num_bytes: int) -> None:
            progress.show("verify", done, total, seconds=seconds, num_bytes=num_bytes)

        for problem in find_problems(root, show):
            progress.close()  # its line is free for the problem
            click.echo(problem)
            count += 1
    if share is not None and teacher is not None:
        opened = Store.open(root)
        identity = opened.identity
        if is_text_spec(identity.teacher):
            raise StoreError(
                f"store {root!r} holds the text of {identity.teacher!r}, and no posteriors of frames, which --relabel compares; leave it out"
            )
        loaded = as_planned(load_model(teacher, autocast=identity.autocast, probe=False), identity.teacher_fingerprint)
        compared, different = relabel(opened, loaded, share)
        click.echo(f"labeled again: {compared} utterances")
        for problem in different:
            click.echo(problem)
        count += len(different)
    click.echo(f"{count} problems" if count else "no problems")
    if count:
        sys.exit(1)


@store.command("snapshot")
@click.argument("root", metavar="STORE")
@click.argument("name")
def snapshot_command(root: str, name: str) -> None:
    """Pin the units that are finished now under NAME, to train from them (sources.X.snapshot) while labeling continues."""
    click.echo(f"snapshot {name!r}: {take_snapshot(Store.open(root), name)} units")


@store.command("index")
@click.argument("root", metavar="STORE")
def index_command(root: str) -> None:
    """Write the catalog of STORE: what a training needs to know of its shards, in few files that are mapped into memory.

    Labeling writes it when all units are finished. Only shards that the earlier catalog does not know, or that changed, are read.
    """
    index = write_catalog(Store.open(root))
    click.echo(f"catalog of {len(index.shards)} shards and {index.row_edges[-1]} utterances in {root}")


@store.command("delete")
@click.argument("root", metavar="STORE")
@click.option("--id", "ids", multiple=True, help="Utterance to delete; may be given again.")
@click.option("--speaker", "speakers", multiple=True, help="Speaker to delete; may be given again.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
def delete_command(root: str, ids: tuple[str, ...], speakers: tuple[str, ...], dry_run: bool) -> None:
    """Take utterances out of a store.

    They leave the shards, the quarantine and the plan; only their ids stay, in deleted/. Only the files that hold them are written
    again, each whole or not at all. Killed in the middle, the same command finishes. Not while the store is being labeled.
    """
    if not ids and not speakers:
        raise click.UsageError("say what to delete with --id or --speaker")
    found = delete_rows(Store.open(root), ids=ids, speakers=speakers, dry_run=dry_run)
    for unit, keys in found.items():
        click.echo(f"part-{unit:05d}: {', '.join(keys)}")
    count = sum(len(keys) for keys in found.values())
    click.echo(f"{count} utterances of {len(found)} work units {'would be deleted' if dry_run else 'deleted'}")


@store.command("compact")
@click.argument("root", metavar="STORE")
@click.argument("out", metavar="OUT")
@click.option(
    "--shard-hours",
    default=options.default_of(compact_store, "shard_hours"),
    show_default=True,
    help="Hours of audio in a shard, at least.",
)
def compact_command(root: str, out: str, shard_hours: float) -> None:
    """Copy a finished store with fewer and larger shards; rows, targets and their order stay as they are."""
    with ProgressBar() as progress:
        shards = compact_store(
            Store.open(root),
            out,
            shard_hours=shard_hours,
            progress=lambda done, total, seconds: progress.show("compact", done, total, seconds=seconds),
        )
    click.echo(f"{shards} shards in {out}")


@store.command("card")
@click.argument("root", metavar="STORE")
@click.option("--name", required=True, help="Name of the dataset.")
@options.with_facts
def card_command(root: str, name: str, license_id: str | None, **facts: Any) -> None:
    """Print a Hugging Face dataset card (README.md) for a store: use, licences, teacher, codec, columns, totals."""
    click.echo(write_card(Store.open(root), CardFacts(name, license_id, **facts)), nl=False)


@store.command("push")
@click.argument("root", metavar="STORE")
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Make the dataset private, if it is new.")
@click.option(
    "--plan",
    "with_plan",
    is_flag=True,
    help="Also the plan, to resume labeling elsewhere; it names files of this machine.",
)
@click.option("--dry-run", is_flag=True, help="Only check the store, and show what would be uploaded.")
@options.with_facts
def push_command(
    root: str, repo: str, private: bool, with_plan: bool, dry_run: bool, license_id: str | None, **facts: Any
) -> None:
    """Upload a finished store to the Hugging Face hub as the dataset OWNER/NAME, with a card (pip install 'asrkd[hub]').

    The store is verified first. A card that is there already stays. Sign in by hf auth login, or HF_TOKEN.
    """
    opened = Store.open(root)
    text = write_card(opened, CardFacts(repo.rpartition("/")[2], license_id, **facts))
    found = push(opened, repo, card=text, private=private, with_plan=with_plan, dry_run=dry_run)
    done = "would be uploaded to" if dry_run else "are in"
    click.echo(f"{found.files} files, {found.num_bytes / 1e6:.1f} MB, {done} hf://datasets/{repo}")


@store.command("pull")
@click.argument("repo", metavar="OWNER/NAME")
@click.argument("out", metavar="OUT")
@click.option("--revision", help="Branch, tag or commit.  [default: main]")
def pull_command(repo: str, out: str, revision: str | None) -> None:
    """Fetch a store from the Hugging Face hub into the new folder OUT, and verify it (pip install 'asrkd[hub]').

    OUT appears when the store is whole; run the same command again to resume.
    """
    found = pull(repo, out, revision)
    click.echo(f"{len(found.units())} shards in {out}, no problems")


_AUDIO = click.option(
    "--audio",
    type=click.Choice(AUDIO),
    help="Write the audio of the store next to the manifest, or name the recordings that were labeled.  [default: embedded, where the store embeds "
    "audio]",
)


@store.command("to-lhotse")
@click.argument("root", metavar="STORE")
@click.argument("out", metavar="OUT")
@_AUDIO
def to_lhotse_command(root: str, out: str, audio: str | None) -> None:
    """Write the utterances of STORE as a lhotse manifest, cuts.jsonl.gz in the new folder OUT: ids, texts, speakers, audio."""
    _tell_manifest(to_lhotse(Store.open(root), out, audio))


@store.command("to-nemo")
@click.argument("root", metavar="STORE")
@click.argument("out", metavar="OUT")
@_AUDIO
def to_nemo_command(root: str, out: str, audio: str | None) -> None:
    """Write the utterances of STORE as a NeMo manifest, manifest.json in the new folder OUT: ids, texts, speakers, audio."""
    _tell_manifest(to_nemo(Store.open(root), out, audio))


def _tell_manifest(found: Exported) -> None:
    click.echo(f"{found.utterances} utterances, {found.seconds / 3600:.3f} h in {found.manifest}")
