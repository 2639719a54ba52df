"""A manifest of lhotse's cuts as a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asrkd import text
from asrkd.corpus.cut_json import checked
from asrkd.corpus.sources import absolute_sources

MANIFESTS = (".jsonl", ".jsonl.gz")
# What lhotse itself also reads, but not lazily.
OTHER_MANIFESTS = (".json", ".json.gz", ".yaml", ".yaml.gz", ".yml", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst")


def manifest_cuts(path: Path) -> Iterator[dict[str, Any]]:
    """The cuts as JSON (lhotse's own reader opens a manifest in the encoding of the locale)."""
    what = repr(str(path))
    for number, item in text.json_values(text.stream(path, what="cuts", ends=True), what=f"cuts {what}"):
        cut = checked(item, what, number)
        if "unreadable" not in cut:
            absolute_sources(cut, path)
        yield cut
