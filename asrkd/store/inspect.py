"""What is in a store, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from asrkd.corpus.text_flags import FLAGS
from asrkd.store.index import TEXT_COLUMNS
from asrkd.store.reader import Store
from asrkd.store.sample import Sample
from asrkd.targets.streams import TOKENS

ReadProgress = Callable[[int, int, float], None]


def info(store: Store) -> dict[str, Any]:
    """Identity, plan and totals of a store."""
    utterances, frames, seconds, units = 0, 0, 0.0, store.units()
    for part in store.indexes(["duration", "num_frames"]) if units else ():
        utterances += len(part)
        frames += int(part["num_frames"].to_numpy().sum())
        seconds += float(part["duration"].to_numpy().sum())
    return {
        "identity": store.identity.to_dict(),
        "fingerprint": store.identity.fingerprint,
        "plan": dict(store.plan),
        "units_done": len(units),
        "utterances": utterances,
        "hours": seconds / 3600,
        "frames": frames,
    }


def head(store: Store, count: int) -> Iterator[dict[str, Any]]:
    """The first utterances, each with the most probable classes of its middle frame."""
    columns = ["id", "speaker", "text", "duration", "num_frames", "kept_mass", "entropy", "confidence"]
    columns += ["text_raw", *TEXT_COLUMNS] if TOKENS in store.identity.streams else []
    for number, row in enumerate(store.rows([*columns, *store.target_columns])):
        if number == count:
            return
        shown = {name: row[name] for name in columns}
        if shown.get("text_flags") is not None:
            shown["text_flags"] = list(shown["text_flags"])
        if store.target_columns and row["num_frames"]:
            middle = store.targets(row).frames(torch.tensor([row["num_frames"] // 2]))
            best = middle.log_probs.argsort(descending=True, stable=True)[:3]
            probs = zip(middle.ids[best].tolist(), middle.log_probs[best].exp().tolist(), strict=True)
            shown["middle_frame"] = {store.identity.units[unit]: round(prob, 4) for unit, prob in probs}
        yield shown


@dataclass(frozen=True)
class StoreFigures:
    """What one pass over a store's index finds.

    Attributes:
        samples: of the statistics columns, and of those of texts (`asrkd.store.sample`).
        flags: how many texts have each; None without texts.
        frames: of all utterances.
        sizes: compressed bytes by column.
    """

    samples: dict[str, Sample]
    flags: Counter[str] | None
    frames: int
    sizes: Counter[str]

    @classmethod
    def of(cls, store: Store, progress: ReadProgress | None = None) -> StoreFigures:
        """`progress` is called after every work unit with the number of them so far, that of all, and the seconds of audio so far."""
        of_text = list(TEXT_COLUMNS) if TOKENS in store.identity.streams else []
        names = [name for name in of_text if name != "text_flags"]
        samples = {name: Sample() for name in ("duration", "kept_mass", "entropy", "confidence", *names)}
        flags: Counter[str] = Counter()
        frames = 0
        sizes: Counter[str] = Counter()
        parts = store.indexes([*samples, "num_frames", *(["text_flags"] if of_text else [])])
        in_all = len(store.units())
        for done, part in enumerate(parts, 1):
            if of_text:
                flags.update(flag for some in part["text_flags"].to_pylist() for flag in some or ())
            frames += int(part["num_frames"].to_numpy().sum())
            for name, sample in samples.items():
                values = part[name].drop_null().to_numpy()
                sample.add(values[np.isfinite(values)])
            if len(part):
                sizes.update(column_bytes(store.metadata(part["unit"][0].as_py())))
            if progress:
                progress(done, in_all, samples["duration"].total)
        return cls(samples, flags if of_text else None, frames, sizes)

    def summary(self) -> dict[str, Any]:
        """Utterances, hours and frames, quantiles of the statistics columns, texts with each flag, and compressed bytes a frame by column."""
        duration = self.samples["duration"]
        result: dict[str, Any] = {"utterances": duration.count, "hours": duration.total / 3600}
        for name, sample in self.samples.items():
            if sample.count:
                low, middle, high = np.quantile(sample.values, [0.05, 0.5, 0.95])
                result[name] = {"mean": sample.mean, "p05": float(low), "p50": float(middle), "p95": float(high)}
        if self.flags is not None:
            result["text_flags"] = {flag: self.flags[flag] for flag in FLAGS if flag in self.flags}
        result["frames"] = max(self.frames, 1)
        result["bytes_per_frame"] = {name: round(size / max(self.frames, 1), 3) for name, size in self.sizes.items()}
        return result


def store_statistics(store: Store, progress: ReadProgress | None = None) -> dict[str, Any]:
    """`StoreFigures.summary` of a store."""
    return StoreFigures.of(store, progress).summary()


def column_bytes(footer: pq.FileMetaData) -> dict[str, int]:
    """Compressed bytes of a shard by column."""
    sizes: Counter[str] = Counter()
    for group in range(footer.num_row_groups):
        for number in range(footer.num_columns):
            column = footer.row_group(group).column(number)
            sizes[column.path_in_schema.split(".")[0]] += column.total_compressed_size
    return dict(sizes)
