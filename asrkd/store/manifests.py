"""A store's utterances as manifests of other tools: lhotse's cuts, NeMo's JSON Lines; with their audio, or naming where it came from."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asrkd.corpus import nemo
from asrkd.corpus.cut_json import CutJson
from asrkd.corpus.places import recording_json
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.corpus.utterances import CorpusUtterance, cut_json
from asrkd.errors import ConfigError, StoreError
from asrkd.files import new_folder
from asrkd.store.reader import Store

LHOTSE_MANIFEST, NEMO_MANIFEST = "cuts.jsonl.gz", "manifest.json"
AUDIO = ("embedded", "original")
_FACTS = ["id", "recording_id", "start", "duration", "sampling_rate", "num_samples", "speaker", "text", "custom"]


@dataclass(frozen=True)
class Exported:
    """What was written: the manifest, its utterances, and seconds of audio."""

    manifest: Path
    utterances: int
    seconds: float


def to_lhotse(store: Store, out: str | Path, audio: str | None = None) -> Exported:
    """Write `cuts.jsonl.gz` into a new folder.

    Args:
        audio: `embedded`, the audio in the store, which is written next to the manifest; `original`, the recordings that were labeled; None for
            what the store embeds, or else the recordings.

    Raises:
        StoreError: there is nothing finished, or no plan that names the recordings.
        ConfigError: the store does not embed audio, or a recording is inside a larger file.
        AsrkdError: the folder cannot be written, or is not empty.
    """
    return _write(store, out, LHOTSE_MANIFEST, lambda cut, _: cut, audio)


def to_nemo(store: Store, out: str | Path, audio: str | None = None) -> Exported:
    """Write `manifest.json`, JSON Lines as NeMo reads them, into a new folder; otherwise as `to_lhotse`."""
    return _write(store, out, NEMO_MANIFEST, _nemo_line, audio)


def _write(
    store: Store, out: str | Path, name: str, line_of: Callable[[CutJson, Path], CutJson], audio: str | None
) -> Exported:
    embeds = store.identity.embedding.column == "audio"
    audio = audio or ("embedded" if embeds else "original")
    if audio == "embedded" and not embeds:
        raise ConfigError(
            f"store {store.root!r} embeds {store.identity.embed!r}, so there is no audio in it to write; use --audio original"
        )
    if not store.units():
        raise StoreError(
            f"store {store.root!r} has no finished shard yet, so there is nothing to write; run asrkd label run"
        )
    count, seconds = 0, 0.0
    final = Path(os.path.abspath(out))
    with new_folder(out) as folder:
        with _lines(folder / name) as stream:
            for cut in _embedded(store, folder, final) if audio == "embedded" else _original(store):
                stream.write(json.dumps(line_of(cut, final), ensure_ascii=False).encode() + b"\n")
                count, seconds = count + 1, seconds + cut["duration"]
    return Exported(final / name, count, seconds)


def _lines(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path.suffix == ".gz":
        return gzip.GzipFile(path, "wb", mtime=0)  # type: ignore[return-value]
    return open(path, "wb")


def _embedded(store: Store, folder: Path, final: Path) -> Iterator[dict[str, Any]]:
    """The cuts of audio files that are written on the way."""
    for unit in store.walk():
        below = Path("audio", f"{unit:05d}")
        (folder / below).mkdir(parents=True)
        for number, row in enumerate(store.unit_rows(unit, [*_FACTS, "audio"])):
            data = row["audio"]["bytes"]
            name = below / f"{number:06d}{os.path.splitext(row['audio']['path'])[1]}"
            (folder / name).write_bytes(data)
            rate = row["sampling_rate"]
            recording = recording_json(row["id"], "file", str(final / name), rate, 1, row["num_samples"])
            yield _cut(row, recording)


def _cut(row: Mapping[str, Any], recording: dict[str, Any]) -> dict[str, Any]:
    custom = json.loads(row["custom"]) if row["custom"] else None
    found = cut_json(
        CorpusUtterance(row["id"], text=row["text"], speaker=row["speaker"], custom=custom), recording, "a row"
    )
    if not isinstance(found, dict):
        raise StoreError(f"{found.reason}; the store is damaged: asrkd store verify")
    return found


def _original(store: Store) -> Iterator[dict[str, Any]]:
    """The cuts of the plan that are in the shards, with the text and speaker that these have."""
    for unit in store.walk():
        planned = {cut["id"]: cut for cut in store.cuts(unit)}
        for row in store.unit_rows(unit, _FACTS):
            cut = planned[row["id"]]
            for recording in _recordings(cut):
                for source in recording["sources"]:
                    if source["type"] not in ("file", "url"):
                        place = source["source"].get("file") or source["source"].get("tar")
                        raise ConfigError(
                            f"the audio of {row['id']!r} is inside {place!r}, which a manifest cannot name; use --audio embedded, of a store that "
                            "embeds audio"
                        )
            if (text_of(cut), speaker_of(cut)) != (row["text"], row["speaker"]):
                cut = _with_facts(cut, row)
            yield cut


def _recordings(cut: CutJson) -> Iterator[Mapping[str, Any]]:
    for part in [track["cut"] for track in cut["tracks"]] if "tracks" in cut else [cut]:
        if part.get("recording"):
            yield part["recording"]


def _with_facts(cut: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A cut whose one supervision says what its row does, such as the text that a teacher gave."""
    if "tracks" in cut:
        return cut  # its supervisions are those of its tracks
    said = {"text": row["text"], "speaker": row["speaker"]}
    facts = {name: value for name, value in said.items() if value is not None}
    span = {
        "id": cut["id"],
        "recording_id": cut["recording"]["id"],
        "start": 0.0,
        "duration": cut["duration"],
        "channel": cut["channel"],
    }
    return cut | {"supervisions": [span | facts] if facts else []}


def _nemo_line(cut: CutJson, folder: Path) -> dict[str, Any]:
    """A line of NeMo's manifest; files next to it by their relative paths."""
    key, recording = cut["id"], cut.get("recording")
    if "tracks" in cut or recording is None or len(recording["channel_ids"]) > 1:
        raise ConfigError(
            f"the audio of {key!r} is mixed, or of several channels, which a line of NeMo cannot say; use --audio embedded, of a store that embeds audio"
        )
    (source,) = recording["sources"]
    path = source["source"]
    inside = os.path.relpath(path, folder) if source["type"] == "file" else path
    line: dict[str, Any] = {"id": key, "audio_filepath": path if inside.startswith("..") else inside}
    if cut["start"] or cut["duration"] != recording["duration"]:
        line["offset"] = cut["start"]
    line["duration"] = cut["duration"]
    for name, value in (("text", text_of(cut)), ("speaker", speaker_of(cut))):
        if value is not None:
            line[name] = value
    language = next((one["language"] for one in cut.get("supervisions") or () if one.get("language")), None)
    if language:
        line["lang"] = language
    # A custom field must not say what NeMo makes of the line.
    return {name: value for name, value in (cut.get("custom") or {}).items() if name not in nemo.FIELDS} | line
