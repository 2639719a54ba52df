"""The report of an alignment: what it looks like as numbers, its worst utterances, and pictures of some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.align_store import Aligned
from asrkd.alignment.speech import Speech
from asrkd.alignment.summary import LONGEST, Example, Summary
from asrkd.alignment.timeline import Span
from asrkd.errors import ConfigError
from asrkd.report import html
from asrkd.report.html import Section
from asrkd.report.pictures import COLORS, Figure, empty_canvas, figure, plain, sober
from asrkd.report.tables import Table
from asrkd.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Pictures of the worst utterances.
_PICTURED = 3
_LEFT_OUT = 20
# A picture shows at most this much of an utterance, from a little before the first word, so that phones can be read.
_SECONDS, _BEFORE = 5.0, 0.3


def write_alignment_report(path: str | Path, aligned: Aligned, store: Store) -> Path:
    """Write the report of a store having been aligned.

    Raises:
        ConfigError: nothing was aligned.
    """
    summary = aligned.summary
    if not summary.utterances:
        raise ConfigError(f"no utterance of {store.root!r} was aligned, so there is nothing to report")
    warnings = summary.warnings()
    unit = summary.unit
    reasons = [[key, why] for key, why in list(aligned.left_out.reasons.items())[:_LEFT_OUT]]
    sections = [
        Section(
            "Summary",
            "\n\n".join(f"Warning: {warning}." for warning in warnings) or "No number speaks against this alignment.",
            [Table(("what", "how much"), summary.rows())],
            [lengths_picture(summary)],
        ),
        Section(
            "Worst utterances",
            "Score: mean over the spoken frames of the log-likelihood of the path less that of the best class. Deviations: how far that is "
            + ("below what the aligner was made from." if summary.usual else "below the middle utterance of this set."),
            [
                Table(
                    ("utterance", "score", "deviations", "transcript"),
                    [
                        [one.key, f"{one.gain:.2f}", f"{summary.oddity(one.gain):.1f}", _short(one.text)]
                        for one in summary.worst
                    ],
                )
            ],
        ),
    ]
    if reasons:
        more = aligned.left_out.count - len(reasons)
        sections.append(
            Section(
                "Left out",
                f"{aligned.left_out.count} utterances could not be aligned, or do not fit their transcripts."
                + (f" The first {_LEFT_OUT}; quarantine/ of the store has all." if more else ""),
                [Table(("utterance", "reason"), reasons)],
            )
        )
    shown = {one.key: one for one in (*summary.worst[:_PICTURED], *summary.examples)}
    pictures = _pictures(list(shown.values()), summary, store)
    worst = [pictures[one.key] for one in summary.worst[:_PICTURED]]
    others = [pictures[one.key] for one in summary.examples if one not in summary.worst[:_PICTURED]]
    sections.append(Section(f"The worst, with their words and {unit}s", figures=worst))
    if others:
        sections.append(Section("Others, chosen by chance", figures=others))
    return html.write_page(path, "Alignment", f"Store {store.root}.", sections)


def lengths_picture(summary: Summary) -> Figure:
    """The histogram of the lengths of phones, with the least that there can be."""
    unit = summary.unit
    shares = summary.lengths / max(summary.lengths.sum(), 1)
    ms = 1000 * summary.frame_seconds
    last = int(np.flatnonzero(summary.lengths).max(initial=summary.least)) + 1
    canvas = empty_canvas(2.9)
    axes = canvas.add_subplot()
    axes.bar(
        ms * np.arange(last + 1),
        shares[: last + 1].tolist() + [0.0] * (last + 1 - len(shares)),
        0.9 * ms,
        color=COLORS[0],
    )
    axes.axvline(ms * summary.least, color=COLORS[1], linewidth=1.6, label=f"least: {ms * summary.least:.0f} ms")
    axes.set_xlabel(
        f"length of a {unit}, ms" + (f" (the last bar: {ms * LONGEST:.0f} and more)" if last >= LONGEST else "")
    )
    axes.set_ylabel("share")
    axes.legend(frameon=False, fontsize=9)
    sober(axes, grid="y")
    low, middle, high = (ms * frames for frames in summary.phone_frames)
    said = (
        f"{summary.shortest:.1%} of the {unit}s are as short as can be ({ms * summary.least:.0f} ms); median {middle:.0f} ms, "
        f"10 % {low:.0f} ms, 90 % {high:.0f} ms"
    )
    what = "from the start of a token to the next" if summary.has_blank else "of a phone"
    return figure(canvas, f"Length {what}: {said}.", f"Histogram of the length {what}. {said}.")


def utterance_picture(example: Example, mels: NDArray[np.float32], seconds: float, frame_seconds: float) -> Figure:
    """A spectrogram with the words and phones of an alignment below it.

    Args:
        mels: (T, num_mels) log-mel values, `seconds` apart.
        frame_seconds: of the alignment.
    """
    timeline = example.timeline
    begin = max(timeline.words[0].start * frame_seconds - _BEFORE, 0.0) if timeline.words else 0.0
    whole = timeline.frames * frame_seconds
    end = min(whole, begin + _SECONDS)
    canvas = empty_canvas(3.0)
    panels = canvas.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [6, 1, 2]})
    low, high = np.quantile(mels, [0.02, 0.999])
    panels[0].imshow(
        mels.T, aspect="auto", origin="lower", cmap="Greys", vmin=low, vmax=max(high, low + 1e-3),
        extent=(0.0, len(mels) * seconds, 0.0, mels.shape[1]), interpolation="nearest",
    )  # fmt: skip
    panels[0].set_ylabel("mel band")
    for span in timeline.words:
        for edge in (span.start, span.end):
            panels[0].axvline(edge * frame_seconds, color=COLORS[1], linewidth=0.7)
    for panel, spans, title in zip(panels[1:], (timeline.words, timeline.phones), ("words", "phones"), strict=True):
        # Names of short phones would run into each other in one row.
        _spans(panel, spans, frame_seconds, (begin, end), rows=1 if title == "words" else 2)
        panel.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    panels[0].set_xlim(begin, end)
    part = f" ({begin:.1f} to {end:.1f} of {whole:.1f} s)" if end - begin < whole - 1e-6 else ""
    panels[2].set_xlabel(f"time, s{part}")
    said = "; ".join(
        f"{span.name} {span.start * frame_seconds:.2f} to {span.end * frame_seconds:.2f} s"
        for span in timeline.words[:30]
    )
    caption = f"{example.key}: “{_short(example.text)}”, score {example.gain:.2f}."
    return figure(canvas, caption, f"Spectrogram of {example.key} with its words: {said}.")


def _spans(axes: Axes, spans: Sequence[Span], frame_seconds: float, shown: tuple[float, float], *, rows: int) -> None:
    begin, end = shown
    for number, span in enumerate(spans):
        start, width = span.start * frame_seconds, (span.end - span.start) * frame_seconds
        if start >= end or start + width <= begin:
            continue
        row = number % rows
        axes.barh(row, width, 1.0, start, color=COLORS[0], alpha=0.15 + 0.15 * (number % 2), linewidth=0)
        axes.text(start + width / 2, row, plain(span.name), ha="center", va="center", fontsize=7, clip_on=True)
    axes.set_yticks([])
    axes.set_ylim(rows - 0.5, -0.5)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _pictures(examples: Sequence[Example], summary: Summary, store: Store) -> dict[str, Figure]:
    """By id."""
    speech = Speech(store)
    wanted = {example.key: example for example in examples}
    found = {}
    for part in store.indexes(["id"]):
        for key, *place in zip(*(part[name].to_pylist() for name in ("id", "unit", "row_group", "row")), strict=True):
            if key in wanted:
                mels, seconds = speech.picture((place[0], place[1], place[2]))
                found[key] = utterance_picture(wanted[key], mels, seconds, summary.frame_seconds)
    return found


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
