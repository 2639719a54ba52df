"""Corpus in: every form of `asrkd.corpus.forms`, read lazily, in lhotse's JSON form or as `CutSet`s."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from lhotse import CutSet
from lhotse.cut import Cut

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.channels import choose_channel
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.forms import reader
from asrkd.errors import CorpusError

T = TypeVar("T")


def open_cuts(path: str | Path) -> CutSet:
    """The cuts of a corpus, read as they are iterated.

    Args:
        path: of any form of `asrkd.corpus.forms` (docs/corpora.md), which it may name: `kaldi:data/train`.

    Raises:
        CorpusError: the path is missing, of no form or of two, or holds nothing.
    """
    reader(path)  # what cannot be opened is said now
    return CutSet(_Lazy(lambda: map(to_cut, iterate_json(path))))


class _Lazy:
    """An iterable that can be iterated again."""

    def __init__(self, make: Callable[[], Iterator[Cut]]) -> None:
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

    A cut or an audio file that cannot be used is `{"id": ..., "unreadable": reason}`. Paths are absolute; the recordings of a Shar
    folder name their place in its tar files (`asrkd.corpus.shar`).

    Args:
        path: as `open_cuts`.
        channel: the only channel to take of those that a cut has; None for the mean of all.

    Raises:
        CorpusError: as `open_cuts` and `iterate`.
    """
    for item in iterate(reader(path, channel)(), what=str(path)):
        if isinstance(item, Unreadable):
            yield {"id": item.id, "unreadable": item.reason}
            continue
        yield item if channel is None or "unreadable" in item else choose_channel(item, channel)
