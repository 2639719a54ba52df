"""Corpus in: lhotse cuts, a folder of audio files, or a table, all read lazily as lhotse `CutSet`s."""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.cut.set import deserialize_cut
from lhotse.serialization import load_jsonl

from asrkd.corpus.audio import Unreadable, wrong_times
from asrkd.corpus.channels import choose_channel
from asrkd.corpus.folders import audio_files, folder_cuts
from asrkd.corpus.sources import absolute_sources
from asrkd.corpus.tables import table_cuts
from asrkd.errors import CorpusError

T = TypeVar("T")
_MANIFESTS = (".jsonl", ".jsonl.gz")


def open_cuts(path: str | Path) -> CutSet:
    """The cuts of a corpus, read as they are iterated.

    Args:
        path: a lhotse manifest (`.jsonl`, `.jsonl.gz`), a lhotse Shar folder (`cuts.*.jsonl.gz` with `recording.*.tar`),
            any other folder (every audio file below it is one untranscribed cut), or a `.tsv`/`.csv` table with a
            header: `audio` (relative to the table), and optionally `id`, `text`, `speaker`, `start`, `duration`, `channel`.

    Raises:
        CorpusError: the path is missing, of another kind, or holds nothing.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("cuts.*.jsonl*")):
            return CutSet.from_shar(in_dir=path)
        files = audio_files(path)
        return CutSet(_Lazy(lambda: _readable(folder_cuts(path, files))))
    if not path.exists():
        raise CorpusError(f"corpus {str(path)!r} does not exist; give a cuts manifest, a folder of audio or a table")
    if path.suffix in (".tsv", ".csv"):
        return CutSet(_Lazy(lambda: _readable(table_cuts(path))))
    if path.name.endswith(_MANIFESTS):
        return CutSet.from_jsonl_lazy(path)
    raise CorpusError(
        f"corpus {str(path)!r} is of no known kind; give .jsonl, .jsonl.gz, .tsv, .csv, a Shar folder or a folder of audio"
    )


class _Lazy:
    """An iterable that can be iterated again."""

    def __init__(self, make) -> None:  # type: ignore[no-untyped-def]
        self._make = make

    def __iter__(self) -> Iterator[Cut]:
        return self._make()


def iterate(cuts: Iterable[T], *, what: str) -> Iterator[T]:
    """The cuts one by one; a manifest that is damaged or empty is a `CorpusError` that names `what`."""
    empty = True
    try:
        for cut in cuts:
            empty = False
            yield cut
    except CorpusError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        tarfile.TarError,
    ) as error:
        raise CorpusError(
            f"{what!r} cannot be read as cuts ({type(error).__name__}: {error}); is it damaged?"
        ) from None
    if empty:
        raise CorpusError(f"{what!r} holds no cuts, so there is nothing to do; check how it was made")


def iterate_json(path: str | Path, channel: int | None = None) -> Iterator[dict[str, Any]]:
    """The cuts of a corpus in lhotse's JSON form, for work that does not touch audio; several times as fast as `iterate`.

    An audio file of a folder or a table that cannot be opened is `{"id": ..., "unreadable": reason}`, and so is a cut whose
    times are not those of any audio. Paths are absolute.

    Args:
        path: as `open_cuts`.
        channel: the only channel to take of those that a cut has; None for the mean of all.

    Raises:
        CorpusError: as `open_cuts` and `iterate`.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(_MANIFESTS):
        items: Iterable[Any] = load_jsonl(path)
    elif path.is_dir() and not any(path.glob("cuts.*.jsonl*")):
        items = folder_cuts(path, audio_files(path), channel)
    elif path.is_file() and path.suffix in (".tsv", ".csv"):
        items = table_cuts(path, channel)
    else:
        items = open_cuts(path)
    for item in iterate(items, what=str(path)):
        if isinstance(item, Unreadable):
            yield {"id": item.id, "unreadable": item.reason}
        elif isinstance(item, dict):
            yield _of_manifest(item, path, channel)
        else:
            cut = item.to_dict()
            yield cut if channel is None else choose_channel(cut, channel)


def _of_manifest(item: dict[str, Any], path: Path, channel: int | None) -> dict[str, Any]:
    cut = _checked(item, path)
    if wrong := wrong_times(cut.get("start", 0), cut["duration"]):
        return {"id": cut["id"], "unreadable": f"cut {cut['id']!r} {wrong}; correct the manifest"}
    absolute_sources(cut, path)
    return cut if channel is None else choose_channel(cut, channel)


def _checked(cut: dict[str, Any], path: Path) -> dict[str, Any]:
    """A cut as a manifest has it, with the `duration` that a mixed one leaves out."""
    if "type" not in cut or not isinstance(cut.get("id"), str):
        shown = json.dumps(cut, ensure_ascii=False)
        raise CorpusError(f"{str(path)!r} holds {shown[:80]!r}, which is not a cut of lhotse; give a cuts manifest")
    if cut["type"] == "MonoCut" and isinstance(cut.get("duration"), (int, float)):
        return cut
    try:
        return cut | {"duration": deserialize_cut(copy.deepcopy(cut)).duration}
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise CorpusError(
            f"cut {cut['id']!r} of {str(path)!r} is not a cut of lhotse ({type(error).__name__}: {error}); correct the manifest"
        ) from None


def _readable(items: Iterable[Cut | Unreadable]) -> Iterator[Cut]:
    for item in items:
        if isinstance(item, Unreadable):
            raise CorpusError(item.reason)
        yield item


def text_of(cut: Cut) -> str | None:
    """The transcript: the texts of the supervisions in order of time; None without any."""
    texts = [s.text for s in sorted(cut.supervisions, key=lambda s: s.start) if s.text is not None]
    return " ".join(texts) if texts else None


def speaker_of(cut: Cut) -> str | None:
    """The speaker of the first supervision that names one."""
    return next((s.speaker for s in cut.supervisions if s.speaker), None)
