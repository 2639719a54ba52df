"""The page of a store: what it holds, what the teacher believes, and some utterances to see and to play."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from asrkd.errors import AsrkdError, ConfigError
from asrkd.report import html
from asrkd.report.clips import clip_of_samples, shortened
from asrkd.report.html import Section
from asrkd.report.pictures import Figure, histogram, posteriorgram
from asrkd.report.tables import Table
from asrkd.store import Store
from asrkd.store.embedding import decode_audio
from asrkd.store.inspect import ReadProgress, StoreFigures
from asrkd.targets.streams import POSTERIORS, TOKENS

_TITLES = {
    "entropy": "mean entropy of a frame, nats",
    "confidence": "mean probability of the best class",
    "kept_mass": "mean probability mass kept by the codec",
    "duration": "length of an utterance, s",
}
_MOST_REASONS = 12


def write_store_page(
    path: str | Path, store: Store, *, utterances: int = 4, progress: ReadProgress | None = None
) -> Path:
    """Write the page.

    Args:
        utterances: how many are shown, evenly from the whole store.
        progress: as in `StoreFigures.of`.

    Raises:
        StoreError: no unit is finished, or a shard is damaged.
        AsrkdError: the page cannot be written.
    """
    found = StoreFigures.of(store, progress)
    statistics = found.summary()
    identity = store.identity
    bad = store.quarantine.of(store.quarantine.units())
    sections = [
        Section("Contents", tables=[Table(("what", "how much"), _contents(store, statistics, len(bad)))]),
        Section("Distributions", "One value an utterance.", figures=distributions(found)),
        Section("Bytes", tables=[_bytes(statistics)]),
    ]
    if TOKENS in identity.streams and statistics.get("text_flags"):
        rows = [[flag, f"{count:,}"] for flag, count in statistics["text_flags"].items()]
        sections.append(Section("Flags of texts", tables=[Table(("flag", "utterances"), rows)]))
    if bad:
        counts = Counter(reason.partition(":")[0] for _, reason in bad)
        rows = [[shortened(reason, 90), f"{count:,}"] for reason, count in counts.most_common(_MOST_REASONS)]
        first = "\n\n".join(f"{shortened(key)}: {shortened(reason, 400)}" for key, reason in bad[:3])
        sections.append(
            Section("Quarantine", f"The first of them:\n\n{first}", [Table(("reason", "utterances"), rows)])
        )
    sections += store_examples(store, utterances)
    what = f"Soft targets of {identity.teacher}." if identity.teacher else "Transcripts."
    return html.write_page(path, "Store", f"{store.root}\n\n{what}", sections)


def store_examples(store: Store, count: int) -> list[Section]:
    """Utterances at even distances, each with its targets, what the codec kept of them, and its audio where it is embedded."""
    return [_utterance(store, row) for row in _chosen(store, count)]


def _contents(store: Store, statistics: dict[str, Any], bad: int) -> list[list[str]]:
    identity = store.identity
    rows = [
        ["units, finished of planned", f"{len(store.units()):,} of {store.num_units:,}"],
        ["utterances, finished of planned", f"{statistics['utterances']:,} of {store.num_cuts:,}"],
        ["in quarantine", f"{bad:,}"],
        ["hours", f"{statistics['hours']:,.2f}"],
        ["frames", f"{statistics['frames']:,}"],
    ]
    law = identity.front_end.frame_law(identity.subsampling_factor)
    rows.append(["a frame", f"{1000 * law.frame_shift / identity.front_end.sampling_rate:g} ms"])
    if identity.inventory is not None:
        rows.append(["classes", f"{len(identity.units):,} ({identity.inventory.topology_name})"])
    rows += [[f"targets {name!r}", codec.spec] for name, codec in identity.streams.items()]
    return [*rows, ["embedded", identity.embed]]


def distributions(found: StoreFigures) -> list[Figure]:
    """Histograms over the utterances of a store."""
    return [
        histogram({"utterances": found.samples[name].values}, title)
        for name, title in _TITLES.items()
        if found.samples[name].count
    ]


def _bytes(statistics: dict[str, Any]) -> Table:
    sizes = statistics["bytes_per_frame"]
    frames_an_hour = statistics["frames"] / statistics["hours"] if statistics["hours"] else 0.0
    rows = [
        [name, f"{size:.2f}", f"{size * frames_an_hour / 1e6:.2f}"]
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
    ]
    total = sum(sizes.values())
    rows.append(["all", f"{total:.2f}", f"{total * frames_an_hour / 1e6:.2f}"])
    return Table(("column", "bytes a frame", "MB an hour of audio"), rows, "As they are in the shards, compressed.")


def _chosen(store: Store, count: int) -> Iterator[dict[str, Any]]:
    """Rows at even distances, in the order of the store."""
    if count < 1:
        return
    units = store.units()
    sizes = [store.metadata(unit).num_rows for unit in units]
    places = {int(place) for place in np.linspace(0, sum(sizes) - 1, min(count, sum(sizes)))}
    begin = 0
    for unit, size in zip(units, sizes, strict=True):
        wanted = {place - begin for place in places if begin <= place < begin + size}
        if wanted:
            for number, row in enumerate(store.unit_rows(unit)):
                if number in wanted:
                    yield row
        begin += size


def _utterance(store: Store, row: dict[str, Any]) -> Section:
    identity, text = store.identity, row.get("text") or ""
    clips, figures, notes = [], [], []
    if identity.embedding.column == "audio":
        try:
            rate = identity.front_end.sampling_rate
            samples = decode_audio(row["audio"], rate, False, f"utterance {row['id']!r}")
            clip = clip_of_samples(shortened(text, 300) or "no transcript", samples, rate)
            clips = [clip] if clip else []
        except AsrkdError as error:
            notes.append(str(error))
    if store.target_columns and row["num_frames"]:
        targets = store.targets(row)
        law = identity.front_end.frame_law(identity.subsampling_factor)
        try:
            figures.append(
                posteriorgram(
                    {"stored soft targets": targets.to_dense().exp().numpy()},
                    list(identity.units),
                    law.frame_shift / identity.front_end.sampling_rate,
                    shortened(text, 200) or row["id"],
                )
            )
        except ConfigError as error:
            notes.append(str(error))
        kept = targets.counts.double()
        notes.append(
            f"The codec {identity.streams[POSTERIORS].spec} kept {100 * row['kept_mass']:.2f} % of the probability in {float(kept.mean()):.1f} of {len(identity.units):,} classes a frame "
            f"({int(kept.min())} to {int(kept.max())})."
        )
    facts = [f"{row['duration']:.2f} s", *([f"speaker {shortened(row['speaker'])}"] if row.get("speaker") else [])]
    return Section(
        f"Utterance {shortened(row['id'])}", "\n\n".join([" · ".join(facts), *notes]), figures=figures, clips=clips
    )
