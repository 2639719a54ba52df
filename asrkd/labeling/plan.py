"""The plan: a corpus cut into work units of about equal audio duration, and frozen."""

from __future__ import annotations

import hashlib
import logging
import math
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from asrkd import fingerprint, text
from asrkd.acoustic import load_model
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import transcript_of
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.corpus.where import Where
from asrkd.corpus.windows import OWNS, check_frame_shift
from asrkd.errors import ConfigError, CorpusError, StoreError
from asrkd.labeling.layer import with_layer
from asrkd.labeling.plan_lines import plan_line, unreadable
from asrkd.labeling.reading import MAX_SECONDS
from asrkd.labeling.seen_ids import SeenIds
from asrkd.labeling.teacher_identity import planned_identity
from asrkd.store import Store, manifest
from asrkd.store.delete import deleted_ids
from asrkd.store.files import Files
from asrkd.store.identity import Identity
from asrkd.store.plan import PlanTotals, write_planned
from asrkd.targets.streams import POSTERIORS
from asrkd.text_teachers import is_text_spec

T = TypeVar("T")
_log = logging.getLogger(__name__)
# What the manifest sums over all plans of a store.
_SUMS = ("num_cuts", "num_unreadable", "num_without_text", "num_too_long", "hours")


def plan(
    cuts: str | Sequence[str],
    out: str,
    *,
    teacher: str | None = None,
    codec: str | None = None,
    embed: str = Identity.embed,
    autocast: str = "",
    compile: bool = False,
    layer: str = "",
    codebooks: str = "",
    unit_hours: float = 1.0,
    where: Sequence[Where] = (),
    front_end: AnyFrontEnd | None = None,
    channel: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Store:
    """Plan the labeling of one or more corpora into a new store, holding no more than one unit of cuts in memory.

    (12 bytes of each id's hash are held, to refuse duplicates.) The manifest is written last: a folder without one is
    no store yet, and planning again overwrites what a killed plan left.

    Args:
        cuts: corpora, see `asrkd.corpus.cuts.open_cuts`.
        out: folder or URI of the new store.
        teacher: spec of the teacher; None makes a store of transcripts only (the labeled set).
        codec: codec spec, default `DEFAULT_CODEC` of `asrkd.targets.codecs`; only with a teacher.
        embed: what the rows carry besides, see `asrkd.store.embedding`.
        autocast, compile: how the teacher computes, see `asrkd.acoustic.load_model`. Fixed here, because the bytes depend on it.
        layer: a layer of the teacher's model (`torch.nn.Module.get_submodule`) whose output is stored for every frame.
        codebooks: a file by `asrkd.labeling.layer.make_codebooks`, whose indexes are stored in place of 16-bit numbers.
        unit_hours: hours of audio in a work unit.
        where: conditions that a cut must meet, all of them.
        front_end: for a store without a teacher of frames; the default front end if None.
        channel: the only channel to take of cuts that have several, from 0; None for the mean of all.
        progress: called with cuts and hours so far.

    Raises:
        StoreError: there is a store already.
        CorpusError: no cuts, or an id that occurs twice.
        ConfigError: options that do not go together.
    """
    _check_unit_hours(unit_hours)
    files = Files(out)
    if files.exists(manifest.NAME):
        raise StoreError(
            f"{out!r} is a store already; continue it with asrkd label run, add cuts with asrkd label grow, or plan into "
            "another folder"
        )
    files.check_writable()
    planned = planned_identity(teacher, codec, embed, autocast, compile, front_end)
    identity, max_seconds = planned.identity, planned.max_seconds
    if layer:
        if teacher is None or compile or is_text_spec(teacher):
            raise ConfigError(
                f"layer {layer!r} is given without a teacher of frames, or with compile, which hides layers; leave one of them out"
            )
        loaded = load_model(teacher, autocast=autocast)
        identity = with_layer(identity, files, loaded, layer, codebooks)
    elif codebooks:
        raise ConfigError(f"codebooks {codebooks!r} are given without the layer that they are of; name it")
    units = _Units(files, PlanTotals.of([], []), unit_hours, max_seconds)
    corpora = [cuts] if isinstance(cuts, str) else list(cuts)
    _fill(units, corpora, where, progress, identity=identity, channel=channel)
    if units.num_cuts and units.num_cuts == units.num_unreadable:
        raise CorpusError(f"none of {units.num_cuts} cuts can be used; the first: {units.first_reason}")
    if not units.num_cuts:
        raise CorpusError(
            f"no cut of {', '.join(corpora)} meets every condition, so there is nothing to plan; loosen --where"
        )
    summary = units.summary()
    manifest.create(files, identity, summary, planned.tokenizer)
    return Store(files, identity, summary)


def grow(
    cuts: str | Sequence[str],
    store: Store,
    *,
    unit_hours: float = 1.0,
    where: Sequence[Where] = (),
    channel: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Store, int]:
    """Add the cuts of a grown corpus that a store has not planned yet, as further units; those that are there do not change.

    Cuts that were planned, or deleted from the store, are passed over by their ids; an audio file that could not be opened then and
    can be now is added. The manifest is written last; growing again
    after a kill does the same.

    Returns:
        The grown store, and the number of added cuts.

    Raises:
        StoreError: the store has no plan.
        CorpusError: no cuts, or an id that occurs twice in the corpora.
    """
    _check_unit_hours(unit_hours)
    first = store.num_units
    known = SeenIds()
    unreadable: set[str] = set()
    counts, seconds = [0] * first, [0.0] * first
    for number in range(first):
        planned = store.cuts(number)
        counts[number], seconds[number] = len(planned), math.fsum(map(_seconds, planned))
        known.add([*(cut["id"] for cut in planned if "unreadable" not in cut), *deleted_ids(store.files, number)])
        unreadable.update(cut["id"] for cut in planned if "unreadable" in cut)
    units = _Units(store.files, PlanTotals.of(counts, seconds), unit_hours, store.plan.get("max_seconds", MAX_SECONDS))
    corpora = [cuts] if isinstance(cuts, str) else list(cuts)
    _fill(units, corpora, where, progress, known, unreadable, identity=store.identity, channel=channel)
    if not units.num_cuts:
        return store, 0
    added = units.summary()
    summary = {
        **{name: store.plan[name] for name in ("max_seconds",) if name in store.plan},
        "num_units": added["num_units"],
        **{name: store.plan.get(name, 0) + added[name] for name in _SUMS},
        "fingerprint": fingerprint.of_json([store.plan["fingerprint"], added["fingerprint"]]),
    }
    manifest.replace_plan(store.files, store.identity, summary)
    return Store(store.files, store.identity, summary), units.num_cuts


class _Units:
    """Work units that are filled one after the other."""

    def __init__(self, files: Files, before: PlanTotals, unit_hours: float, max_seconds: float) -> None:
        """`before`: the totals of the units that there are already; `max_seconds`: of a cut that the teacher takes."""
        self._max_seconds = max_seconds
        self.num_cuts, self.seconds = 0, 0.0
        self.num_unreadable, self.first_reason = 0, ""
        self.num_without_text = self.num_too_long = 0
        self._files, self._limit = files, unit_hours * 3600
        self._unit_cuts, self._seconds = array("q", before.cuts), array("d", before.seconds)
        self.num_changed = 0
        self._lines: list[bytes] = []
        self._unit_seconds, self._digest = 0.0, hashlib.sha256()

    def add(self, cut: dict[str, Any]) -> None:
        cut, line, changed = plan_line(cut)
        self.num_changed += changed
        seconds = _seconds(cut)
        self.num_too_long += seconds > self._max_seconds
        self._lines.append(line)
        if "unreadable" in cut:
            self.first_reason = self.first_reason or cut["unreadable"]
            self.num_unreadable += 1
        self.num_cuts, self.seconds, self._unit_seconds = (
            self.num_cuts + 1,
            self.seconds + seconds,
            self._unit_seconds + seconds,
        )
        if self._unit_seconds >= self._limit:
            self._close()

    def summary(self) -> dict[str, Any]:
        """What the manifest says of the plan, once the last unit is closed; writes the totals of all units."""
        if self._lines:
            self._close()
        PlanTotals.of(self._unit_cuts, self._seconds).write(self._files)
        if self.num_changed:
            _log.warning(
                "%d cuts have custom fields that are NaN or infinite, which JSON does not have; they are planned as null",
                self.num_changed,
            )
        digest = self._digest.hexdigest()[:32]
        return {
            "num_units": len(self._unit_cuts),
            "num_cuts": self.num_cuts,
            "num_unreadable": self.num_unreadable,
            "num_without_text": self.num_without_text,
            "num_too_long": self.num_too_long,
            **({"max_seconds": self._max_seconds} if self._max_seconds != MAX_SECONDS else {}),
            "hours": self.seconds / 3600,
            "fingerprint": digest,
        }

    def _close(self) -> None:
        lines = b"".join(self._lines)
        self._digest.update(lines)
        write_planned(self._files, len(self._unit_cuts), lines)
        self._unit_cuts.append(len(self._lines))
        self._seconds.append(self._unit_seconds)
        self._lines, self._unit_seconds = [], 0.0


def _fill(
    units: _Units,
    corpora: Sequence[str],
    where: Sequence[Where],
    progress: Callable[[int, float], None] | None,
    known: SeenIds | None = None,
    unreadable: Collection[str] = (),
    *,
    identity: Identity,
    channel: int | None,
) -> None:
    """Add every cut that meets the conditions and is not known; of the `unreadable` ids only those that are so no more.

    A cut whose supervisions are not what is said in it (`asrkd.corpus.transcripts`) cannot be used in a labeled set; with a teacher,
    its text is left out.
    """
    seen = SeenIds()
    for name in corpora:
        for batch in _batched(map(_named, iterate_json(name, channel)), 1000):
            ids = [cut["id"] for cut in batch]
            repeated = seen.add(ids)
            if repeated.any():
                first = ids[int(np.flatnonzero(repeated)[0])]
                raise CorpusError(
                    f"cut id {first!r} of {name!r} occurs twice in {', '.join(map(repr, corpora))}; targets are found by id, so one "
                    "would be lost. Make the ids unique (lhotse: cuts.modify_ids)"
                )
            old = known.contains(ids) if known else np.zeros(len(ids), dtype=bool)
            for cut, is_old in zip(batch, old.tolist(), strict=True):
                if is_old or (where and "unreadable" not in cut and not all(condition(cut) for condition in where)):
                    continue
                # A cut that cannot be used has no fields to be judged by; labeling puts it into quarantine.
                problem = transcript_of(cut).problem if cut.get("supervisions") or "tracks" in cut else ""
                wrong = _problem_of_window(identity) if OWNS in (cut.get("custom") or ()) else ""
                if not identity.teacher:
                    wrong = problem or wrong
                if wrong:
                    cut = {"id": cut["id"], "unreadable": f"cut {cut['id']!r} {wrong}"}
                if cut["id"] in unreadable:
                    cut = plan_line(cut)[0]  # by which it may be unreadable still
                if "unreadable" not in cut:
                    units.add(cut)
                    units.num_without_text += bool(problem)
                elif cut["id"] not in unreadable:
                    units.add(cut)
            if progress:
                progress(units.num_cuts, units.seconds / 3600)


def _problem_of_window(identity: Identity) -> str:
    """Why a window cannot be in a store of texts; empty where a teacher of frames labels.

    Raises:
        ConfigError: a teacher whose frames windows do not share.
    """
    if POSTERIORS in identity.streams:
        check_frame_shift(identity.frame_law, identity.front_end.sampling_rate)
        return ""
    return (
        "is a window that overlaps others, for a teacher of frames alone; transcripts and text teachers take segments"
    )


def _seconds(cut: Mapping[str, Any]) -> float:
    """Of audio; 0 of a cut that cannot be used."""
    return float(cut.get("duration", 0.0))


def _named(cut: dict[str, Any]) -> dict[str, Any]:
    """A cut whose id can be written and compared."""
    return cut if cut["id"].isascii() or text.is_utf8(cut["id"]) else unreadable(cut)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _check_unit_hours(unit_hours: float) -> None:
    if not unit_hours > 0:
        raise ConfigError(f"unit_hours is {unit_hours}, but must be above 0")
