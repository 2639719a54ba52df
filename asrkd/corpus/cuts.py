"""Corpus in: lhotse cuts, a folder of audio files, or a table, all read lazily as lhotse `CutSet`s."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.cut.set import deserialize_cut

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.folders import audio_files, folder_cuts
from asrkd.corpus.tables import table_cuts
from asrkd.errors import CorpusError

T = TypeVar("T")
_MANIFESTS = (".jsonl", ".jsonl.gz")


def open_cuts(path: str | Path) -> CutSet:
    """The cuts of a corpus, read as they are iterated.

    Args:
        path: a lhotse manifest (`.jsonl`, `.jsonl.gz`), a lhotse Shar folder (`cuts.*.jsonl.gz` with `recording.*.tar`),
            any other folder (every audio file below it is one untranscribed cut), or a `.tsv`/`.csv` table with a
            header: `audio` (relative to the table), and optionally `id`, `text`, `speaker`, `start`, `duration`.

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
        return CutSet(_Lazy(partial(_manifest_cuts, path)))
    raise CorpusError(
        f"corpus {str(path)!r} is of no known kind; give .jsonl, .jsonl.gz, .tsv, .csv, a Shar folder or a folder of audio"
    )


def _manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The cuts of a manifest as JSON (lhotse's own reader opens it in the encoding of the locale)."""
    for number, item in text.json_values(text.stream(path, what="cuts"), what=f"cuts {str(path)!r}"):
        yield _checked(item, path, number)


def _manifest_cuts(path: Path) -> Iterator[Cut]:
    for item in _manifest_lines(path):
        yield _deserialized(item, path)


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


def iterate_json(path: str | Path) -> Iterator[dict[str, Any]]:
    """The cuts of a corpus in lhotse's JSON form, for work that does not touch audio; several times as fast as `iterate`.

    An audio file of a folder or a table that cannot be opened is `{"id": ..., "unreadable": reason}`.

    Raises:
        CorpusError: as `open_cuts` and `iterate`.
    """
    path = Path(path)
    if path.is_file() and path.name.endswith(_MANIFESTS):
        items: Iterable[Any] = _manifest_lines(path)
    elif path.is_dir() and not any(path.glob("cuts.*.jsonl*")):
        items = folder_cuts(path, audio_files(path))
    elif path.is_file() and path.suffix in (".tsv", ".csv"):
        items = table_cuts(path)
    else:
        items = open_cuts(path)
    for item in iterate(items, what=str(path)):
        if isinstance(item, Unreadable):
            yield {"id": item.id, "unreadable": item.reason}
        elif isinstance(item, Cut):
            yield item.to_dict()
        else:
            yield item


def _checked(cut: Any, path: Path, line: int) -> dict[str, Any]:
    """A cut as a manifest has it, with the `duration` that a mixed one leaves out."""
    if not isinstance(cut, dict) or "type" not in cut or not isinstance(cut.get("id"), str):
        shown = json.dumps(cut)
        raise CorpusError(
            f"{str(path)!r} line {line} is {shown[:80]!r}, which is not a cut of lhotse; give a cuts manifest"
        )
    if cut["type"] == "MonoCut" and isinstance(cut.get("duration"), (int, float)):
        return cut
    return cut | {"duration": _deserialized(dict(cut), path).duration}


def _deserialized(cut: dict[str, Any], path: Path) -> Cut:
    """A cut of lhotse, which takes `cut` apart."""
    key = cut["id"]
    try:
        return deserialize_cut(cut)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise CorpusError(
            f"cut {key!r} of {str(path)!r} is not a cut of lhotse ({type(error).__name__}: {error}); correct the manifest"
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
