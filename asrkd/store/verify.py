"""Checks every shard of a store against its manifest and plan."""

from __future__ import annotations

import gzip
import json

import numpy as np

from asrkd.errors import AsrkdError
from asrkd.store.files import list_names, read_bytes
from asrkd.store.reader import Store, table_rows


def verify(root: str) -> list[str]:
    """Problems found, one line each; none means that the store is whole.

    Checked: schema and identity of each shard, that it can be read, frame law, ids in range, finite
    values, mass at most 1, duplicate utterances, and utterances that the plan has and neither shards nor quarantine.
    """
    store = Store.open(root)
    problems: list[str] = []
    seen: set[str] = set()
    for unit in store.units():
        try:
            for group in range(store.metadata(unit).num_row_groups):
                columns = ["id", "num_samples", "num_frames", "alignment", *store.target_columns]
                for row in table_rows(store.read_row_group(unit, group, columns)):
                    if row["id"] in seen:
                        problems.append(f"utterance {row['id']!r} stands twice")
                    seen.add(row["id"])
                    problems += _row_problems(store, row)
        except (AsrkdError, OSError) as error:
            problems.append(f"part-{unit:05d}: {error}")
    planned = set()
    for name in list_names(root, "plan", ".jsonl.gz"):
        lines = gzip.decompress(read_bytes(root, f"plan/{name}")).decode().splitlines()
        planned |= {json.loads(line)["id"] for line in lines}
    for name in list_names(root, "quarantine", ".jsonl"):
        planned -= {json.loads(line)["id"] for line in read_bytes(root, f"quarantine/{name}").decode().splitlines()}
    problems += [f"utterance {key!r} is planned but not stored" for key in sorted(planned - seen)]
    if planned:
        problems += [f"utterance {key!r} is stored but not planned" for key in sorted(seen - planned)]
    return problems


def _row_problems(store: Store, row: dict) -> list[str]:
    what = f"utterance {row['id']!r}"
    try:
        store.identity.frame_law.check(row["num_samples"], row["num_frames"], what=what)
        if row["alignment"] is not None and len(row["alignment"]) != row["num_frames"]:
            return [f"{what} has an alignment of {len(row['alignment'])} frames instead of {row['num_frames']}"]
        if not store.target_columns:
            return []
        targets = store.targets(row)
    except AsrkdError as error:
        return [str(error) if what in str(error) else f"{what}: {error}"]
    found = []
    if len(targets.ids) and (targets.ids.min() < 0 or targets.ids.max() >= targets.num_classes):
        found.append(f"{what} has a class id outside 0..{targets.num_classes - 1}")
    rows = np.repeat(np.arange(targets.num_frames), np.diff(targets.row_splits))
    if np.isnan(targets.log_probs).any() or (targets.log_probs > 1e-6).any():
        found.append(f"{what} has log-probabilities that are NaN or above 0")
    mass = np.zeros(targets.num_frames)
    np.add.at(mass, rows, np.exp(targets.log_probs.astype(np.float64)))
    if (mass > 1.001).any():
        found.append(f"{what} has a frame of mass {mass.max():.4f}, above 1")
    return found
