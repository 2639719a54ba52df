"""The teacher's part: posteriors of a batch, and what the codec keeps of them, on the teacher's device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from asrkd.acoustic import AcousticModel, ModelFailure, is_out_of_memory
from asrkd.acoustic.probe import works
from asrkd.errors import ModelError, one_line
from asrkd.labeling.layer import LayerEncoder
from asrkd.labeling.reading import CutFeatures
from asrkd.models.layer import tapped
from asrkd.store.identity import Identity
from asrkd.targets.codecs import PosteriorCodec, decode_entries
from asrkd.targets.random import frame_keys
from asrkd.targets.select import Entries
from asrkd.targets.statistics import FrameStatistics, frame_statistics, utterance_statistics
from asrkd.targets.streams import HIDDEN, POSTERIORS

# Frames whose posteriors are encoded together: bounds memory for long utterances.
_ENCODE_FRAMES = 8192


@dataclass(frozen=True)
class Encoded:
    """What is kept of an utterance in each stream, not packed yet, in the host's memory.

    Attributes:
        streams: what the layouts of the streams pack.
        frames: statistics of the posteriors.
    """

    streams: Mapping[str, Any]
    frames: FrameStatistics


def encode(
    heard: Sequence[CutFeatures],
    features: Tensor,
    identity: Identity,
    teacher: AcousticModel,
    layer: LayerEncoder | None = None,
) -> tuple[list[Encoded | None], dict[str, str]]:
    """Run the teacher over utterances and encode its posteriors.

    Where the device's memory is too short the batch is halved, down to single utterances; the padding stays, so that the output does.
    Where the model fails, but runs on noise, each utterance is tried alone.

    Args:
        features: (N, T, F) the padded features of `heard`, see `pad`.
        layer: what is stored of a layer, if anything is.

    Returns:
        For each utterance what is kept, or None for one that is too long for the device; and the reasons for these by id.

    Raises:
        MismatchError: the teacher's frames are not those of the frame law.
        ModelError: the teacher gives NaN, or its model fails on anything.
    """
    if not heard:
        return [], {}
    try:
        return list(_encode(heard, features, identity, teacher, layer)), {}
    except ModelFailure as error:
        failure: str | None = error.reason
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise ModelError(_batch_failure(heard, features, teacher, one_line(error))) from error
        failure = None
    # Not in the handler, where the error holds on to the tensors of the failed attempt.
    if failure is not None:
        if not works(teacher):
            raise ModelError(_batch_failure(heard, features, teacher, failure))
        return _encode_alone(heard, features, identity, teacher, layer)
    if torch.device(teacher.device).type == "cuda":
        torch.cuda.empty_cache()
    if len(heard) == 1:
        cut = heard[0].row
        reason = f"cut {cut['id']!r} of {cut['duration']:.1f} s needs more memory than {teacher.device} has; split it"
        return [None], {cut["id"]: f"{reason} (asrkd segment), or use a larger device"}
    half = len(heard) // 2
    first, bad_first = encode(heard[:half], features[:half], identity, teacher, layer)
    second, bad_second = encode(heard[half:], features[half:], identity, teacher, layer)
    return first + second, bad_first | bad_second


def _encode_alone(
    heard: Sequence[CutFeatures],
    features: Tensor,
    identity: Identity,
    teacher: AcousticModel,
    layer: LayerEncoder | None,
) -> tuple[list[Encoded | None], dict[str, str]]:
    """Each utterance of a batch on which the model failed, alone and without padding; it is bad if the model fails on it again."""
    found: list[Encoded | None] = []
    bad = {}
    for number, one in enumerate(heard):
        own, key = features[number : number + 1, : len(one.features)], one.row["id"]
        try:
            found += _encode([one], own, identity, teacher, layer)
        except ModelFailure as error:
            found.append(None)
            bad[key] = (
                f"cut {key!r} of {one.row['duration']:.2f} s: teacher {teacher.spec!r} fails on it, though not on others ({error.reason}); "
                "split it, or leave it out"
            )
    return found, bad


def _batch_failure(heard: Sequence[CutFeatures], features: Tensor, teacher: AcousticModel, reason: str) -> str:
    return (
        f"teacher {teacher.spec!r} fails on {len(heard)} utterances from {heard[0].row['id']!r} on, {tuple(features.shape)} "
        f"features, on {teacher.device}{f' with autocast {teacher.autocast}' if teacher.autocast else ''}: {reason}"
    )


def pad(heard: Sequence[CutFeatures]) -> Tensor:
    """(N, T, F) the features of utterances, with zeros after the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(one.features) for one in heard], batch_first=True)


def packed(encoded: Encoded, identity: Identity) -> dict[str, Any]:
    """The columns of an utterance's targets and statistics."""
    targets = decode_entries(identity.posterior_codec, encoded.streams[POSTERIORS])
    columns: dict[str, Any] = dict(vars(utterance_statistics(encoded.frames, targets)))
    for name, kept in encoded.streams.items():
        columns |= identity.layouts[name].pack(kept)
    return columns


def encoded_columns(key: str, log_probs: Tensor, identity: Identity) -> dict[str, Any]:
    """The columns of targets and statistics of one utterance, from its (T, V) log-posteriors."""
    codec = identity.posterior_codec
    keys = frame_keys(key, identity.teacher_fingerprint, len(log_probs), log_probs.device)
    entries, frames = _chunked(codec, log_probs, keys)
    return packed(Encoded({POSTERIORS: entries}, frames), identity)


def _encode(
    heard: Sequence[CutFeatures],
    features: Tensor,
    identity: Identity,
    teacher: AcousticModel,
    layer: LayerEncoder | None,
) -> list[Encoded]:
    codec = identity.posterior_codec
    given = torch.tensor([len(one.features) for one in heard])
    parts = [one.own_frames(identity.frame_law) for one in heard]
    hidden: list[bytes] = []
    if layer is None:
        log_probs, lengths = teacher.log_probs(features, given)
    else:
        with tapped(cast(nn.Module, teacher.network), layer.name) as outputs:
            log_probs, lengths = teacher.log_probs(features, given)
        if teacher.one_by_one:
            alone = zip(outputs, parts, lengths.tolist(), strict=True)
            hidden = [data for output, part, length in alone for data in layer.encode(output, [part], length)]
        else:
            hidden = layer.encode(outputs[-1], parts, log_probs.shape[1])
    rows, keys = [], []
    for one, part, frames, length in zip(heard, parts, log_probs, lengths.tolist(), strict=True):
        what = f"cut {one.row['id']!r}: the teacher's output"
        identity.frame_law.check(one.num_samples, length, what=what)
        if length > len(frames):
            raise ModelError(f"{what} has {len(frames)} frames of logits, but says {length}; correct the teacher")
        rows.append(frames[part])
        keys.append(frame_keys(one.row["id"], identity.teacher_fingerprint, part.stop - part.start, frames.device))
    try:
        entries, frames = _chunked(codec, torch.cat(rows), torch.cat(keys))
    except ModelError:
        _name_the_cut(codec, heard, rows, keys)
        raise
    sizes = [len(row) for row in rows]
    streams: dict[str, Sequence[Any]] = {POSTERIORS: entries.split(sizes)} | ({HIDDEN: hidden} if layer else {})
    of_utterances = zip(*streams.values(), strict=True)
    statistics = frames.split(sizes)
    return [
        Encoded(dict(zip(streams, kept, strict=True)), one) for kept, one in zip(of_utterances, statistics, strict=True)
    ]


def _chunked(codec: PosteriorCodec, log_probs: Tensor, keys: Tensor) -> tuple[Entries, FrameStatistics]:
    """Encode frames, some thousands at a time, into the host's memory."""
    entries, frames = [], []
    for chunk, chunk_keys in zip(log_probs.split(_ENCODE_FRAMES), keys.split(_ENCODE_FRAMES), strict=True):
        entries.append(codec.encode(chunk, chunk_keys).cpu())
        frames.append(frame_statistics(chunk).cpu())
    return Entries.cat(entries), FrameStatistics.cat(frames)


def _name_the_cut(
    codec: PosteriorCodec, heard: Sequence[CutFeatures], rows: Sequence[Tensor], keys: Sequence[Tensor]
) -> None:
    """Raise the error of the first cut whose posteriors cannot be encoded, with its id."""
    for one, frames, key in zip(heard, rows, keys, strict=True):
        try:
            codec.encode(frames, key)
        except ModelError as error:
            raise ModelError(f"cut {one.row['id']!r}: {error}") from None
