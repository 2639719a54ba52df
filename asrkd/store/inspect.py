"""What is in a store, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from asrkd.store.reader import Store


def info(store: Store) -> dict[str, Any]:
    """Identity, plan and totals of a store."""
    units = store.units()
    index = store.index(["duration", "num_frames"]) if units else None
    return {
        "identity": store.identity.to_dict(),
        "fingerprint": store.identity.fingerprint,
        "plan": dict(store.plan),
        "units_done": len(units),
        "utterances": len(index) if index is not None else 0,
        "hours": float(index["duration"].to_numpy().sum() / 3600) if index is not None else 0.0,
        "frames": int(index["num_frames"].to_numpy().sum()) if index is not None else 0,
    }


def head(store: Store, count: int) -> Iterator[dict[str, Any]]:
    """The first utterances, each with the most probable classes of its middle frame."""
    columns = ["id", "speaker", "text", "duration", "num_frames", "kept_mass", "entropy", "confidence"]
    for number, row in enumerate(store.rows([*columns, *store.target_columns])):
        if number == count:
            return
        shown = {name: row[name] for name in columns}
        if store.target_columns and row["num_frames"]:
            middle = store.targets(row).frames(torch.tensor([row["num_frames"] // 2]))
            best = middle.log_probs.argsort(descending=True, stable=True)[:3]
            probs = zip(middle.ids[best].tolist(), middle.log_probs[best].exp().tolist(), strict=True)
            shown["middle_frame"] = {store.identity.units[unit]: round(prob, 4) for unit, prob in probs}
        yield shown


def store_statistics(store: Store) -> dict[str, Any]:
    """Quantiles of the statistics columns, and compressed bytes a frame by column."""
    columns = ["duration", "kept_mass", "entropy", "confidence"]
    index = store.index([*columns, "num_frames"])
    result: dict[str, Any] = {}
    for name in columns:
        values = index[name].drop_null().to_numpy()
        if len(values):
            low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
            result[name] = {"mean": float(values.mean()), "p05": float(low), "p50": float(middle), "p95": float(high)}
    frames = max(int(index["num_frames"].to_numpy().sum()), 1)
    sizes: dict[str, int] = {}
    for unit in store.units():
        footer = store.metadata(unit)
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                column = footer.row_group(group).column(number)
                name = column.path_in_schema.split(".")[0]
                sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    result["frames"] = frames
    result["bytes_per_frame"] = {name: round(size / frames, 3) for name, size in sizes.items()}
    return result
