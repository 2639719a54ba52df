"""Codecs: what is kept of a frame's posteriors, and how it is packed into columns.

A codec is named by a spec string, `dense` or `topk:K`, which with the packed columns is all that a reader needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import ConfigError, StoreError, TeacherError
from asrkd.targets.soft_targets import SoftTargets

Columns = dict[str, NDArray]

IDS, LOG_PROBS = "target_ids", "target_log_probs"
# Fixed point for log-probabilities: units of 2^-11 nat in 16 bits.
LOG_PROB_STEP = 2.0**-11
LOG_PROB_FLOOR = -65535 * LOG_PROB_STEP


class Codec(Protocol):
    """Keeps a part of each frame's posteriors and packs it into one-dimensional columns."""

    @property
    def spec(self) -> str:
        """The name by which `parse_codec` makes an equal codec."""

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        """The packed columns and the types of their items."""

    def encode(self, log_probs: Tensor) -> SoftTargets:
        """(T, V) natural-log posteriors, on any device -> soft targets. Raises TeacherError for NaN."""

    def pack(self, targets: SoftTargets) -> Columns:
        """Soft targets -> columns."""

    def unpack(self, columns: Mapping[str, NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        """Columns -> soft targets. Raises StoreError when they do not belong together."""


@dataclass(frozen=True)
class Dense:
    """Every class of every frame, as float32: exact, 4 V bytes a frame."""

    @property
    def spec(self) -> str:
        return "dense"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return {LOG_PROBS: np.dtype(np.float32)}

    def encode(self, log_probs: Tensor) -> SoftTargets:
        _refuse_nan(log_probs)
        num_frames, num_classes = log_probs.shape
        return SoftTargets(
            row_splits=np.arange(num_frames + 1, dtype=np.int64) * num_classes,
            ids=np.tile(np.arange(num_classes, dtype=np.int32), num_frames),
            log_probs=log_probs.detach().to("cpu", torch.float32).numpy().reshape(-1),
            missing=np.zeros(num_frames, dtype=np.float32),
            num_classes=num_classes,
        )

    def pack(self, targets: SoftTargets) -> Columns:
        return {LOG_PROBS: targets.log_probs}

    def unpack(self, columns: Mapping[str, NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        values = _column(columns, LOG_PROBS, num_frames * num_classes)
        return SoftTargets(
            row_splits=np.arange(num_frames + 1, dtype=np.int64) * num_classes,
            ids=np.tile(np.arange(num_classes, dtype=np.int32), num_frames),
            log_probs=values.astype(np.float32, copy=False),
            missing=np.zeros(num_frames, dtype=np.float32),
            num_classes=num_classes,
        )


@dataclass(frozen=True)
class TopK:
    """The k most probable classes of each frame: the study's high-valued logits (k = 20), normalised.

    A log-probability is kept in 16 bits as a multiple of 2^-11 nat: the error is at most 2^-12 nat (0.03 % of a
    probability), and what lies below exp(-31.99) is stored as exp(-31.99). Ids take 16 bits, 32 above 65,536 classes.
    The missing mass is one less the sum of what is kept, not stored.
    """

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"codec 'topk:{self.k}' would keep no class of a frame; K must be at least 1")

    @property
    def spec(self) -> str:
        return f"topk:{self.k}"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        ids = np.uint16 if num_classes <= 1 << 16 else np.uint32
        return {IDS: np.dtype(ids), LOG_PROBS: np.dtype(np.uint16)}

    def encode(self, log_probs: Tensor) -> SoftTargets:
        _refuse_nan(log_probs)
        num_frames, num_classes = log_probs.shape
        k = min(self.k, num_classes)
        ids = log_probs.detach().topk(k, dim=1).indices.sort(dim=1).values
        kept = log_probs.detach().gather(1, ids).to("cpu", torch.float32).numpy()
        return _from_rows(ids.cpu().numpy().astype(np.int32), kept, num_classes)

    def pack(self, targets: SoftTargets) -> Columns:
        ids, values = self.columns(targets.num_classes).items()
        with np.errstate(invalid="ignore"):
            codes = np.rint(np.maximum(targets.log_probs, LOG_PROB_FLOOR) / -LOG_PROB_STEP)
        return {
            ids[0]: targets.ids.astype(ids[1]),
            values[0]: np.clip(codes, 0, 65535).astype(values[1]),
        }

    def unpack(self, columns: Mapping[str, NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        k = min(self.k, num_classes)
        ids = _column(columns, IDS, num_frames * k).reshape(num_frames, k)
        codes = _column(columns, LOG_PROBS, num_frames * k).reshape(num_frames, k)
        # Before the cast to int32, in which an id of 32 bits could wrap around.
        if ids.size and int(ids.max()) >= num_classes:
            raise StoreError(
                f"stored class id {int(ids.max())} is outside the {num_classes} classes; the shard is damaged"
            )
        return _from_rows(ids.astype(np.int32), codes.astype(np.float32) * np.float32(-LOG_PROB_STEP), num_classes)


def parse_codec(spec: str) -> Codec:
    """The codec that a spec string names.

    Raises:
        ConfigError: the spec is not `dense` or `topk:K` with K at least 1.
    """
    name, _, argument = spec.partition(":")
    if name == "dense" and not argument:
        return Dense()
    if name == "topk" and argument.isdecimal() and int(argument) >= 1:
        return TopK(int(argument))
    raise ConfigError(f"codec {spec!r} is not known; give 'dense' or 'topk:K' with K at least 1, for example 'topk:20'")


@dataclass(frozen=True)
class Statistics:
    """Means over the frames of one utterance (0 without frames).

    Attributes:
        kept_mass: probability kept by the codec.
        entropy: entropy of the teacher's whole distribution, in nats.
        confidence: probability of the most probable class.
    """

    kept_mass: float
    entropy: float
    confidence: float


def statistics(log_probs: Tensor, targets: SoftTargets) -> Statistics:
    """Statistics of one utterance from the teacher's (T, V) log-posteriors and what was kept of them."""
    if not len(log_probs):
        return Statistics(0.0, 0.0, 0.0)
    probs = log_probs.exp()
    entropy = -torch.where(probs > 0, probs * log_probs, torch.zeros_like(probs)).sum(dim=1)
    return Statistics(
        kept_mass=float(1 - targets.missing.astype(np.float64).mean()),
        entropy=float(entropy.mean()),
        confidence=float(probs.max(dim=1).values.mean()),
    )


def _from_rows(ids: NDArray[np.int32], log_probs: NDArray[np.float32], num_classes: int) -> SoftTargets:
    """Soft targets from (T, k) ids and log-probabilities."""
    num_frames, k = ids.shape
    if k == num_classes:
        missing = np.zeros(num_frames, dtype=np.float32)
    else:
        missing = np.clip(1.0 - np.exp(log_probs.astype(np.float64)).sum(axis=1), 0.0, 1.0).astype(np.float32)
    return SoftTargets(
        row_splits=np.arange(num_frames + 1, dtype=np.int64) * k,
        ids=ids.reshape(-1),
        log_probs=log_probs.reshape(-1),
        missing=missing,
        num_classes=num_classes,
    )


def _refuse_nan(log_probs: Tensor) -> None:
    bad = torch.isnan(log_probs).any(dim=1).nonzero()
    if len(bad):
        raise TeacherError(
            f"the teacher's posteriors are NaN in {len(bad)} of {len(log_probs)} frames (first: frame {int(bad[0])}), "
            "so they cannot be stored; look at the audio of this cut, or at the teacher's precision"
        )


def _column(columns: Mapping[str, NDArray], name: str, size: int) -> NDArray:
    """A packed column of the size that it must have."""
    if name not in columns:
        raise StoreError(
            f"column {name!r} is not among {', '.join(sorted(columns)) or 'no columns'}; the shard is of another codec"
        )
    values = np.asarray(columns[name])
    if len(values) != size:
        raise StoreError(f"column {name!r} has {len(values)} items where {size} belong; the shard is damaged")
    return values
