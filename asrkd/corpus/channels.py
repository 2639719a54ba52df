"""Which channels of a recording a cut has: all (their mean is labeled), or one that was chosen."""

from __future__ import annotations

from typing import Any

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.utterances import CorpusUtterance, cut_json


def recording_cut(
    recording: dict[str, Any],
    name: str,
    *,
    start: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
) -> dict[str, Any] | Unreadable:
    """A stretch of a recording as a cut of all of its channels, or of one, in lhotse's JSON form.

    Args:
        recording: of one or more channels, in that form too.
        name: the cut's id.
        start, duration: seconds; the whole recording by default.
        channel: the only channel to take, from 0; None for all.
    """
    channels = recording["channel_ids"]
    if channel is not None and channel not in channels:
        return Unreadable(name, _no_channel(channel, channels))
    said = CorpusUtterance(name, start, duration, channel=channel)
    return cut_json(said, recording, f"cut {name!r}")


def choose_channel(cut: dict[str, Any], channel: int) -> dict[str, Any]:
    """A cut in lhotse's JSON form with one channel of the several that it has, and the supervisions of that channel.

    A cut of one channel stays as it is: its manifest has chosen.
    """
    channels = cut.get("channel")
    if cut.get("type") != "MultiCut" or not isinstance(channels, list):
        return cut
    if channel not in channels:
        return {"id": cut["id"], "unreadable": _no_channel(channel, channels)}
    supervisions = []
    for supervision in cut.get("supervisions", []):
        said_on = supervision.get("channel", channel)
        if channel in (said_on if isinstance(said_on, list) else [said_on]):
            supervisions.append(supervision | {"channel": channel})
    return cut | {"type": "MonoCut", "channel": channel, "supervisions": supervisions}


def _no_channel(channel: int, channels: list[int]) -> str:
    return f"channel {channel} was chosen, but the recording has {', '.join(map(str, channels))}; choose one of these"
