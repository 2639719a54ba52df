"""An utterance of a corpus that is not lhotse's, as a cut in lhotse's JSON form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkd.corpus.audio import Unreadable, file_facts, wrong_times
from asrkd.corpus.places import recording_json

# Seconds by which times of two decimals, as most tools write them, may lie beyond the end of a recording.
ROUNDING = 0.0051


@dataclass(frozen=True)
class CorpusUtterance:
    """What a corpus says of an utterance.

    Attributes:
        id: the cut's id.
        start: seconds in its recording.
        duration: seconds; None up to the recording's end.
        text, speaker, language, gender: None where the corpus does not say.
        channel: the only channel; None for all.
        custom: further fields.
    """

    id: str
    start: float = 0.0
    duration: float | None = None
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    gender: str | None = None
    channel: int | None = None
    custom: Mapping[str, Any] | None = None


def cut_json(
    said: CorpusUtterance, recording: Mapping[str, Any] | Unreadable, what: str
) -> dict[str, Any] | Unreadable:
    """The cut of an utterance.

    Args:
        said: what the corpus says.
        recording: in lhotse's JSON form.
        what: the utterance as a reason names it, such as a line of a manifest.
    """
    if isinstance(recording, Unreadable):
        return Unreadable(said.id, recording.reason)
    length: float = recording["duration"]
    start, duration = said.start, said.duration
    wrong = wrong_times(start, 1.0 if duration is None else duration)
    if not wrong and start >= length:
        unit = ", or are its times not in seconds?" if start / 1000 < length else ""
        wrong = f"starts at {start:g} s, but its recording is {length:.3f} s long; correct its times{unit}"
    elif not wrong and duration is not None:
        wrong = wrong_times(start, max(1e-9, duration - ROUNDING), length)
    if wrong:
        return Unreadable(said.id, f"{what} {wrong}")
    duration = length - start if duration is None else min(duration, length - start)
    channels = recording["channel_ids"]
    if said.channel is not None:
        if said.channel not in channels:
            there = ", ".join(map(str, channels))
            return Unreadable(
                said.id, f"{what} names the channel {said.channel}, but its recording has {there}; correct it"
            )
        channels = [said.channel]
    channel = channels[0] if len(channels) == 1 else channels
    cut: dict[str, Any] = {"id": said.id, "start": start, "duration": duration, "channel": channel, "supervisions": []}
    facts = {"text": said.text, "language": said.language, "speaker": said.speaker, "gender": said.gender}
    known = {name: value for name, value in facts.items() if value is not None}
    if known:
        span = {"id": said.id, "recording_id": recording["id"], "start": 0.0, "duration": duration, "channel": channel}
        cut["supervisions"] = [span | known]
    cut["recording"] = recording
    if said.custom:
        cut["custom"] = dict(said.custom)
    cut["type"] = "MultiCut" if isinstance(channel, list) else "MonoCut"
    return cut


def file_recording(file: str | Path, name: str) -> dict[str, Any] | Unreadable:
    """The recording of an audio file in lhotse's JSON form."""
    path = os.path.abspath(file)
    facts = file_facts(path, name)
    return facts if isinstance(facts, Unreadable) else recording_json(name, "file", path, *facts)


def as_text(value: Any) -> str | None:
    """A field that is text for lhotse, though a corpus may number it (speakers); None for an empty one."""
    if value is None or value == "" or isinstance(value, float) and value != value:
        return None
    return value if isinstance(value, str) else str(value)
