"""The worker: one work unit from audio to a shard."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray

from asrkd.corpus.cuts import read_audio, speaker_of, text_of
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict
from asrkd.errors import CorpusError, TeacherError
from asrkd.labeling.plan import read_unit
from asrkd.store.files import create, exists, remove, write_atomic
from asrkd.store.identity import Identity
from asrkd.store.schema import shard_name
from asrkd.store.writer import shard_bytes
from asrkd.targets.codecs import Codec, parse_codec, statistics
from asrkd.targets.random import frame_keys
from asrkd.teachers import Teacher

# Frames of features in a batch, padding included. Fixed, because a shard's bytes may depend on the batches.
BATCH_FRAMES = 8000


@dataclass(frozen=True)
class UnitResult:
    """What became of a unit: utterances stored, (cut id, reason) of those in quarantine, seconds of audio, bytes."""

    unit: int
    stored: int
    quarantined: tuple[tuple[str, str], ...]
    seconds: float
    num_bytes: int


@dataclass(frozen=True)
class _Prepared:
    cut: Cut
    samples: NDArray[np.int16]
    features: torch.Tensor


def label_unit(
    root: str,
    unit: int,
    identity: Identity,
    teacher: Teacher | None,
    *,
    may_commit: Callable[[], bool] | None = None,
) -> UnitResult | None:
    """Label the cuts of a unit and write its shard; a cut that cannot be read goes to quarantine with the reason.

    The bytes of the shard depend on the plan, the teacher and the codec alone: batches are cut from the unit's cuts
    sorted by duration, rows are written in plan order. With `may_commit` nothing is written unless it says so in the end, nor
    over a shard that is there: None is returned then.

    Raises:
        MismatchError: the teacher's frames are not those of the frame law.
        TeacherError: the teacher gives NaN.
        StoreError: the shard cannot be written.
    """
    cuts, bad = read_unit(root, unit)
    front_end = front_end_from_dict(identity.front_end)
    rows: dict[str, dict[str, Any]] = {}
    batches = list(_batches(cuts, front_end))
    # Audio of the next batch is read while the teacher works on this one.
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = reader.submit(_prepare, batches[0], front_end) if batches else None
        for number in range(len(batches)):
            assert upcoming is not None
            prepared, failed = upcoming.result()
            if number + 1 < len(batches):
                upcoming = reader.submit(_prepare, batches[number + 1], front_end)
            bad.update(failed)
            targets = _targets(prepared, identity, teacher) if teacher is not None else [{} for _ in prepared]
            for one, packed in zip(prepared, targets, strict=True):
                rows[one.cut.id] = _row(one, identity) | packed
    ordered = [rows[cut.id] for cut in cuts if cut.id in rows]
    quarantined = tuple(sorted(bad.items()))
    data = shard_bytes(unit, ordered, identity)
    if may_commit is not None and (exists(root, shard_name(unit)) or not may_commit()):
        return None
    if quarantined:  # before the shard, whose presence says that the unit is done
        lines = "".join(json.dumps({"id": key, "reason": why}, ensure_ascii=False) + "\n" for key, why in quarantined)
        write_atomic(root, f"quarantine/part-{unit:05d}.jsonl", lines.encode())
    if may_commit is None:
        write_atomic(root, shard_name(unit), data)
    elif not create(root, shard_name(unit), data):
        return None
    if not quarantined and exists(root, f"quarantine/part-{unit:05d}.jsonl"):  # of an earlier attempt
        remove(root, f"quarantine/part-{unit:05d}.jsonl")
    return UnitResult(unit, len(ordered), quarantined, sum(row["duration"] for row in ordered), len(data))


def _batches(cuts: Sequence[Cut], front_end: AnyFrontEnd) -> Iterator[list[Cut]]:
    """Cuts sorted by duration (then order), in batches of at most BATCH_FRAMES padded frames."""
    law = front_end.frame_law()
    batch: list[Cut] = []
    for cut in sorted(cuts, key=lambda c: c.duration):
        frames = law.num_features(int(cut.duration * front_end.sampling_rate))
        if batch and frames * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(cut)
    if batch:
        yield batch


def _prepare(cuts: Sequence[Cut], front_end: AnyFrontEnd) -> tuple[list[_Prepared], dict[str, str]]:
    prepared, failed = [], {}
    for cut in cuts:
        try:
            # Features are made from the 16-bit samples that are embedded, so that a student can make the same.
            samples = np.clip(np.rint(read_audio(cut, front_end.sampling_rate) * 32768.0), -32768, 32767).astype(
                np.int16
            )
            features = front_end(torch.from_numpy(samples.astype(np.float32) / 32768.0))
            if not front_end.frame_law().num_features(len(samples)):
                raise CorpusError(f"cut {cut.id!r} has {len(samples)} samples, too few for one frame; leave it out")
            prepared.append(_Prepared(cut, samples, features))
        except CorpusError as error:
            failed[cut.id] = str(error)
    return prepared, failed


def _targets(prepared: Sequence[_Prepared], identity: Identity, teacher: Teacher) -> list[dict[str, Any]]:
    """Packed targets and statistics of each utterance of a batch."""
    if not prepared:
        return []
    codec = parse_codec(identity.codec)
    features = torch.nn.utils.rnn.pad_sequence([one.features for one in prepared], batch_first=True)
    log_probs, lengths = teacher.log_probs(features, torch.tensor([len(one.features) for one in prepared]))
    rows, keys = [], []
    for one, frames, length in zip(prepared, log_probs, lengths.tolist(), strict=True):
        what = f"cut {one.cut.id!r}: the teacher's output"
        identity.frame_law.check(len(one.samples), length, what=what)
        if length > len(frames):
            raise TeacherError(f"{what} has {len(frames)} frames of logits, but says {length}; correct the teacher")
        rows.append(frames[:length])
        keys.append(frame_keys(one.cut.id, identity.teacher_fingerprint, length, frames.device))
    try:
        entries = codec.encode(torch.cat(rows), torch.cat(keys))
    except TeacherError:
        _name_the_cut(codec, prepared, rows, keys)
        raise
    results = []
    for frames, kept in zip(rows, entries.split([len(row) for row in rows]), strict=True):
        packed = codec.pack(kept)
        targets = codec.unpack(packed, len(frames), len(identity.units))
        results.append(packed | vars(statistics(frames, targets)))
    return results


def _name_the_cut(
    codec: Codec, prepared: Sequence[_Prepared], rows: Sequence[torch.Tensor], keys: Sequence[torch.Tensor]
) -> None:
    """Raise the error of the first cut whose posteriors cannot be encoded, with its id."""
    for one, frames, key in zip(prepared, rows, keys, strict=True):
        try:
            codec.encode(frames, key)
        except TeacherError as error:
            raise TeacherError(f"cut {one.cut.id!r}: {error}") from None


def _row(one: _Prepared, identity: Identity) -> dict[str, Any]:
    cut = one.cut
    rate = int(identity.front_end["sampling_rate"])
    row: dict[str, Any] = {
        "id": cut.id,
        "recording_id": getattr(getattr(cut, "recording", None), "id", cut.id),
        "start": float(cut.start),
        "duration": len(one.samples) / rate,
        "sampling_rate": rate,
        "num_samples": len(one.samples),
        "num_frames": identity.frame_law.num_frames(len(one.samples)),
        "speaker": speaker_of(cut),
        "text": text_of(cut),
        "custom": json.dumps(cut.custom, sort_keys=True, ensure_ascii=False) if getattr(cut, "custom", None) else None,
    }
    if identity.embed == "audio":
        buffer = io.BytesIO()
        soundfile.write(buffer, one.samples, rate, format="FLAC", subtype="PCM_16")
        row["audio"] = {"bytes": buffer.getvalue(), "path": f"{cut.id}.flac"}
    elif identity.embed == "features":
        row["features"] = one.features.reshape(-1).numpy()
    return row
