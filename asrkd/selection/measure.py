"""A corpus measured: its manifest again, with fields that `--where` can ask for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from asrkd import files
from asrkd.corpus.cuts import iterate_json
from asrkd.errors import AsrkdError, CorpusError
from asrkd.segmentation.pool import each_in_order
from asrkd.selection.fingerprints import Duplicates
from asrkd.selection.levels import MeasuredCut, measure_cut
from asrkd.selection.spoken_language import language_detector

_MANIFESTS = (".jsonl", ".jsonl.gz")


@dataclass
class MeasureTally:
    """What was found in a corpus: cuts, those that cannot be read, copies of others, hours of the rest."""

    cuts: int = 0
    unreadable: int = 0
    duplicates: int = 0
    hours: float = 0.0
    first_reason: str = ""


def measured_fields(one: MeasuredCut, duplicate_of: str) -> dict[str, Any]:
    """The custom fields of a cut."""
    fields = {
        "level_dbfs": one.level_dbfs,
        "peak_dbfs": one.peak_dbfs,
        "clipping": round(one.clipping, 6),
        "snr_db": one.snr_db,
        "duplicate_of": duplicate_of,
    }
    if one.language:
        fields |= {"spoken_language": one.language.name, "spoken_language_probability": one.language.probability}
    return fields


def measure_corpus(
    corpus: str | Path,
    out: str | Path,
    *,
    workers: int = 1,
    channel: int | None = None,
    language_model: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> MeasureTally:
    """Write the cuts of a corpus as a manifest with `measured_fields`, in order; those that cannot be read are in `<name>.unreadable.jsonl`, each with its reason.

    The files appear whole or not at all, and are the same with any number of workers. Memory holds 250 bytes a cut, to find copies.

    Args:
        corpus: as `asrkd.corpus.cuts.open_cuts`.
        out: `.jsonl` or `.jsonl.gz`.
        channel: the only channel to take; None for the mean of all.
        language_model: as `measure_cut`.
        progress: called with the number of cuts so far and the seconds of their audio.

    Raises:
        AsrkdError: `out` is of another kind, or cannot be written.
        CorpusError: the corpus cannot be read, or no cut of it can.
        ModelError: the language model cannot be used.
        DependencyError: its package is not installed.
    """
    out = Path(out)
    if not out.name.endswith(_MANIFESTS):
        raise AsrkdError(f"{str(out)!r} is not a manifest's name; give one that ends in .jsonl or .jsonl.gz")
    if out.resolve() == Path(corpus).resolve():
        raise AsrkdError(f"{str(out)!r} is the corpus itself, which is read while it is written; choose another name")
    files.check_file(out)
    if language_model:
        language_detector(language_model)  # raises what is wrong with it before anything is read
    work = partial(measure_cut, language_model=language_model)
    tally, duplicates, unreadable = MeasureTally(), Duplicates(), list[dict[str, str]]()

    def write(stream: IO[bytes]) -> None:
        with ExitStack() as stack:
            sink = stack.enter_context(gzip.GzipFile("", "wb", 6, stream, 0)) if out.suffix == ".gz" else stream
            for one in each_in_order(work, iterate_json(corpus, channel), workers):
                tally.cuts += 1
                if one.unreadable:
                    tally.unreadable += 1
                    tally.first_reason = tally.first_reason or one.unreadable
                    unreadable.append({"id": one.cut["id"], "unreadable": one.unreadable})
                else:
                    seconds = float(one.cut["duration"])
                    tally.hours += seconds / 3600
                    first = duplicates.first_like(one.cut["id"], seconds, one.samples_hash, one.fingerprint)
                    tally.duplicates += bool(first)
                    sink.write(
                        f"{json.dumps(_with(one.cut, measured_fields(one, first)), ensure_ascii=False)}\n".encode()
                    )
                if progress:
                    progress(tally.cuts, 3600 * tally.hours)
            if tally.cuts == tally.unreadable:
                raise CorpusError(f"no cut of {str(corpus)!r} can be read; the first one: {tally.first_reason}")

    files.write(out, write)
    lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in unreadable)
    files.write(unreadable_file(out), lines)
    return tally


def unreadable_file(out: Path) -> Path:
    """Next to a measured manifest: the cuts that are not in it."""
    return out.with_name(out.name.removesuffix(".gz").removesuffix(".jsonl") + ".unreadable.jsonl")


def _with(cut: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """A cut with further custom fields, which of a mixed cut are those of its tracks."""
    if "tracks" in cut:
        tracks = [track | {"cut": _with(track["cut"], fields)} for track in cut["tracks"]]
        return dict(cut) | {"tracks": tracks}
    return dict(cut) | {"custom": (cut.get("custom") or {}) | fields}
