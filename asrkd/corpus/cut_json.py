"""A cut in lhotse's JSON form: what is asked of it without opening audio, and the way to a `Cut` that can be read."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from lhotse.cut import Cut
from lhotse.cut.set import deserialize_cut
from lhotse.utils import is_valid_url

from asrkd.corpus.audio import wrong_times
from asrkd.corpus.places import read_place
from asrkd.errors import CorpusError

CutJson = Mapping[str, Any]
_SINGLE = ("MonoCut", "MultiCut", "PaddingCut", "Cut")
# lhotse gives the path of such a file to a shell.
_PLAIN_SPH = re.compile(r"[\w./@%+=:,-]*")
# What other manifests of lhotse have that cuts lack.
_OTHERS = (
    ("sources", "recordings", "make cuts of them: lhotse cut simple -r RECORDINGS CUTS"),
    ("num_features", "features", "make cuts of recordings and features: lhotse cut simple"),
    ("recording_id", "supervisions", "make cuts of recordings and supervisions: lhotse cut simple -r ... -s ... CUTS"),
)


def checked(item: Any, what: str, line: int = 0) -> dict[str, Any]:
    """A cut in JSON with its `duration` (which a mixed one leaves out); `{"id", "unreadable": reason}` for one that cannot be used.

    Args:
        item: one value of a manifest.
        what: the manifest, as an error names it.
        line: its number, if it is known.

    Raises:
        CorpusError: it has no id to be named by, or is not a cut.
    """
    # The usual cut first: this is done for every cut of a corpus.
    try:
        duration = item["duration"]
        if (
            item["type"] == "MonoCut"
            and item["id"].__class__ is str
            and item["id"]
            and (duration.__class__ is float or duration.__class__ is int)
            and 0 < duration < math.inf
            and 0 <= item["start"] < math.inf
        ):
            return item
    except (KeyError, TypeError):
        pass
    if not isinstance(item, dict) or "type" not in item or not isinstance(item.get("id"), str) or not item["id"]:
        raise CorpusError(f"{what}{f' line {line}' if line else ''} {_not_a_cut(item)}")
    problem = _problem(item)
    if problem:
        return {"id": item["id"], "unreadable": f"cut {item['id']!r} {problem}; correct the manifest"}
    return item if "duration" in item and "tracks" not in item else item | {"duration": duration_of(item)}


def to_cut(cut: CutJson) -> Cut:
    """The cut that can be read, with audio that lies inside a larger file in memory.

    Raises:
        CorpusError: it is not a cut, or its audio comes from where it may not be read.
    """
    if "unreadable" in cut:
        raise CorpusError(cut["unreadable"])
    own = copy.deepcopy(dict(cut))  # lhotse takes its argument apart
    try:
        for recording in _recordings(own):
            _open_sources(recording)
        return deserialize_cut(own)
    except CorpusError as error:
        raise CorpusError(f"cut {cut['id']!r}: {error}") from None
    except Exception as error:  # lhotse raises many kinds
        raise CorpusError(
            f"cut {cut['id']!r} is not a cut of lhotse ({type(error).__name__}: {error}); correct the manifest"
        ) from None


def tracks(cut: CutJson) -> list[tuple[float, CutJson]]:
    """(offset in seconds, cut) of each audible track of a mixed cut; of any other cut (0, itself)."""
    if "tracks" not in cut:
        return [(0.0, cut)]
    audible = [one for one in cut["tracks"] if not one.get("mute")] or cut["tracks"]
    return [(one.get("offset", 0.0), {"type": one.get("type"), **one["cut"]}) for one in audible]


def main_track(cut: CutJson) -> CutJson:
    """The cut itself, or the first track of a mixed one that is not padding."""
    parts = [part for _, part in tracks(cut)]
    return next((part for part in parts if part.get("type") != "PaddingCut"), parts[0])


def duration_of(cut: CutJson) -> float:
    """Seconds."""
    if "tracks" not in cut:
        return cut["duration"]
    return round(max(offset + part["duration"] for offset, part in tracks(cut)), 8)  # as lhotse has it


def custom_of(cut: CutJson) -> dict[str, Any] | None:
    """The custom fields; of a mixed cut those of all its tracks, a later one before an earlier one, as in lhotse."""
    merged = {key: value for _, part in tracks(cut) for key, value in (part.get("custom") or {}).items()}
    return merged or None


def custom_json(cut: CutJson) -> str | None:
    """The custom fields as JSON text, in which manifests (arrays, recordings) are as lhotse writes them. NaN is null."""
    custom = custom_of(cut)
    if custom is None:
        return None
    try:
        return json.dumps(custom, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(finite(custom), sort_keys=True, ensure_ascii=False)


def finite(value: Any) -> Any:
    """A copy of plain values in which numbers that are not finite are None."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _not_a_cut(item: Any) -> str:
    shown = json.dumps(item, ensure_ascii=False, default=str)
    shown = f"holds {shown[:80]!r}"
    if isinstance(item, dict) and "type" in item:
        return f"{shown}, a cut whose id is {item.get('id')!r}; targets are found by id, so it must be a text that is not empty"
    for key, kind, way in _OTHERS:
        if isinstance(item, dict) and key in item:
            return f"{shown}, which is one of {kind}, not a cut; {way}"
    return f"{shown}, which is not a cut of lhotse; give a cuts manifest"


def _problem(cut: dict[str, Any]) -> str:
    """What makes a cut unusable, as far as JSON tells."""
    if cut["type"] == "MixedCut":
        parts = cut.get("tracks")
        if not isinstance(parts, list) or not parts:
            return "is mixed, but has no tracks"
        for number, track in enumerate(parts, 1):
            part = track.get("cut") if isinstance(track, dict) else None
            if not isinstance(part, dict) or (track.get("type") or part.get("type")) not in _SINGLE:
                return f"has a track {number} that is not a MonoCut, MultiCut or PaddingCut"
            if not _is_number(track.get("offset", 0.0)) or track.get("offset", 0.0) < 0:
                return f"has a track {number} with the offset {track.get('offset')!r}, which must be seconds from 0 on"
            problem = _bad_times(part)
            if problem:
                return f"has a track {number} that {problem}"
        return ""
    if cut["type"] not in _SINGLE:
        return f"is of type {cut['type']!r}, which is not one of lhotse's cuts of audio"
    return _bad_times(cut)


def _bad_times(cut: CutJson) -> str:
    duration, start = cut.get("duration"), cut.get("start", 0.0)
    for name, value in (("duration", duration), ("start", start)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"has the {name} {value!r}, which is not a number of seconds"
    return wrong_times(start, duration) or ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _recordings(cut: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is read for a cut: its recordings, muted ones too, and the impulse responses that they are convolved with."""
    parts = [track["cut"] for track in cut["tracks"]] if "tracks" in cut else [cut]
    transforms = list(cut.get("transforms") or ())
    for part in parts:
        recording = part.get("recording")
        if recording is not None:
            _check_channels(part, recording)
            yield recording
            transforms += recording.get("transforms") or ()
    for transform in transforms:
        settings = transform.get("kwargs") or {}
        if "rir_generator" in settings or "rir" in settings:
            response = settings.get("rir")
            if response is None:
                # Its two seeds do not help: lhotse draws distances from torch's global generator.
                raise CorpusError(
                    "its reverberation draws a new impulse response each time it is read, so labels could not be made again; give a recorded "
                    "one (lhotse: cut.reverb_rir(rir_recording)), or write the audio (cut.save_audio)"
                )
            yield from _recordings(response) if "type" in response else [response]


def _check_channels(cut: dict[str, Any], recording: dict[str, Any]) -> None:
    rate = recording["sampling_rate"]
    if not _is_number(rate) or rate <= 0:
        raise CorpusError(f"its recording has the sampling rate {rate!r}, which must be above 0; correct the manifest")
    there = [channel for source in recording["sources"] for channel in source["channels"]]
    wanted = cut["channel"] if isinstance(cut["channel"], list) else [cut["channel"]]
    if not set(wanted) <= set(there):
        raise CorpusError(
            f"it wants channel {cut['channel']}, but its recording has {', '.join(map(str, there))}; correct the manifest"
        )


def _open_sources(recording: dict[str, Any]) -> None:
    """Put audio that lies inside larger files into memory; nothing that a manifest names is ever run."""
    for source in recording["sources"]:
        kind, value = source["type"], source["source"]
        if kind in ("shar", "inside"):
            source |= {"type": "memory", "source": read_place(value)}
        elif kind == "command":
            raise CorpusError(
                f"its audio is the output of the command {value!r}, and asrkd runs no command of a manifest; run it, and give "
                "the files (lhotse: cuts.save_audios)"
            )
        elif kind == "memory":
            raise CorpusError(
                "its audio was in memory when the manifest was written, and is lost; write Shar (lhotse: cuts.to_shar) "
                "or audio files (cuts.save_audios)"
            )
        elif kind == "url" and (not is_valid_url(value) or value.startswith("pipe:")):
            raise CorpusError(f"its audio is at {value!r}, which is not a URL; correct the manifest")
        elif kind == "file" and value.lower().endswith(".sph") and not _PLAIN_SPH.fullmatch(value):
            raise CorpusError(
                f"its audio file {value!r} has characters in its name that the reader of .sph files gives to a shell; rename it"
            )
        elif kind not in ("file", "url"):
            raise CorpusError(f"its audio is of the kind {kind!r}, which is not one of lhotse's; correct the manifest")
