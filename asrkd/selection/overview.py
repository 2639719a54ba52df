"""What a corpus is made of, seen in one pass over its cuts and a look at the audio of some, in memory that does not grow with it."""

from __future__ import annotations

import hashlib
import heapq
import importlib.util
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from asrkd.corpus.cut_json import CutJson, custom_of, main_track
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.segmentation.pool import each_in_order
from asrkd.selection.fingerprints import Duplicates
from asrkd.selection.levels import MeasuredCut, measure_cut
from asrkd.store.sample import Sample

# Broken cuts that are named; the rest is counted.
_NAMED = 50
_LANGUAGES = ("language", "lang", "locale", "spoken_language")


@dataclass
class CorpusOverview:
    """What a corpus is made of.

    Attributes:
        cuts, seconds: of all that have times.
        durations: seconds, a sample of them.
        channels, rates, formats, languages: cuts by these; languages of supervisions or custom fields.
        with_text, speakers: cuts with a transcript, and with a speaker.
        measured: cuts of the sample whose audio was read, by id's hash and so at random.
        copies: of these, those that are copies of another.
        broken: (id, reason) of the first that cannot be read.
        num_broken: of all cuts by their manifest, and of the sample by their audio.
        detected: languages of the sample's transcripts, where lingua is installed and the corpus names none.
    """

    cuts: int = 0
    seconds: float = 0.0
    durations: Sample = field(default_factory=Sample)
    channels: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    with_text: int = 0
    with_speaker: int = 0
    measured: list[MeasuredCut] = field(default_factory=list)
    copies: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    num_broken: int = 0
    detected: Counter[str] = field(default_factory=Counter)

    def add_broken(self, key: str, reason: str) -> None:
        """Count a cut that cannot be read."""
        self.num_broken += 1
        if len(self.broken) < _NAMED:
            self.broken.append((key, reason))


def look_at(
    corpus: str | Path,
    *,
    sample: int = 1000,
    seed: int = 0,
    workers: int = 1,
    channel: int | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> CorpusOverview:
    """Read the cuts of a corpus, and the audio of a sample of them.

    Args:
        sample: cuts whose audio is read: those with the lowest hashes of seed and id.
        progress: called with what is done and how many.

    Raises:
        CorpusError: the corpus cannot be read.
    """
    overview = CorpusOverview()
    chosen: list[tuple[int, int, CutJson]] = []  # a heap whose first is the highest hash, as a negative number
    for number, cut in enumerate(iterate_json(corpus, channel)):
        overview.cuts += 1
        if progress and number and number % 1000 == 0:
            progress("cuts", number)
        if "unreadable" in cut:
            overview.add_broken(cut["id"], cut["unreadable"])
            continue
        _count(overview, cut)
        heapq.heappush(chosen, (-_hash(cut["id"], seed), number, cut))
        if len(chosen) > sample:
            heapq.heappop(chosen)
    duplicates = Duplicates()
    for one in each_in_order(measure_cut, [cut for _, _, cut in sorted(chosen, key=lambda item: -item[0])], workers):
        if progress:
            progress("audio", len(overview.measured))
        if one.unreadable:
            overview.add_broken(one.cut["id"], one.unreadable)
            continue
        overview.measured.append(one)
        seconds = float(one.cut["duration"])
        overview.copies += bool(duplicates.first_like(one.cut["id"], seconds, one.samples_hash, one.fingerprint))
    if not overview.languages:
        texts = [text for one in overview.measured if (text := text_of(one.cut))]
        overview.detected = _detected(texts)
    return overview


def _count(overview: CorpusOverview, cut: CutJson) -> None:
    seconds = float(cut["duration"])
    overview.seconds += seconds
    overview.durations.add(seconds)
    part = main_track(cut)
    recording = part.get("recording") or {}
    channel = part.get("channel", 0)
    overview.channels[str(len(channel)) if isinstance(channel, list) else "1"] += 1
    overview.rates[f"{recording.get('sampling_rate', '?')} Hz"] += 1
    overview.formats[_format(recording)] += 1
    overview.with_text += bool(text_of(cut))
    overview.with_speaker += bool(speaker_of(cut))
    language = next((one["language"] for one in part.get("supervisions") or () if one.get("language")), None)
    custom = custom_of(cut) or {}
    language = language or next((custom[name] for name in _LANGUAGES if custom.get(name)), None)
    if language:
        overview.languages[str(language)] += 1


def _format(recording: CutJson) -> str:
    sources = recording.get("sources") or [{}]
    kind, source = sources[0].get("type", "?"), sources[0].get("source")
    suffix = PurePath(source.partition("?")[0]).suffix.lower().lstrip(".") if isinstance(source, str) else ""
    return suffix if kind in ("file", "url") and suffix else str(kind)


def _detected(texts: Sequence[str]) -> Counter[str]:
    if not texts or importlib.util.find_spec("lingua") is None:
        return Counter()
    import lingua

    detector = lingua.LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
    found = (detector.detect_language_of(text) for text in texts)
    return Counter("none" if one is None else one.iso_code_639_1.name.lower() for one in found)


def _hash(key: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
