"""Labels a sample of a store's utterances again and compares: the one check that sees targets of the wrong frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch

from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.windows import OWNS
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store.embedding import decode_audio
from asrkd.store.reader import Store
from asrkd.targets.packed import as_stored
from asrkd.targets.random import frame_keys
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS

# Total variation, mean over an utterance. Other batch shapes change a teacher's floats in the last digits, and with them a
# sampled count here and there; a shift by one frame changes every frame.
TOLERANCE = 0.01
# Of audio or features that are embedded with losses: other speech differs by more, and targets that are a frame late differ by
# much less from those of the frame before.
LOSSY_TOLERANCE = 0.5


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
    if POSTERIORS not in identity.streams:
        what = ", ".join(identity.streams) or "transcripts"
        raise StoreError(
            f"store {store.root!r} holds {what} without posteriors of frames, so there is nothing to compare"
        )
    if not identity.embedding.column:
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
        if problem := _problem(store, row, teacher):
            problems.append(f"part-{unit:05d}.parquet: utterance {row['id']!r} labeled again {problem}")
    return compared, problems


def _sample(store: Store, share: float, seed: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Utterances whose hash lies below the share; the one with the lowest hash if none does."""
    columns = ["id", "num_samples", "num_frames", "custom", "audio", "features", *store.target_columns]
    lowest: tuple[float, tuple[int, int, int]] | None = None
    is_any = False
    for part in store.indexes(["id"]):
        held: tuple[int, Any] | None = None
        for key, *place in zip(*(part[name].to_pylist() for name in ("id", "unit", "row_group", "row")), strict=True):
            number, (unit, group, row) = _hash(key, seed), place
            if number < share:
                is_any = True
                if held is None or held[0] != group:
                    held = group, store.read_row_group(unit, group, columns)
                yield unit, _row(held[1].slice(row, 1))
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


def _problem(store: Store, row: dict[str, Any], teacher: AcousticModel) -> str:
    """How an utterance differs from what the teacher gives now; empty if it does not."""
    identity, front_end, what = store.identity, teacher.front_end, f"utterance {row['id']!r}"
    if identity.embedding.column == "audio":
        samples = decode_audio(row["audio"], front_end.sampling_rate, False, what)
        features = front_end(torch.from_numpy(samples))
    else:
        # Others embed no features.
        stacked = cast(FrontEnd, front_end)
        features = torch.tensor(identity.embedding.features(row["features"], row["num_samples"], stacked, what))
    log_probs, lengths = teacher.log_probs(features[None], torch.tensor([len(features)]))
    length = int(lengths[0])
    if length != row["num_frames"]:
        return f"has {length} frames, and {row['num_frames']} in the store"
    keys = frame_keys(row["id"], identity.teacher_fingerprint, length, log_probs.device)
    stored, again = store.targets(row), as_stored(identity.posterior_codec, log_probs[0, :length], keys)
    distance = _total_variation(stored, again)
    # A window's targets have seen more audio than its row holds.
    is_exact = identity.embedding.exact and OWNS not in json.loads(row["custom"] or "{}")
    tolerance = TOLERANCE if is_exact else LOSSY_TOLERANCE
    if distance > tolerance:
        allowed = "is rounding" if is_exact else f"comes of {identity.embed!r}, or of what is around a window"
        return (
            f"differs by a total variation of {distance:.3f} (at most {tolerance} {allowed}); its targets are of other frames, audio or "
            "weights"
        )
    late, early = torch.arange(1, length), torch.arange(length - 1)
    for ours, theirs in ((late, early), (early, late)) if not is_exact and length > 1 else ():
        moved = _total_variation(stored.frames(ours), again.frames(theirs))
        if 2 * moved < distance:
            return f"differs by a total variation of {distance:.3f}, and of {moved:.3f} one frame on; its targets are of other frames"
    return ""


def _total_variation(one: SparseTargets, other: SparseTargets) -> float:
    """Mean over frames of half the summed differences, missing mass as a class of its own."""
    if not one.num_frames:
        return 0.0
    difference = (one.to_dense().exp() - other.to_dense().exp()).abs().sum(dim=1) + (one.missing - other.missing).abs()
    return float(difference.mean() / 2)
