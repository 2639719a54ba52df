"""Tar files of webdataset as a corpus: members of one key, `KEY.flac` and `KEY.txt` or `KEY.json`, are an utterance."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.dataset_columns import NAMES
from asrkd.corpus.places import inside, placed_recording
from asrkd.corpus.sound import SUFFIXES
from asrkd.corpus.tars import DamagedTar, tar_members
from asrkd.corpus.utterances import CorpusUtterance, as_text, cut_json
from asrkd.errors import CorpusError

_log = logging.getLogger(__name__)
# As webdataset splits a name: the key ends at the first point of the last part of the path.
_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<kind>[^/]*)")
_TEXTS = ("txt", "text", "transcript", "lab")
# Bytes of a member that is not audio; more is nothing that an utterance says.
_MOST_BYTES = 1 << 22


def webdataset_tars(folder: Path) -> list[Path]:
    """The tar files in a folder, in order of name."""
    return sorted(folder.glob("*.tar"))


def webdataset_cuts(tars: list[Path]) -> Iterator[dict[str, Any] | Unreadable]:
    """The utterances of tar files, each at the place of its audio.

    A tar file that ends early gives what it holds, and then what is wrong with it, under its own name.

    Raises:
        CorpusError: a tar file is missing or compressed.
    """
    passed_over: Counter[str] = Counter()
    for tar in tars:
        try:
            with open(tar, "rb") as stream:
                for key, members in _samples(tar):
                    yield _cut(tar, stream, key, members, passed_over)
        except DamagedTar as error:
            yield Unreadable(tar.name, str(error))
        except OSError as error:
            raise CorpusError(f"tar file {str(tar)!r} cannot be read: {error.strerror or error}; restore it") from None
    if passed_over:
        kinds = ", ".join(f"{count} .{kind}" for kind, count in passed_over.most_common(8))
        _log.warning("%d tar files: passed over members that are neither audio nor text: %s", len(tars), kinds)


def _samples(tar: Path) -> Iterator[tuple[str, dict[str, tuple[str, int, int]]]]:
    """(key, (member, offset, size) by kind) of members that follow each other."""
    key, members = "", dict[str, tuple[str, int, int]]()
    damage: DamagedTar | None = None
    found = tar_members(tar)
    while True:
        try:
            info = next(found, None)
        except DamagedTar as error:
            damage, info = error, None
        match = _MEMBER.fullmatch(info.name) if info is not None else None
        if info is not None and (not match or os.path.basename(info.name).startswith("._")):
            continue  # webdataset passes over names without a kind, and such files are of a system
        if members and (match is None or match["key"] != key or match["kind"] in members):
            yield key, members
            members = {}
        if info is None or match is None:
            if damage:
                raise damage
            return
        key = match["key"]
        members[match["kind"]] = info.name, info.offset_data, info.size


def _cut(
    tar: Path, stream: Any, key: str, members: dict[str, tuple[str, int, int]], passed_over: Counter[str]
) -> dict[str, Any] | Unreadable:
    where = f"sample {key!r} of {str(tar)!r}"
    audio = [kind for kind in members if f".{kind.rpartition('.')[2].lower()}" in SUFFIXES]
    if len(audio) != 1:
        there = ", ".join(f".{kind}" for kind in members)
        why = (
            f"has {len(audio)} audio files ({there}), and which of them is meant is not clear"
            if audio
            else f"has no audio, only {there}"
        )
        return Unreadable(key, f"{where} {why}; leave it out or write the tar file again")
    facts: dict[str, Any] = {}
    said = None
    for kind, (_, offset, size) in members.items():
        if kind in audio:
            continue
        if kind not in (*_TEXTS, "json", "cls") or size > _MOST_BYTES:
            passed_over[kind] += 1
            continue
        stream.seek(offset)
        content = text.decode_utf8(stream.read(size), what=f"{where}, .{kind},")
        if kind in _TEXTS:
            said = content.strip() if said is None else said
        elif kind == "cls":
            facts["cls"] = content.strip()
        else:
            try:
                value = json.loads(content)
            except (ValueError, RecursionError):
                return Unreadable(key, f"{where} has a .json that is not JSON; correct it or leave the sample out")
            facts |= value if isinstance(value, dict) else {"json": value}
    member, offset, size = members[audio[0]]
    recording = placed_recording(key, inside(tar, offset, size, member), stream, where)
    return cut_json(_utterance(key, said, facts), recording, where)


def _utterance(key: str, said: str | None, facts: dict[str, Any]) -> CorpusUtterance:
    known: dict[str, str | None] = {}
    for meaning in ("text", "speaker", "language", "gender"):
        name = next((name for name in NAMES[meaning] if isinstance(facts.get(name), (str, int))), None)
        known[meaning] = as_text(facts.pop(name)) if name else None
    return CorpusUtterance(
        key,
        text=known["text"] if said is None else said,
        speaker=known["speaker"],
        language=known["language"],
        gender=known["gender"],
        custom=facts or None,
    )
