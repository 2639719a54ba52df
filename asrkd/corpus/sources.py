"""Where the audio files of a manifest are: paths that hold from any folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def absolute_sources(cut: dict[str, Any], manifest: Path) -> None:
    """Make the paths of a cut's audio files absolute, in place (lhotse's JSON form).

    A relative path is meant from the folder in which the plan is made, as lhotse has it; where nothing is there, from the
    manifest's own folder.
    """
    # The usual cut first: this is done for every cut of a corpus.
    try:
        if len(sources := cut["recording"]["sources"]) == 1 and sources[0]["source"][0] == "/":
            return
    except (KeyError, IndexError, TypeError):
        pass
    recording = cut.get("recording")
    if isinstance(recording, dict):
        for source in recording.get("sources") or ():
            if isinstance(source, dict) and source.get("type") == "file":
                path = source.get("source")
                if isinstance(path, str) and not path.startswith("/"):
                    source["source"] = absolute_path(path, manifest)
    for track in cut.get("tracks") or ():
        if isinstance(track, dict) and isinstance(track.get("cut"), dict):
            absolute_sources(track["cut"], manifest)


def absolute_path(path: str, manifest: Path) -> str:
    """A path that a manifest names, from the current folder, or where nothing is there from the manifest's own."""
    beside = os.path.join(os.path.dirname(os.path.abspath(manifest)), path)
    return os.path.normpath(beside) if not _is_there(path) and _is_there(beside) else os.path.abspath(path)


def _is_there(path: str) -> bool:
    return os.path.exists(path.partition(".tar/")[0] + ".tar" if ".tar/" in path else path)
