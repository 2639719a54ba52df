"""Paths that name several files: globs, and the ranges of webdataset (`{000..127}`) and NeMo (`_OP_0..127_CL_`)."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from asrkd.errors import CorpusError

_RANGE = re.compile(r"(?:\{|_OP_)(\d+)\.\.(\d+)(?:\}|_CL_)")
# More files than any corpus has shards: a range that is mistyped must not fill the memory.
_MOST = 1_000_000


def is_pattern(path: str | Path) -> bool:
    """Whether a path that is not there as it is names files by a range or a glob."""
    return not Path(path).exists() and bool(_RANGE.search(str(path)) or glob.has_magic(str(path)))


def expand(path: str | Path) -> list[Path]:
    """The files that a path names, in the order of a range or of their names; a path without a pattern is one.

    Raises:
        CorpusError: a file of a range is missing, or nothing has such a name.
    """
    name = str(path)
    if not is_pattern(path):
        return [Path(path)]
    names = _ranges(name)
    if glob.has_magic(names[0]) and not Path(names[0]).exists():
        found = sorted(match for one in names for match in glob.glob(one))
        if not found:
            raise CorpusError(f"no file has a name like {name!r}; correct the pattern")
        return [Path(one) for one in found]
    missing = next((one for one in names if not Path(one).exists()), None)
    if missing is not None:
        raise CorpusError(f"{missing!r} does not exist, but {name!r} names it; restore the file or correct the range")
    return [Path(one) for one in names]


def _ranges(name: str) -> list[str]:
    match = _RANGE.search(name)
    if not match:
        return [name]
    first, last = (int(number) for number in match.groups())
    if not 0 <= last - first < _MOST:
        raise CorpusError(f"{name!r} has the range {first} to {last}, which names no files; correct it")
    width = len(match[1]) if match[1].startswith("0") else 0
    numbers = (f"{number:0{width}d}" for number in range(first, last + 1))
    return [rest for number in numbers for rest in _ranges(name[: match.start()] + number + name[match.end() :])]
