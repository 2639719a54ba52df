"""The plan: a corpus cut into work units of about equal audio duration, and frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from lhotse.cut import Cut
from lhotse.cut.set import deserialize_cut

from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, CorpusError, MismatchError, StoreError
from asrkd.store import manifest
from asrkd.store.files import exists
from asrkd.store.identity import Identity
from asrkd.store.manifest import Manifest
from asrkd.store.plan import plan_name, read_cuts, to_lines, write_cuts
from asrkd.targets.codecs import parse_codec
from asrkd.teachers import Teacher, load_teacher


def plan(
    cuts: str,
    root: str,
    *,
    teacher: str | None = None,
    codec: str | None = None,
    embed: str = "none",
    unit_hours: float = 1.0,
    front_end: FrontEnd | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Manifest:
    """Plan the labeling of a corpus into a new store, holding neither the corpus nor more than one unit in memory.

    (16 bytes of each id's hash are held, to refuse duplicates.) The manifest is written last: a folder without one is
    no store yet, and planning again overwrites what a killed plan left.

    Args:
        cuts: corpus, see `asrkd.corpus.cuts.open_cuts`.
        root: folder or URI of the new store.
        teacher: spec of the teacher; None makes a store of transcripts only (the labeled set).
        codec: codec spec, default `topk:20`; only with a teacher.
        embed: `audio`, `features` or `none`: what the rows carry besides.
        unit_hours: hours of audio in a work unit.
        front_end: for a store without a teacher; the default front end if None.
        progress: called with cuts and hours so far.

    Raises:
        StoreError: there is a store already.
        CorpusError: no cuts, or an id that stands twice.
        ConfigError: options that do not go together.
    """
    if not unit_hours > 0:
        raise ConfigError(f"unit_hours is {unit_hours}, but must be above 0")
    if exists(root, manifest.NAME):
        raise StoreError(f"{root!r} is a store already; continue it with asrkd label run, or plan into another folder")
    identity = _identity(teacher, codec, embed, front_end)
    seen: set[bytes] = set()
    unit: list[dict[str, Any]] = []
    num_units, seconds, unit_seconds, digest = 0, 0.0, 0.0, hashlib.sha256()

    def close() -> None:
        nonlocal num_units, unit, unit_seconds
        lines = to_lines(unit)
        digest.update(lines)
        write_cuts(root, num_units, lines)
        num_units, unit, unit_seconds = num_units + 1, [], 0.0

    for cut in iterate(open_cuts(cuts), what=cuts):
        key = hashlib.sha256(cut.id.encode()).digest()[:16]
        if key in seen:
            raise CorpusError(
                f"cut id {cut.id!r} stands twice in {cuts!r}; targets are found by id, so one would be lost. Make the ids "
                "unique (lhotse: cuts.modify_ids)"
            )
        seen.add(key)
        unit.append(cut.to_dict())
        seconds, unit_seconds = seconds + cut.duration, unit_seconds + cut.duration
        if progress:
            progress(len(seen), seconds / 3600)
        if unit_seconds >= unit_hours * 3600:
            close()
    if unit:
        close()
    summary = {
        "num_units": num_units,
        "num_cuts": len(seen),
        "hours": seconds / 3600,
        "fingerprint": digest.hexdigest()[:32],
    }
    return manifest.create(root, identity, summary)


def _identity(teacher: str | None, codec: str | None, embed: str, front_end: FrontEnd | None) -> Identity:
    if teacher is None:
        if codec is not None:
            raise ConfigError(
                f"codec {codec!r} is given without a teacher; a store of transcripts has no targets to pack"
            )
        if embed == "none":
            raise ConfigError("a store of transcripts without audio or features holds nothing to train on; set embed")
        return Identity(front_end=(front_end or FrontEnd()).to_dict(), embed=embed)
    if front_end is not None:
        raise ConfigError("front_end is given with a teacher; the teacher brings its own front end")
    loaded = load_teacher(teacher)
    return teacher_identity(loaded, codec=parse_codec(codec or "topk:20").spec, embed=embed)


def teacher_identity(teacher: Teacher, *, codec: str, embed: str) -> Identity:
    """The identity of a store that this teacher labels."""
    return Identity(
        teacher=teacher.spec,
        teacher_fingerprint=teacher.fingerprint,
        codec=codec,
        topology=teacher.inventory.topology,
        units=teacher.inventory.units,
        states_per_phone=teacher.inventory.states_per_phone,
        front_end=teacher.front_end.to_dict(),
        subsampling_factor=teacher.subsampling_factor,
        embed=embed,
    )


def read_unit(root: str, unit: int) -> Iterator[Cut]:
    """The cuts of a work unit, in order.

    Raises:
        StoreError: the plan is damaged.
    """
    try:
        yield from map(deserialize_cut, read_cuts(root, unit))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{plan_name(unit)} of the store {root!r} is damaged ({error}); plan into a new store"
        ) from None


def check_teacher(root: str, identity: Identity) -> Teacher | None:
    """Load the teacher that a store was planned with (None for transcripts only).

    Raises:
        MismatchError: the spec now names another teacher.
    """
    if not identity.teacher:
        return None
    teacher = load_teacher(identity.teacher)
    if teacher.fingerprint != identity.teacher_fingerprint:
        raise MismatchError(
            f"teacher {identity.teacher!r} now has the fingerprint {teacher.fingerprint[:12]}, the store {root!r} was planned "
            f"with {identity.teacher_fingerprint[:12]}; targets of two teachers must not be mixed. Restore the teacher, or "
            "plan a new store"
        )
    identity.check(
        teacher_identity(teacher, codec=identity.codec, embed=identity.embed), what=f"teacher {teacher.spec!r}"
    )
    return teacher
