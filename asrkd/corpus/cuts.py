"""Corpus in: lhotse cuts, a folder of audio files, or a table, all read lazily, in lhotse's JSON form or as `CutSet`s."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet
from lhotse.cut import Cut

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.channels import choose_channel
from asrkd.corpus.cut_json import checked, to_cut
from asrkd.corpus.folders import audio_files, folder_cuts
from asrkd.corpus.shar import is_shar, shar_cuts
from asrkd.corpus.sources import absolute_sources
from asrkd.corpus.tables import table_cuts
from asrkd.errors import CorpusError

T = TypeVar("T")
_MANIFESTS = (".jsonl", ".jsonl.gz")
# What lhotse itself also reads, but not lazily.
_OTHER_MANIFESTS = (".json", ".json.gz", ".yaml", ".yaml.gz", ".yml", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst")


def open_cuts(path: str | Path) -> CutSet:
    """The cuts of a corpus, read as they are iterated.

    Args:
        path: a lhotse manifest (`.jsonl`, `.jsonl.gz`), a lhotse Shar folder (`cuts.*.jsonl.gz` with `recording.*.tar`),
            any other folder (every audio file below it is one untranscribed cut), or a `.tsv`/`.csv` table with a
            header: `audio` (relative to the table), and optionally `id`, `text`, `speaker`, `start`, `duration`, `channel`.

    Raises:
        CorpusError: the path is missing, of another kind, or holds nothing.
    """
    _reader(_local(path))  # what cannot be opened is said now
    return CutSet(_Lazy(lambda: map(to_cut, iterate_json(path))))


def _manifest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The cuts of a manifest as JSON (lhotse's own reader opens it in the encoding of the locale)."""
    what = repr(str(path))
    for number, item in text.json_values(text.stream(path, what="cuts", ends=True), what=f"cuts {what}"):
        cut = checked(item, what, number)
        if "unreadable" not in cut:
            absolute_sources(cut, path)
        yield cut


def _shar_cuts(path: Path) -> Iterator[dict[str, Any] | Unreadable]:
    for item in shar_cuts(path):
        yield item if isinstance(item, Unreadable) else checked(item, repr(str(path)))


class _Lazy:
    """An iterable that can be iterated again."""

    def __init__(self, make: Callable[[], Iterator[Cut]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Cut]:
        return self._make()


def _local(path: str | Path) -> Path:
    if "://" in str(path):
        raise CorpusError(
            f"corpus {str(path)!r} is a URI, but a corpus is read from a disk; mount or download it, or give a manifest whose recordings are "
            "at URIs"
        )
    return Path(path)


def _reader(path: Path, channel: int | None = None) -> Callable[[], Iterable[Any]]:
    """What reads a corpus: its cuts in JSON or as lhotse has them, and audio files that cannot be opened."""
    if path.is_dir():
        if is_shar(path):
            return lambda: _shar_cuts(path)
        files = audio_files(path)
        return lambda: folder_cuts(path, files, channel)
    if not path.exists():
        raise CorpusError(f"corpus {str(path)!r} does not exist; give a cuts manifest, a folder of audio or a table")
    if path.suffix in (".tsv", ".csv"):
        return lambda: table_cuts(path, channel)
    if path.name.endswith(_MANIFESTS):
        return lambda: _manifest_lines(path)
    if path.name.endswith(_OTHER_MANIFESTS):
        raise CorpusError(
            f"corpus {str(path)!r} is not JSON Lines, which alone is read cut by cut; convert it: lhotse copy {path.name} "
            f"{path.name.split('.')[0]}.jsonl.gz"
        )
    raise CorpusError(
        f"corpus {str(path)!r} is of no known kind; give .jsonl, .jsonl.gz, .tsv, .csv, a Shar folder or a folder of audio"
    )


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

    A cut or an audio file that cannot be used is `{"id": ..., "unreadable": reason}`. Paths are absolute; the recordings of a Shar
    folder name their place in its tar files (`asrkd.corpus.shar`).

    Args:
        path: as `open_cuts`.
        channel: the only channel to take of those that a cut has; None for the mean of all.

    Raises:
        CorpusError: as `open_cuts` and `iterate`.
    """
    path = _local(path)
    what = repr(str(path))
    for item in iterate(_reader(path, channel)(), what=str(path)):
        if isinstance(item, Unreadable):
            yield {"id": item.id, "unreadable": item.reason}
            continue
        cut = checked(item.to_dict(), what) if isinstance(item, Cut) else item
        yield cut if channel is None or "unreadable" in cut else choose_channel(cut, channel)
