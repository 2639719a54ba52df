"""The page of a corpus: what it is made of, and some of it to play."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import CorpusError
from asrkd.report import html
from asrkd.report.clips import SECONDS, clip_of_cut, shortened
from asrkd.report.html import PlayableClip, Section
from asrkd.report.pictures import Figure, histogram
from asrkd.report.tables import Table
from asrkd.selection.levels import MeasuredCut
from asrkd.selection.overview import CorpusOverview

_MOST_ROWS = 12


def write_corpus_page(path: str | Path, corpus: str, overview: CorpusOverview, *, clips: int = 20) -> Path:
    """Write the page.

    Args:
        clips: how many cuts can be played.

    Raises:
        AsrkdError: it cannot be written.
    """
    measured = len(overview.measured)
    sections = [
        Section("Contents", "", [Table(("what", "how much"), _rows(overview)), *_counts(overview)], _lengths(overview)),
        Section(
            "Levels",
            f"Of {measured:,} cuts, chosen at random, whose audio was read. The level is the root of the mean square, in decibels of full scale; a sample is clipped from 0.999 of "
            "full scale on; the ratio of signal to noise is estimated: the 95th percentile of short-time levels less the 10th."
            if measured
            else "No audio could be read.",
            [Table(("what", "5 %", "half", "95 %"), _quantiles(overview))] if measured else (),
            _levels(overview),
        ),
        Section(
            "Broken",
            _broken(overview),
        ),
        Section(
            "To hear",
            f"The first {SECONDS:g} s of cuts that were chosen at random.",
            clips=[clip for one in overview.measured[:clips] for clip in _clip(one)],
        ),
    ]
    return html.write_page(path, "Corpus", f"Corpus {corpus}.", sections)


def _rows(overview: CorpusOverview) -> list[list[str]]:
    return [
        ["cuts", f"{overview.cuts:,}"],
        ["hours", f"{overview.seconds / 3600:,.2f}"],
        ["with a transcript", f"{overview.with_text:,}"],
        ["with a speaker", f"{overview.with_speaker:,}"],
        ["broken, found so far", f"{overview.num_broken:,}"],
        ["copies of others, in the sample", f"{overview.copies:,}"],
    ]


def _broken(overview: CorpusOverview) -> str:
    """Paragraphs, because reasons are too long for a table on a telephone."""
    if not overview.num_broken:
        return "None was found."
    said = [f"{shortened(key)}: {reason}" for key, reason in overview.broken]
    more = overview.num_broken - len(said)
    return "\n\n".join([*said, *([f"And {more:,} more."] if more else [])])


def _counts(overview: CorpusOverview) -> list[Table]:
    tables = []
    named = {
        "sampling rate": overview.rates,
        "channels": overview.channels,
        "format": overview.formats,
        "language": overview.languages,
        "language of the sample's transcripts, detected by lingua": overview.detected,
    }
    for name, counter in named.items():
        if counter:
            tables.append(Table((name, "cuts", "share"), _shares(counter)))
    return tables


def _shares(counter: Counter[str]) -> list[list[str]]:
    total = sum(counter.values())
    most = counter.most_common(_MOST_ROWS)
    if len(counter) > _MOST_ROWS:
        most.append(("others", total - sum(count for _, count in most)))
    return [[shortened(name), f"{count:,}", f"{count / total:.1%}"] for name, count in most]


def _quantiles(overview: CorpusOverview) -> list[list[str]]:
    values = {
        "level, dBFS": [one.level_dbfs for one in overview.measured],
        "peak, dBFS": [one.peak_dbfs for one in overview.measured],
        "signal to noise, dB": [one.snr_db for one in overview.measured],
        "clipped samples, %": [100 * one.clipping for one in overview.measured],
    }
    return [[name, *(f"{value:.4g}" for value in np.percentile(own, [5, 50, 95]))] for name, own in values.items()]


def _lengths(overview: CorpusOverview) -> list[Figure]:
    values = overview.durations.values
    if not len(values):
        return []
    logs = np.log10(np.maximum(values, 0.01))
    pictures = [
        histogram(
            {"cuts": np.minimum(values, np.percentile(values, 99))}, "length, s (the longest 1 % in the last bar)"
        )
    ]
    if values.max() > 20 * max(np.median(values), 1e-3):
        pictures.append(histogram({"cuts": logs}, "length, log10 s"))
    return pictures


def _levels(overview: CorpusOverview) -> list[Figure]:
    if not overview.measured:
        return []
    levels = {
        "level": [one.level_dbfs for one in overview.measured],
        "peak": [one.peak_dbfs for one in overview.measured],
    }
    return [
        histogram(levels, "dBFS"),
        histogram({"cuts": [one.snr_db for one in overview.measured]}, "signal to noise, dB"),
        histogram({"cuts": [100 * one.clipping for one in overview.measured]}, "clipped samples, %"),
    ]


def _clip(one: MeasuredCut) -> list[PlayableClip]:
    parts = [
        shortened(one.cut["id"]),
        f"{one.cut['duration']:.1f} s",
        f"{one.level_dbfs:g} dBFS",
        f"{one.snr_db:g} dB to noise",
    ]
    speaker, text = speaker_of(one.cut), text_of(one.cut)
    said = [f"speaker {shortened(speaker)}"] if speaker else []
    caption = " · ".join([*parts, *said]) + (f" · “{shortened(text)}”" if text else "")
    try:
        return [clip_of_cut(caption, to_cut(one.cut))]
    except CorpusError:  # it went away since it was measured
        return []
