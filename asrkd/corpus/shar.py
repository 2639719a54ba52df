"""A lhotse Shar folder: cuts as JSON Lines, and the audio and arrays of each shard in tar files next to them.

lhotse reads such a folder front to back, with the audio in memory. A plan needs cuts in JSON and workers that can read any of
them, so a recording here names its place: `{"type": "shar", "source": {"tar", "member", "offset", "size"}}`.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.errors import CorpusError

_NAME = re.compile(r"(?P<field>[^.]+)(?:\.(?P<shard>.+))?\.(?P<kind>tar|tar\.gz|jsonl|jsonl\.gz)")


def is_shar(folder: Path) -> bool:
    """Whether a folder is Shar: numbered shards of cuts, or one shard of cuts with a tar file."""
    return any(folder.glob("cuts.*.jsonl*")) or (any(folder.glob("cuts.jsonl*")) and any(folder.glob("*.tar")))


def shar_cuts(folder: Path) -> Iterator[Any]:
    """The cuts in JSON, with their fields; `Unreadable` where a shard lacks the recording of a cut.

    Raises:
        CorpusError: a shard without cuts, with a field twice, or with compressed audio.
    """
    shards = _shards(folder)
    fields = sorted({field for files in shards.values() for field in files} - {"cuts"})
    for files in shards.values():
        cuts_file = files["cuts"]
        readers = {field: _Field(field, files.get(field), cuts_file) for field in fields}
        for cut in _json_lines(cuts_file):
            if not isinstance(cut, dict) or not isinstance(cut.get("id"), str):
                yield cut  # whoever checks cuts tells what it is
                continue
            reason = ""
            for reader in readers.values():
                reason = reader.attach(cut) or reason
            yield Unreadable(cut["id"], reason) if reason else cut


def _shards(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of each shard by field, shards in order of name."""
    shards: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if not match:
            continue
        files = shards.setdefault(match["shard"] or "", {})
        if match["field"] in files:
            raise CorpusError(
                f"Shar folder {str(folder)!r} has both {files[match['field']].name!r} and {path.name!r}; take one away"
            )
        if match["kind"] == "tar.gz":
            raise CorpusError(
                f"{str(path)!r} is compressed, so the audio of one cut cannot be found in it without unpacking all; gunzip it"
            )
        files[match["field"]] = path
    for files in shards.values():
        if "cuts" not in files:
            other = next(iter(files.values()))
            expected = other.name.replace(other.name.split(".")[0], "cuts", 1).removesuffix(".tar") + ".jsonl.gz"
            raise CorpusError(
                f"Shar folder {str(folder)!r} has {other.name!r} without {expected!r}, so its data has no cuts; restore "
                "the missing file, or take the shard away"
            )
    return dict(sorted(shards.items()))


@dataclass(frozen=True)
class _Item:
    """What a field holds for a cut, in JSON; None for a cut without it."""

    cut_id: str
    value: Any


class _Field:
    """A field of a shard, read in step with the cuts; once they are out of step, by id."""

    def __init__(self, name: str, path: Path | None, cuts_file: Path) -> None:
        self._name, self._path, self._cuts_file = name, path, cuts_file
        self._damage = ""
        self._items = self._read()
        self._rest: dict[str, _Item] | None = None

    def attach(self, cut: dict[str, Any]) -> str:
        """Give a cut its value; the reason why it cannot be used, if any."""
        item = self._take(cut["id"])
        if item is None:
            return self._missing(cut) if self._name == "recording" else ""
        if item.value is not None:
            target = next((one["cut"] for one in cut.get("tracks") or () if one.get("type") != "PaddingCut"), cut)
            if self._name in ("recording", "features", "supervisions"):
                target[self._name] = item.value
            else:
                target["custom"] = (target.get("custom") or {}) | {self._name: item.value}
        return ""

    def _take(self, cut_id: str) -> _Item | None:
        if self._rest is None:
            item = next(self._items, None)
            if item is not None and item.cut_id == cut_id:
                return item
            self._rest = {one.cut_id: one for one in ([item] if item else [])} | {
                one.cut_id: one for one in self._items
            }
        return self._rest.pop(cut_id, None)

    def _missing(self, cut: Mapping[str, Any]) -> str:
        if self._path is None:
            where = f"there is no recording file of the shard of {self._cuts_file.name!r}"
        else:
            where = f"{str(self._path)!r} does not hold it{self._damage}"
        return f"cut {cut['id']!r} has no audio: {where}; restore the file or leave the cut out"

    def _read(self) -> Iterator[_Item]:
        if self._path is None:
            return
        try:
            yield from _tar_items(self._path) if self._path.suffix == ".tar" else _jsonl_items(self._path, self._name)
        except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._damage = f" (it is damaged: {error})"


def _tar_items(path: Path) -> Iterator[_Item]:
    """Pairs of data and its manifest; data is passed over."""
    place = os.path.abspath(path)
    with tarfile.open(path, "r:") as tar:
        while (data := tar.next()) is not None:
            meta = tar.next()
            if meta is None:
                raise ValueError(f"{data.name!r} has no manifest after it")
            cut_id = str(Path(data.name).with_suffix(""))
            if data.name.endswith(".nodata"):
                yield _Item(cut_id, None)
            else:
                file = tar.extractfile(meta)
                if file is None:
                    raise ValueError(f"{meta.name!r} is not a file")
                source = {"tar": place, "member": data.name, "offset": data.offset_data, "size": data.size}
                yield _Item(cut_id, _with_place(json.loads(file.read()), source))
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all it has seen


def _with_place(manifest: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    if "sources" in manifest:
        manifest["sources"][0] |= {"type": "shar", "source": source}
    else:
        array = manifest.get("array", manifest)
        array |= {"storage_type": "shar", "storage_path": source["tar"], "storage_key": source["member"]}
    return manifest


def _json_lines(path: Path) -> Iterator[Any]:
    return (value for _, value in text.json_values(text.stream(path, what="Shar"), what=f"Shar {str(path)!r}"))


def _jsonl_items(path: Path, field: str) -> Iterator[_Item]:
    for item in _json_lines(path):
        yield _Item(item["cut_id"], item.get(field))
