"""What a trainer gets: padded features with sparse targets, hard labels and transcripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import MismatchError
from asrkd.targets.codecs import Codec
from asrkd.targets.packed import PackedTargets
from asrkd.targets.sparse import SparseTargets
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
        targets: soft targets of the utterances where `has_targets`, in order; None if no utterance has any.
        has_targets: (N,) bool.
        alignment: (N, max num_frames) int64 hard labels padded with -100; None if no utterance has any.
        texts, speakers: None where not known.
        custom: further fields of each cut.
        seconds: of audio, over all utterances.
        step: number of the global batch that this is part of.
        step_frames: output frames of the global batch, over all its batches and ranks.
        packed: in place of `targets`, where they are unpacked by `to` on the device.
        layer: (N, max num_frames, D) float32 what the teacher's layer gave, or (N, max num_frames, C) int64 its indexes, padded with zeros;
            None if it is not read, or not there for every utterance.
        second_view: (N, T, F) float32 the same features under other masks, where the augmentation makes two views; else None.
    """

    ids: list[str]
    source: list[str]
    features: Tensor
    feature_lengths: Tensor
    num_frames: Tensor
    targets: SparseTargets | None
    has_targets: Tensor
    alignment: Tensor | None
    texts: list[str | None]
    speakers: list[str | None]
    custom: list[dict[str, Any]]
    seconds: float
    step: int
    step_frames: int
    packed: PackedTargets | None = None
    layer: Tensor | None = None
    second_view: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def weight(self) -> float:
        """This batch's share of the global batch's output frames.

        Mean losses per frame, times their weights, sum to the mean of the global batch over its batches and ranks.
        """
        return int(self.num_frames.sum()) / max(self.step_frames, 1)

    def to(self, where: torch.device | str) -> Batch:
        """The batch with its tensors on a device; packed targets are unpacked there.

        Raises:
            StoreError: packed columns contradict each other.
        """
        # By hand rather than dataclasses.asdict, which would copy every tensor on the way.
        batch: Batch = _mapped(self, lambda tensor: tensor.to(where, non_blocking=True))
        if batch.packed is None:
            return batch
        return replace(batch, targets=batch.packed.unpack(), packed=None)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; a DataLoader with `pin_memory` calls this."""
        return _mapped(self, Tensor.pin_memory)


@dataclass(frozen=True)
class Utterance:
    """One utterance before padding: features (T, F), output frames by the frame law, and what the store knows.

    `packed`: in place of `targets`, their columns as stored. `second_view`: (T, F), see `Batch`.

    Raises:
        MismatchError: targets or alignment have another number of frames than the frame law gives.
    """

    id: str
    source: str
    features: Tensor
    num_frames: int
    seconds: float
    targets: SparseTargets | None = None
    alignment: NDArray[np.integer] | None = None
    text: str | None = None
    speaker: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)
    packed: Mapping[str, Any] | None = None
    layer: NDArray[Any] | None = None
    second_view: Tensor | None = None

    def __post_init__(self) -> None:
        if self.targets is not None:
            self._check_frames("soft targets", self.targets.num_frames)
        if self.alignment is not None:
            self._check_frames("an alignment", len(self.alignment))
        if self.layer is not None:
            self._check_frames("a layer", len(self.layer))

    def _check_frames(self, what: str, frames: int) -> None:
        if frames != self.num_frames:
            raise MismatchError(
                f"utterance {self.id!r} of source {self.source!r} has {what} of {frames} frames, but "
                f"{self.num_frames} frames by the frame law; training would shift targets against features. "
                "Label the corpus again, or find the damaged shard with `asrkd store verify`"
            )


def collate(
    utterances: Sequence[Utterance],
    *,
    step: int = 0,
    step_frames: int | None = None,
    codec: Codec | None = None,
    num_classes: int = 0,
    unpack: bool = False,
    vocabulary_map: VocabularyMap | None = None,
) -> Batch:
    """Pad and join utterances.

    Args:
        step_frames: None for a global batch of these alone.
        codec, num_classes: of packed targets.
        unpack: whether packed targets are unpacked here, all at once; otherwise `Batch.to` does it.
        vocabulary_map: for packed targets that are unpacked here.

    Raises:
        StoreError: packed columns do not belong together.
    """
    soft = [utterance.targets for utterance in utterances if utterance.targets is not None]
    rows = {number: one.packed for number, one in enumerate(utterances) if one.packed is not None}
    packed = None
    if codec and rows:
        frames = [utterances[number].num_frames for number in rows]
        packed = PackedTargets.join(codec, list(rows.values()), frames, num_classes)
        if unpack:
            unpacked = packed.unpack()
            soft, packed = [vocabulary_map(unpacked) if vocabulary_map else unpacked], None
    if step_frames is None:
        step_frames = sum(utterance.num_frames for utterance in utterances)
    return Batch(
        ids=[utterance.id for utterance in utterances],
        source=[utterance.source for utterance in utterances],
        features=_padded([utterance.features for utterance in utterances]),
        feature_lengths=torch.tensor([len(utterance.features) for utterance in utterances], dtype=torch.int64),
        num_frames=torch.tensor([utterance.num_frames for utterance in utterances], dtype=torch.int64),
        targets=SparseTargets.cat(soft) if soft else None,
        has_targets=torch.tensor(
            [utterance.targets is not None or utterance.packed is not None for utterance in utterances],
            dtype=torch.bool,
        ),
        alignment=_pad_alignments(utterances),
        texts=[utterance.text for utterance in utterances],
        speakers=[utterance.speaker for utterance in utterances],
        custom=[utterance.custom for utterance in utterances],
        seconds=sum(utterance.seconds for utterance in utterances),
        step=step,
        step_frames=step_frames,
        packed=packed,
        layer=_pad_complete([None if one.layer is None else torch.from_numpy(one.layer) for one in utterances]),
        second_view=_pad_complete([one.second_view for one in utterances]),
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


def _padded(parts: list[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, (SparseTargets, PackedTargets)):
        return value.map(change)
    if isinstance(value, Batch):
        return Batch(**{item.name: _mapped(getattr(value, item.name), change) for item in fields(value)})
    return value
