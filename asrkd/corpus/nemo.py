"""NeMo manifests as a corpus: JSON Lines with `audio_filepath`, of audio files or of the members of tar files."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.cache import LruCache
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.patterns import expand
from asrkd.corpus.places import inside, placed_recording
from asrkd.corpus.sources import absolute_path
from asrkd.corpus.tars import DamagedTar, tar_members
from asrkd.corpus.utterances import CorpusUtterance, as_text, cut_json, file_recording
from asrkd.errors import CorpusError

SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz")
# What the tool that makes tar files calls the manifest of all of them, and the folder of theirs.
TARRED_MANIFEST, SHARDED_FOLDER = "tarred_audio_manifest.json", "sharded_manifests"
_AUDIO = "audio_filepath"
_SHARD = re.compile(r"manifest[^/]*_(\d+)[^/]*\.json")
_TAR = re.compile(r"audio[^/]*_(\d+)[^/]*\.tar")
# Members of tar files that are remembered by their names; of an epoch's order the next lines are in the same few shards.
_MEMBERS = 1_000_000
# Segments of one file have such names in a manifest of tar files, and the member is there once.
_SUB = re.compile(r"(?P<stem>.+)-sub\d+(?P<suffix>\.\w+)?")
# Seconds by which the duration of a whole recording may be rounded.
_WHOLE = 0.05
# Fields with a meaning of their own; all others are custom.
FIELDS = (
    _AUDIO,
    "duration",
    "offset",
    "text",
    "text_filepath",
    "speaker",
    "lang",
    "language",
    "gender",
    "id",
    "shard_id",
    "_skipme",
)


def is_nemo(path: Path) -> bool:
    """Whether a file is a NeMo manifest, by its first line."""
    if not path.name.endswith(SUFFIXES):
        return False
    try:
        first = next(text.json_values(text.stream(path), what=str(path)), (0, None))[1]
    except CorpusError:
        return False
    return isinstance(first, dict) and _AUDIO in first


def nemo_cuts(manifests: list[Path], options: Mapping[str, str]) -> Iterator[dict[str, Any] | Unreadable]:
    """The utterances of manifests.

    Args:
        manifests: one, or those of all shards.
        options: `tars`, the tar files where these are not next to the manifests.

    Raises:
        CorpusError: a line is not JSON or not an object, or a shard has no tar file.
    """
    for manifest in manifests:
        numbered = _SHARD.search(manifest.name)
        reader = _Reader(manifest, int(numbered[1]) if numbered else None, options.get("tars"))
        with closing(reader):
            yield from _lines(manifest, reader)


def _lines(manifest: Path, reader: _Reader) -> Iterator[dict[str, Any] | Unreadable]:
    for number, item in text.json_values(text.stream(manifest, what="manifest"), what=f"manifest {str(manifest)!r}"):
        line = f"manifest {str(manifest)!r} line {number}"
        if not isinstance(item, dict):
            raise CorpusError(f"{line} holds {str(item)[:60]!r}, which is not an utterance of NeMo; correct it")
        if not item.get("_skipme"):  # by which NeMo's own tools leave an utterance out
            yield reader.cut(item, line, f"{manifest.name.partition('.')[0]}-line-{number}")


class _Reader:
    """The cuts of one manifest."""

    def __init__(self, manifest: Path, shard: int | None, tars: str | None) -> None:
        self._folder = Path(os.path.abspath(manifest)).parent
        self._manifest, self._shard, self._given = manifest, shard, tars
        self._tars = _tar_files(self._folder, tars)
        self._members: LruCache[tuple[dict[str, tuple[int, int]], str]] = LruCache(_MEMBERS)
        self._last: tuple[str, dict[str, Any] | Unreadable] | None = None
        self._stream: BufferedReader | None = None

    def cut(self, item: dict[str, Any], line: str, unnamed: str) -> dict[str, Any] | Unreadable:
        path = item.get(_AUDIO)
        if not isinstance(path, str) or not path.strip():
            name = as_text(item.get("id")) or unnamed
            return Unreadable(name, f"{line} names no audio ({_AUDIO} is {path!r}); name a file or leave the line out")
        name = as_text(item.get("id")) or _name(path, item, self._folder)
        start, duration = item.get("offset"), item.get("duration")
        for field, value in (("offset", start), ("duration", duration)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                return Unreadable(
                    name, f"{line} has the {field} {value!r}, which is not a number of seconds; correct it"
                )
        try:
            recording = self._recording(path, item)
            said = item.get("text")
            if said is None and isinstance(item.get("text_filepath"), str):
                said = text.read(self._folder / item["text_filepath"], what="transcript", error=_Missing).strip()
        except _Missing as error:
            return Unreadable(name, f"{line}: {error}")
        if said is not None and not isinstance(said, str):
            return Unreadable(name, f"{line} has the text {said!r}, which is not text; correct it")
        if start is None and duration is not None and not isinstance(recording, Unreadable):
            # Without an offset it is the whole recording, whose rounded duration is no reason to cut it.
            if abs(duration - recording["duration"]) <= _WHOLE:
                duration = None
        utterance = CorpusUtterance(
            name,
            start=float(start or 0.0),
            duration=duration,
            text=said,
            speaker=as_text(item.get("speaker")),
            language=as_text(item.get("lang") or item.get("language")),
            gender=as_text(item.get("gender")),
            custom={key: value for key, value in item.items() if key not in FIELDS} or None,
        )
        return cut_json(utterance, recording, line)

    def _recording(self, path: str, item: Mapping[str, Any]) -> dict[str, Any] | Unreadable:
        shard = item.get("shard_id", self._shard)
        is_in_tar = shard is not None and ("shard_id" in item or bool(self._tars))
        key = f"{shard if is_in_tar else ''}:{path}"
        if self._last is None or self._last[0] != key:
            self._last = key, self._in_tar(path, shard) if is_in_tar else self._file(path)
        return self._last[1]

    def _file(self, path: str) -> dict[str, Any] | Unreadable:
        return file_recording(absolute_path(os.path.expanduser(path), self._manifest), _without_suffix(path))

    def _in_tar(self, path: str, shard: Any) -> dict[str, Any] | Unreadable:
        tar = self._tars.get(shard) if isinstance(shard, int) else None
        if tar is None:
            looked = repr(self._given) if self._given else f"{str(self._folder)!r} and the folder above it"
            raise CorpusError(
                f"manifest {str(self._manifest)!r} is of shard {shard!r}, but there is no audio_{shard}.tar in {looked}; restore it, or say where "
                "the tar files are: nemo:MANIFEST?tars=PATTERN"
            )
        members, damage = self._index(tar)
        sub = _SUB.fullmatch(path)
        member = path if path in members or not sub else sub["stem"] + (sub["suffix"] or "")
        if member not in members:
            raise _Missing(f"tar file {str(tar)!r} does not hold {path!r}{damage}; restore it or leave the line out")
        place = inside(tar, *members[member], member)
        if self._stream is None or self._stream.name != str(tar):
            self.close()
            self._stream = open(tar, "rb")  # noqa: SIM115  # lines that follow each other are in one tar file
        return placed_recording(_without_suffix(member), place, self._stream, f"{member!r} of {str(tar)!r}")

    def close(self) -> None:
        """Close the tar file that was read last."""
        if self._stream is not None:
            self._stream.close()

    def _index(self, tar: Path) -> tuple[dict[str, tuple[int, int]], str]:
        """(offset, size) of each member by its name, and how the tar file is damaged, if it is."""
        found = self._members.get(tar)
        if found is None:
            members, damage = {}, ""
            try:
                for member in tar_members(tar):
                    members[member.name] = member.offset_data, member.size
            except DamagedTar as error:
                damage = f" ({error})"
            found = members, damage
            self._members.put(tar, found, len(members))
        return found


class _Missing(CorpusError):
    """What an utterance needs is not there; the others may have theirs."""


def _name(path: str, item: Mapping[str, Any], folder: Path) -> str:
    """The id of an utterance without one: its file without the suffix, and of a segment its times, as NeMo has it."""
    if os.path.isabs(path):
        path = path.removeprefix(f"{folder}/").lstrip("/")
    name, start, duration = _without_suffix(path), item.get("offset"), item.get("duration")
    if isinstance(start, (int, float)) and isinstance(duration, (int, float)) and _SUB.fullmatch(path) is None:
        if math.isfinite(start) and math.isfinite(duration):
            name += f"-{round(start * 100):06d}-{round(duration * 100):06d}"
    return name


def _without_suffix(path: str) -> str:
    return os.path.normpath(os.path.splitext(path)[0])


def _tar_files(folder: Path, given: str | None) -> dict[int, Path]:
    """The tar files of shards by number: those that were named, or `audio_*.tar` in the manifest's folder or the one above it."""
    if given:
        files = expand(given)
    else:
        files = next((found for place in (folder, folder.parent) if (found := sorted(place.glob("audio*.tar")))), [])
    return {int(match[1]): file for file in files if (match := _TAR.search(file.name))}
