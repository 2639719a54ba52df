"""What a trainer gets: padded features with sparse targets, hard labels and transcripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import MismatchError
from asrkd.streaming.pending import FeatureChanges, PendingFeatures, PendingSamples
from asrkd.targets.packed import PackedTargets
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS, Columns, Layout, Targets
from asrkd.targets.vocabulary_map import VocabularyMap

IGNORE = -100


@dataclass(frozen=True)
class Batch:
    """N utterances.

    Attributes:
        ids: utterance ids.
        source: the name of each utterance's source.
        features: (N, T, F) float32, padded with zeros.
        feature_lengths: (N,) int64.
        num_frames: (N,) int64 frames of the model's output by the frame law; what targets and alignment have.
        streams: the targets in each stream that any utterance has, by its name: of the utterances where `has[name]`, in order.
        has: (N,) bool for each of these streams, and those of `packed`.
        alignment: (N, max num_frames) int64 hard labels padded with -100; None if no utterance has any.
        texts, speakers: None where not known.
        custom: further fields of each cut.
        seconds: of audio, over all utterances.
        step: number of the global batch that this is part of.
        step_frames: output frames of the global batch, over all its batches and ranks.
        packed: in place of `streams`, where targets are unpacked by `to` on the device.
        pending: in place of `features`, where `to` computes them on the device; `features` are (N, T, 0) until then.
        second_view: (N, T, F) float32 the same features under other masks, where the augmentation makes two views; else None.
    """

    ids: list[str]
    source: list[str]
    features: Tensor
    feature_lengths: Tensor
    num_frames: Tensor
    streams: Mapping[str, Targets]
    has: Mapping[str, Tensor]
    alignment: Tensor | None
    texts: list[str | None]
    speakers: list[str | None]
    custom: list[dict[str, Any]]
    seconds: float
    step: int
    step_frames: int
    packed: Mapping[str, PackedTargets] = field(default_factory=dict)
    second_view: Tensor | None = None
    pending: PendingFeatures | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> SparseTargets | None:
        """The soft targets, of the stream `posteriors`; None if no utterance has any, or they are packed."""
        return soft_targets(self.streams)

    @property
    def weight(self) -> float:
        """This batch's share of the global batch's output frames.

        Mean losses per frame, times their weights, sum to the mean of the global batch over its batches and ranks.
        """
        return int(self.num_frames.sum()) / max(self.step_frames, 1)

    def to(self, where: torch.device | str) -> Batch:
        """The batch with its tensors on a device; packed targets are unpacked there, and features that are pending computed.

        Raises:
            StoreError: packed columns contradict each other.
        """
        batch = self._mapped(lambda tensor: tensor.to(where, non_blocking=True))
        if batch.packed:
            unpacked = {name: packed.unpack() for name, packed in batch.packed.items()}
            batch = replace(batch, streams={**batch.streams, **unpacked}, packed={})
        if batch.pending:
            features, second = zip(*batch.pending.features(), strict=True)
            batch = replace(batch, features=_padded(features), second_view=_pad_complete(second), pending=None)
        return batch

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; a DataLoader with `pin_memory` calls this."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        # By hand rather than dataclasses.asdict, which would copy every tensor on the way.
        changed: dict[str, Any] = {name: change(one) for name, one in vars(self).items() if isinstance(one, Tensor)}
        changed["has"] = {name: change(mask) for name, mask in self.has.items()}
        for targets in ("streams", "packed"):
            changed[targets] = {name: one.map(change) for name, one in getattr(self, targets).items()}
        changed["pending"] = self.pending and self.pending.map(change)
        return replace(self, **changed)


@dataclass(frozen=True)
class Utterance:
    """One utterance before padding: features (T, F), output frames by the frame law, and what the store knows.

    `streams`: its targets by stream. `packed`: in their place, their columns as stored. `second_view`: (T, F), see `Batch`.
    `pending`: what features (T, 0) are still to be computed from.

    Raises:
        MismatchError: targets or alignment have another number of frames than the frame law gives.
    """

    id: str
    source: str
    features: Tensor
    num_frames: int
    seconds: float
    streams: Mapping[str, Targets] = field(default_factory=dict)
    alignment: NDArray[np.integer] | None = None
    text: str | None = None
    speaker: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)
    packed: Mapping[str, Columns] = field(default_factory=dict)
    second_view: Tensor | None = None
    pending: PendingSamples | None = None

    def __post_init__(self) -> None:
        for name, targets in self.streams.items():
            if targets.num_frames is not None:
                self._check_frames(f"{name} targets", targets.num_frames)
        if self.alignment is not None:
            self._check_frames("an alignment", len(self.alignment))

    @property
    def targets(self) -> SparseTargets | None:
        """The soft targets, of the stream `posteriors`; None if it has none, or they are packed."""
        return soft_targets(self.streams)

    def _check_frames(self, what: str, frames: int) -> None:
        if frames != self.num_frames:
            raise MismatchError(
                f"utterance {self.id!r} of source {self.source!r} has {what} of {frames} frames, but "
                f"{self.num_frames} frames by the frame law; training would shift targets against features. "
                "Label the corpus again, or find the damaged shard with `asrkd store verify`"
            )


def soft_targets(streams: Mapping[str, Targets]) -> SparseTargets | None:
    """The stream `posteriors`; None where it is not there."""
    return cast(SparseTargets | None, streams.get(POSTERIORS))


def collate(
    utterances: Sequence[Utterance],
    *,
    step: int = 0,
    step_frames: int | None = None,
    layouts: Mapping[str, Layout] | None = None,
    unpack: bool = False,
    vocabulary_map: VocabularyMap | None = None,
    front_end: AnyFrontEnd | None = None,
    changes: FeatureChanges | None = None,
) -> Batch:
    """Pad and join utterances.

    Args:
        step_frames: None for a global batch of these alone.
        layouts: of packed targets, by stream.
        unpack: whether packed targets are unpacked here, all at once; otherwise `Batch.to` does it.
        vocabulary_map: for packed posteriors that are unpacked here.
        front_end, changes: of utterances whose features are pending.

    Raises:
        StoreError: packed columns do not belong together.
    """
    streams, packed, has = {}, {}, {}
    for name in dict.fromkeys(name for one in utterances for name in (*one.streams, *one.packed)):
        has[name] = torch.tensor([name in one.streams or name in one.packed for one in utterances])
        rows = [one for one in utterances if name in one.packed]
        if not rows:
            parts = [one.streams[name] for one in utterances if name in one.streams]
            streams[name] = parts[0].cat(parts)
            continue
        layout = (layouts or {})[name]
        packed[name] = PackedTargets.join(layout, [one.packed[name] for one in rows], [one.num_frames for one in rows])
        if unpack:
            streams[name] = packed.pop(name).unpack()
            if name == POSTERIORS and vocabulary_map:
                streams[name] = vocabulary_map(cast(SparseTargets, streams[name]))
    samples = [one.pending for one in utterances if one.pending]
    pending = (
        PendingFeatures.join(samples, front_end, changes)
        if samples and isinstance(front_end, FrontEnd) and changes
        else None
    )
    if step_frames is None:
        step_frames = sum(utterance.num_frames for utterance in utterances)
    return Batch(
        ids=[utterance.id for utterance in utterances],
        source=[utterance.source for utterance in utterances],
        features=_padded([utterance.features for utterance in utterances]),
        feature_lengths=torch.tensor([len(utterance.features) for utterance in utterances], dtype=torch.int64),
        num_frames=torch.tensor([utterance.num_frames for utterance in utterances], dtype=torch.int64),
        streams=streams,
        has=has,
        alignment=_pad_alignments(utterances),
        texts=[utterance.text for utterance in utterances],
        speakers=[utterance.speaker for utterance in utterances],
        custom=[utterance.custom for utterance in utterances],
        seconds=sum(utterance.seconds for utterance in utterances),
        step=step,
        step_frames=step_frames,
        packed=packed,
        second_view=_pad_complete([one.second_view for one in utterances]),
        pending=pending,
    )


def _pad_alignments(utterances: Sequence[Utterance]) -> Tensor | None:
    if all(utterance.alignment is None for utterance in utterances):
        return None
    widest = max(utterance.num_frames for utterance in utterances)
    padded = torch.full((len(utterances), widest), IGNORE, dtype=torch.int64)
    for row, utterance in enumerate(utterances):
        if utterance.alignment is not None:
            padded[row, : utterance.num_frames] = torch.from_numpy(utterance.alignment.astype(np.int64))
    return padded


def _pad_complete(parts: Sequence[Tensor | None]) -> Tensor | None:
    """None unless every utterance has one."""
    there = [part for part in parts if part is not None]
    return _padded(there) if there and len(there) == len(parts) else None


def _padded(parts: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
