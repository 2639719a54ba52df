"""Labels a sample of a store's utterances again and compares: the one check that sees targets of the wrong frames."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
import torch

from asrkd.acoustic import AcousticModel
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store.reader import Store
from asrkd.targets.packed import as_stored
from asrkd.targets.random import frame_keys
from asrkd.targets.sparse import SparseTargets

# Total variation, mean over an utterance. Other batch shapes change a teacher's floats in the last digits, and with them a
# sampled count here and there; a shift by one frame changes every frame.
TOLERANCE = 0.01


def relabel(store: Store, teacher: AcousticModel, share: float, *, seed: int = 0) -> tuple[int, list[str]]:
    """Label a random `share` of the utterances again from their embedded audio or features.

    Returns:
        The number of utterances compared (at least one), and the problems found, one line each.

    Raises:
        ConfigError: a share that is not above 0 and at most 1.
        MismatchError: the teacher is not the store's.
        StoreError: the store has no targets, or nothing embedded to label from.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"the share to label again is {share}, but must be above 0 and at most 1")
    identity = store.identity
    if not identity.codec:
        raise StoreError(f"store {store.root!r} holds transcripts without targets, so there is nothing to compare")
    if identity.embed == "none":
        raise StoreError(
            f"store {store.root!r} embeds neither audio nor features, so nothing in it can be labeled again"
        )
    if teacher.fingerprint != identity.teacher_fingerprint:
        raise MismatchError(
            f"teacher {teacher.spec!r} has the fingerprint {teacher.fingerprint[:12]}, the store {store.root!r} was labeled by "
            f"{identity.teacher_fingerprint[:12]} ({identity.teacher!r}); every target would differ. Give that teacher"
        )
    problems, compared = [], 0
    for unit, row in _sample(store, share, seed):
        compared += 1
        distance = _distance(store, row, teacher)
        if distance > TOLERANCE:
            problems.append(
                f"part-{unit:05d}.parquet: utterance {row['id']!r} labeled again differs by a total variation of "
                f"{distance:.3f} (at most {TOLERANCE} is rounding); its targets are of other frames, audio or weights"
            )
    return compared, problems


def _sample(store: Store, share: float, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Utterances whose hash lies below the share; the one with the lowest hash if none does."""
    columns = ["id", "num_frames", "audio", "features", *store.target_columns]
    lowest: tuple[float, tuple[int, int, int]] | None = None
    is_any = False
    for part in store.indexes(["id"]):
        for key, *place in zip(*(part[name].to_pylist() for name in ("id", "unit", "row_group", "row")), strict=True):
            number, (unit, group, row) = _hash(key, seed), place
            if number < share:
                is_any = True
                yield unit, _row(store.read_row_group(unit, group, columns).slice(row, 1))
            elif not is_any and (lowest is None or number < lowest[0]):
                lowest = number, (unit, group, row)
    if lowest and not is_any:
        unit, group, row = lowest[1]
        yield unit, _row(store.read_row_group(unit, group, columns).slice(row, 1))


def _row(table: Any) -> dict[str, Any]:
    row = table.to_pylist()[0]
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in row.items()}


def _hash(key: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}\n{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _distance(store: Store, row: dict[str, Any], teacher: AcousticModel) -> float:
    if store.identity.embed == "audio":
        samples, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
        features = teacher.front_end(torch.from_numpy(samples))
    else:
        flat = np.frombuffer(bytearray(row["features"]), "<f4")
        features = torch.from_numpy(flat.reshape(-1, teacher.front_end.feature_dim))
    log_probs, lengths = teacher.log_probs(features[None], torch.tensor([len(features)]))
    length = int(lengths[0])
    if length != row["num_frames"]:
        return 1.0
    keys = frame_keys(row["id"], store.identity.teacher_fingerprint, length, log_probs.device)
    again = as_stored(store.identity.target_codec, log_probs[0, :length], keys)
    return _total_variation(store.targets(row), again)


def _total_variation(one: SparseTargets, other: SparseTargets) -> float:
    """Mean over frames of half the summed differences, missing mass as a class of its own."""
    if not one.num_frames:
        return 0.0
    difference = (one.to_dense().exp() - other.to_dense().exp()).abs().sum(dim=1) + (one.missing - other.missing).abs()
    return float(difference.mean() / 2)
