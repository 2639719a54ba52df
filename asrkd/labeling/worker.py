"""The worker: work units from audio to shards, with reading, packing and writing while the teacher works."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from asrkd.labeling.readers import Readers
from asrkd.labeling.reading import CutBatch, CutJson, batches
from asrkd.labeling.teacher_pass import AnyTeacher, pass_of
from asrkd.prefetch import Prefetch
from asrkd.store import Store
from asrkd.store.schema import shard_name
from asrkd.store.writer import shard_bytes

# Timeout for reading a batch (minutes of audio).
READ_SECONDS = 300.0
_UNKNOWN = "not in the shard of the task that finished the unit, whose reason was lost; run asrkd label retry"
# Batches that wait for the teacher, and for being packed.
_AHEAD = 2


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit: utterances stored, (cut id, reason) of those in quarantine, seconds of audio, bytes.

    `labeled_here`: by this job; otherwise another task finished it, and only its quarantine is told.
    """

    unit: int
    stored: int
    quarantined: tuple[tuple[str, str], ...]
    seconds: float
    num_bytes: int
    labeled_here: bool = True


@dataclass
class _Unit:
    """A unit in work: the ids of its cuts in the order of the plan, its finished rows, its bad cuts."""

    number: int
    ids: list[str]
    bad: dict[str, str]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


# A unit, and whether a batch is its last.
_Place = tuple[_Unit, bool]


class Labeler:
    """Labels units of one store, one after the other.

    The bytes of a shard depend on the plan, the teacher and the codec alone: batches are cut from the unit's cuts sorted by duration,
    rows are written in plan order. A cut that cannot be read goes to quarantine with the reason.

    Args:
        store: planned before.
        teacher: of frames or of text; None for a store of transcripts.
        readers: processes that read audio and make features; 0 uses a thread.
        read_seconds: timeout for reading a batch, with processes.
        may_commit: asked before a unit is written, where others may work on it too; without it a shard that is there is replaced.
    """

    def __init__(
        self,
        store: Store,
        teacher: AnyTeacher | None,
        *,
        readers: int = 0,
        read_seconds: float = READ_SECONDS,
        may_commit: Callable[[int], bool] | None = None,
    ) -> None:
        self._store, self._identity, self._may_commit = store, store.identity, may_commit
        self._pass = pass_of(store, teacher)
        self._front_end = store.identity.front_end
        self._readers: Readers[_Place] = Readers(
            self._front_end,
            store.identity.embedding,
            processes=readers,
            seconds=read_seconds,
            samples=self._pass.samples,
            limit=self._pass.limit,
        )
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="asrkd-writer")

    def __enter__(self) -> Labeler:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the readers and the writer."""
        self._readers.close()
        self._writer.shutdown(cancel_futures=True)

    def label(self, units: Iterable[int]) -> Iterator[UnitResult]:
        """Label units; `units` is asked ahead, in another thread. A unit that may not be committed has no result.

        Raises:
            MismatchError: the teacher's frames are not those of the frame law.
            ModelError: the teacher gives NaN.
            StoreError: a shard cannot be written.
        """
        work = Prefetch(self._heard(units), _AHEAD)
        packing: deque[Future[Any]] = deque()
        finishing: deque[Future[Any]] = deque()
        ended = False
        try:
            for (unit, is_last), batch, ready in work:
                unit.bad.update(batch.bad)
                said, bad = self._pass.run(batch.heard, ready)
                unit.bad.update(bad)
                packing.append(self._writer.submit(self._pack, unit, batch, said))
                if is_last:
                    finishing.append(self._writer.submit(self._finish, unit))
                while len(packing) > _AHEAD:
                    packing.popleft().result()
                while finishing and finishing[0].done():
                    yield from _given(finishing.popleft())
            for future in packing:
                future.result()
            while finishing:
                yield from _given(finishing.popleft())
            ended = True
        finally:
            if not ended:
                self._readers.close()  # else the end of the prefetch would wait for them
            for pending in (*packing, *finishing):
                pending.cancel()
            work.close()

    def _heard(self, units: Iterable[int]) -> Iterator[tuple[_Place, CutBatch, Any]]:
        """Batches with the teacher's input, ready for the device."""
        for place, batch in self._readers.read(self._planned(units)):
            yield place, batch, self._pass.ready(batch.heard)

    def _planned(self, units: Iterable[int]) -> Iterator[tuple[_Place, list[CutJson]]]:
        for number in units:
            cuts = self._store.cuts(number)
            bad = {cut["id"]: cut["unreadable"] for cut in cuts if "unreadable" in cut}
            usable = [cut for cut in cuts if "unreadable" not in cut]
            unit = _Unit(number, [cut["id"] for cut in usable], bad)
            parts = list(batches(usable, self._front_end, self._pass.samples)) or [[]]
            for at, part in enumerate(parts, 1):
                yield (unit, at == len(parts)), part

    def _pack(self, unit: _Unit, batch: CutBatch, said: Sequence[Any]) -> None:
        for one, what in zip(batch.heard, said, strict=True):
            columns = self._pass.columns(one, what)
            if columns is not None:
                num_frames = {"num_frames": self._identity.frame_law.num_frames(one.row["num_samples"])}
                unit.rows[one.row["id"]] = one.row | num_frames | columns

    def _finish(self, unit: _Unit) -> UnitResult | None:
        files, quarantine, number = self._store.files, self._store.quarantine, unit.number
        rows = [unit.rows[key] for key in unit.ids if key in unit.rows]
        quarantined = tuple(sorted(unit.bad.items()))
        data = shard_bytes(number, rows, self._identity)
        if self._may_commit is not None and (files.exists(shard_name(number)) or not self._may_commit(number)):
            return None
        before = quarantine.of([number])
        if quarantined:  # before the shard, whose presence says that the unit is done
            quarantine.write(number, quarantined)
        if self._may_commit is None:
            files.write(shard_name(number), data)
        elif not files.create(shard_name(number), data):
            if quarantined:
                self._agree(number, dict(quarantined) | dict(before))
            return None
        if before and not quarantined:  # of an earlier attempt
            quarantine.write(number, [])
        return UnitResult(number, len(rows), quarantined, sum(row["duration"] for row in rows), len(data))

    def _agree(self, unit: int, reasons: Mapping[str, str]) -> None:
        """Let the quarantine of a finished unit be what its shard has not, after two tasks labeled it with different luck.

        Args:
            reasons: what is known of bad cuts, by id.
        """
        stored = set(self._store.column(unit, "id").to_pylist())
        missing = sorted({cut["id"] for cut in self._store.cuts(unit)} - stored)
        self._store.quarantine.write(unit, [(key, reasons.get(key, _UNKNOWN)) for key in missing])


def _given(future: Future[UnitResult | None]) -> Iterator[UnitResult]:
    result = future.result()
    if result is not None:
        yield result
