"""Segments of a corpus as a manifest of cuts, made recording by recording, in order, by several processes; a killed run resumes."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

from asrkd import files, text
from asrkd.corpus.cut_json import CutJson, to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.windows import OWNS, windows_of
from asrkd.errors import AsrkdError, CorpusError
from asrkd.segmentation.activity import activity
from asrkd.segmentation.pool import each_in_order
from asrkd.segmentation.samples import blocks
from asrkd.segmentation.segments import segments
from asrkd.segmentation.settings import SegmentSettings, WindowSettings
from asrkd.segmentation.silero import SAMPLING_RATE

MANIFESTS = (".jsonl", ".jsonl.gz")
# Of the file of an unfinished run.
_LAYOUT = 2
# It is on the disk after this long; at every cut that would keep all workers waiting for some milliseconds.
_SYNC_SECONDS = 1.0


@dataclass(frozen=True)
class SegmentedCut:
    """One cut of the corpus: the segments found in it, or why it has none.

    Only times are held, since ten hours have ten thousand segments; their cuts are made one by one when they are written.

    Attributes:
        cut: in lhotse's JSON form; of one that is unreadable the id alone.
        seconds: its length.
        times: (begin, end) of its segments or windows in seconds from its beginning.
        unreadable: why it could not be segmented; empty if it could.
    """

    cut: CutJson
    seconds: float
    times: Sequence[Sequence[float]] = ()
    unreadable: str = ""

    def parts(self, settings: SegmentSettings | WindowSettings) -> Iterator[dict[str, Any]]:
        """The cuts of its segments, in lhotse's JSON form."""
        tag = settings.fingerprint[:8]
        if isinstance(settings, SegmentSettings):
            yield from (_part(self.cut, begin, end, tag) for begin, end in self.times)
        elif self.times:
            yield from _windows(self.cut, self.seconds, settings)

    def to_dict(self, settings: SegmentSettings | WindowSettings) -> dict[str, Any]:
        """As in the report: its length, what was kept of it, and the reason where nothing could be."""
        kept = sum(round(end - begin, 6) for begin, end in self._kept(settings))
        report = {
            "id": self.cut["id"],
            "seconds": self.seconds,
            "segments": len(self.times),
            "kept_seconds": round(kept, 3),
        }
        share = {"kept": round(kept / self.seconds, 4) if self.seconds else 0.0}
        return report | ({"unreadable": self.unreadable} if self.unreadable else share)

    def _kept(self, settings: SegmentSettings | WindowSettings) -> Sequence[Sequence[float]]:
        """Its segments, or what its windows own."""
        if isinstance(settings, SegmentSettings) or not self.times:
            return self.times
        windows = windows_of(self.seconds, settings.seconds, settings.overlap)
        return [(one.owns_from, self.seconds if one.owns_to is None else one.owns_to) for one in windows]


@dataclass
class SegmentTally:
    """What was done with a corpus: cuts, those that could not be read, segments, and seconds before and after."""

    cuts: int = 0
    unreadable: int = 0
    segments: int = 0
    seconds: float = 0.0
    kept_seconds: float = 0.0

    def add(self, report: dict[str, Any]) -> None:
        """Count a line of a report."""
        self.cuts += 1
        self.unreadable += "unreadable" in report
        self.segments += report["segments"]
        self.seconds += report["seconds"]
        self.kept_seconds += report["kept_seconds"]


def segment_cut(cut: CutJson, settings: SegmentSettings | WindowSettings) -> SegmentedCut:
    """Where the segments of a cut are, found while its audio is read block by block.

    Raises:
        ConfigError: the detector is not installed.
    """
    if "unreadable" in cut:
        return SegmentedCut({"id": cut["id"]}, 0.0, unreadable=cut["unreadable"])
    seconds = float(cut["duration"])
    try:
        if "tracks" in cut:
            raise CorpusError(
                f"cut {cut['id']!r} is mixed of several recordings, and segments are parts of one; segment its recordings, or label it "
                "as it is"
            )
        if isinstance(settings, WindowSettings):
            windows = windows_of(seconds, settings.seconds, settings.overlap)
            return SegmentedCut(dict(cut), seconds, [(window.begin, window.end) for window in windows])
        scores, levels = activity(blocks(to_cut(cut), SAMPLING_RATE), use_silero=settings.vad == "silero")
    except CorpusError as error:
        return SegmentedCut({"id": cut["id"]}, seconds, unreadable=" ".join(str(error).split()))
    times = segments(scores, levels, seconds, settings)
    return SegmentedCut(dict(cut), seconds, [(round(begin, 3), min(round(end, 3), seconds)) for begin, end in times])


def segment_corpus(
    corpus: str | Path,
    out: str | Path,
    settings: SegmentSettings | WindowSettings,
    *,
    workers: int = 1,
    channel: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> SegmentTally:
    """Write the segments of a corpus as a manifest `out` of cuts, and next to it a report with a line for each cut of the corpus.

    What is done is kept in `<out>.unfinished`, so that a run that was killed resumes; the files are the same then, and with
    any number of workers. A finished manifest of the same settings is left as it is.

    Args:
        corpus: as `asrkd.corpus.cuts.open_cuts`.
        out: `.jsonl` or `.jsonl.gz`; the report is `<name>.report.jsonl`.
        workers: processes.
        channel: the only channel to take; None for the mean of all.
        progress: called with the number of cuts so far in this run and the seconds of their audio.

    Raises:
        AsrkdError: `out` is of another kind, cannot be written, or was made or begun with other settings.
        CorpusError: the corpus cannot be read, or no cut of it can.
    """
    out = Path(out)
    if not out.name.endswith(MANIFESTS):
        raise AsrkdError(f"{str(out)!r} is not a manifest's name; segments are written as .jsonl or .jsonl.gz")
    files.check_file(out)
    named = settings.to_dict() | {"corpus": os.path.abspath(corpus), "channel": channel}
    unfinished = out.with_name(out.name + ".unfinished")
    report = report_file(out)
    tally = SegmentTally()
    if report.is_file():
        header, *lines = _json_lines(report)
        _check_settings(header, named, report, "delete it and the manifest, or choose another name")
        if out.is_file():
            for line in lines:
                tally.add(line)
            return tally
    todo = iterate_json(corpus, channel)
    is_begun = _cut_torn_line(unfinished)
    with open(unfinished, "ab") as journal:
        if not is_begun:
            _append(journal, {"layout": _LAYOUT, "settings": named})
        for one in _done(unfinished, named):
            if (found := next(todo, {"id": None})["id"]) != one.cut["id"]:
                raise AsrkdError(
                    f"{str(corpus)!r} has the cut {found!r} where {str(unfinished)!r} has {one.cut['id']!r}; the corpus has changed since the run "
                    "began: delete the unfinished file"
                )
        seconds, synced = 0.0, time.monotonic()
        for number, one in enumerate(each_in_order(partial(segment_cut, settings=settings), todo, workers), 1):
            _append(journal, vars(one))
            if time.monotonic() - synced >= _SYNC_SECONDS:
                os.fsync(journal.fileno())
                synced = time.monotonic()
            seconds += one.seconds
            if progress:
                progress(number, seconds)
    first_reason = ""
    for one in _done(unfinished, named):
        tally.add(one.to_dict(settings))
        first_reason = first_reason or one.unreadable
    if tally.unreadable == tally.cuts:
        unfinished.unlink()  # so that a fixed corpus is read again
        raise CorpusError(f"no cut of {str(corpus)!r} can be segmented; the first one: {first_reason}")
    files.write(out, lambda stream: _write_cuts(stream, out, _parts(unfinished, named, settings)))
    files.write(report, lambda stream: _write_report(stream, named, settings, _done(unfinished, named)))
    unfinished.unlink()
    return tally


def report_file(out: Path) -> Path:
    """The report next to a manifest of segments."""
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".jsonl") + ".report.jsonl")


def _parts(
    unfinished: Path, named: dict[str, Any], settings: SegmentSettings | WindowSettings
) -> Iterator[dict[str, Any]]:
    for one in _done(unfinished, named):
        yield from one.parts(settings)


def _write_cuts(stream: IO[bytes], out: Path, parts: Iterable[dict[str, Any]]) -> None:
    with ExitStack() as stack:
        # Without a time, so that the same cuts are the same bytes.
        sink = stack.enter_context(gzip.GzipFile("", "wb", 6, stream, 0)) if out.name.endswith(".gz") else stream
        for part in parts:
            sink.write(f"{json.dumps(part, ensure_ascii=False)}\n".encode())


def _part(cut: CutJson, begin: float, end: float, tag: str) -> dict[str, Any]:
    """The cut of a segment, with those supervisions that lie wholly within it."""
    name = f"{cut['id']}-{tag}-{round(begin * 1000):08d}-{round(end * 1000):08d}"
    supervisions = [
        one | {"start": round(one["start"] - begin, 6)}
        for one in cut.get("supervisions") or ()
        if one["start"] >= begin and one["start"] + one["duration"] <= end
    ]
    custom = (cut.get("custom") or {}) | {"segmented_from": cut["id"], "segmentation": tag}
    start = round(cut.get("start", 0.0) + begin, 6)
    part = {
        "id": name,
        "start": start,
        "duration": round(end - begin, 6),
        "supervisions": supervisions,
        "custom": custom,
    }
    return dict(cut) | part


def _windows(cut: CutJson, seconds: float, settings: WindowSettings) -> Iterator[dict[str, Any]]:
    """The cuts of windows, without supervisions, whose words two windows would have."""
    bare = dict(cut) | {"supervisions": []}
    for window in windows_of(seconds, settings.seconds, settings.overlap):
        part = _part(bare, window.begin, round(window.end, 6), settings.fingerprint[:8])
        to = None if window.owns_to is None else round(window.owns_to - window.begin, 6)
        part["custom"][OWNS] = [round(window.owns_from - window.begin, 6), to]
        yield part


def _write_report(
    stream: IO[bytes],
    named: dict[str, Any],
    settings: SegmentSettings | WindowSettings,
    done: Iterable[SegmentedCut],
) -> None:
    for line in chain([{"settings": named}], (one.to_dict(settings) for one in done)):
        stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _append(journal: IO[bytes], line: dict[str, Any]) -> None:
    journal.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    journal.flush()


def _cut_torn_line(unfinished: Path) -> bool:
    """Take away a line that a killed run had only begun; whether any is left."""
    if not unfinished.is_file():
        return False
    with open(unfinished, "r+b") as stream:
        whole = 0
        for line in stream:
            whole += len(line) if line.endswith(b"\n") else 0
        stream.truncate(whole)
    return whole > 0


def _done(unfinished: Path, named: dict[str, Any]) -> Iterator[SegmentedCut]:
    """What is in the file of an unfinished run, of the same settings."""
    for number, line in enumerate(_json_lines(unfinished)):
        if not number:
            _check_settings(line, named, unfinished, "delete it, or give the settings that it has")
            if line.get("layout") != _LAYOUT:
                raise AsrkdError(f"{str(unfinished)!r} was begun by another version of asrkd; delete it to begin again")
        else:
            yield SegmentedCut(**line)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for _, value in text.json_values(text.stream(path, what="segments", ends=True), what=repr(str(path))):
        yield value


def _check_settings(header: Any, named: dict[str, Any], path: Path, advice: str) -> None:
    settings = header.get("settings") if isinstance(header, dict) else None
    if not isinstance(settings, dict):
        raise AsrkdError(f"{str(path)!r} was not written by a segmentation; move it away, or choose another name")
    for name in named.keys() | settings.keys():
        if settings.get(name) != named.get(name):
            raise AsrkdError(
                f"{str(path)!r} is of a segmentation with {name} {settings.get(name)!r}, not {named.get(name)!r}; {advice}"
            )
