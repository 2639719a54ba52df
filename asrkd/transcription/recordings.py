"""What is to be transcribed: audio files, folders, tables and manifests, each recording once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.channels import recording_cut
from asrkd.corpus.cut_json import CutJson
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.forms import names_corpus
from asrkd.corpus.utterances import file_recording
from asrkd.errors import CorpusError


def recordings(paths: Sequence[str], channel: int | None = None) -> Iterator[CutJson]:
    """The cuts of audio files (named by their files without the suffix) and of corpora (`asrkd.corpus.cuts.open_cuts`), in lhotse's JSON form.

    Args:
        channel: the only channel to take; None for the mean of all.

    Raises:
        CorpusError: a path that is missing or holds no audio, or two recordings of one name.
    """
    seen: dict[str, str] = {}
    for path in paths:
        for cut in _cuts(path, channel):
            name = cut["id"]
            if name in seen:
                other = "twice" if seen[name] == path else f"and in {seen[name]!r}"
                raise CorpusError(
                    f"recording {name!r} is in {path!r} {other}, so its words could not be distinguished; rename one, or transcribe them one by one"
                )
            seen[name] = path
            yield cut


def _cuts(path: str, channel: int | None) -> Iterator[CutJson]:
    if names_corpus(path):
        yield from iterate_json(path, channel)
        return
    if not Path(path).exists():
        raise CorpusError(f"{path!r} does not exist; give an audio file, a folder of audio, a manifest or a table")
    name = Path(path).stem
    recording = file_recording(path, name)
    found = recording if isinstance(recording, Unreadable) else recording_cut(recording, name, channel=channel)
    yield {"id": found.id, "unreadable": found.reason} if isinstance(found, Unreadable) else found
