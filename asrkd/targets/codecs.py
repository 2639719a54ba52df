"""Codecs: what is kept of a frame's posteriors, and how it is packed into columns.

A codec is named by a spec string (`dense`, `topk:20`, `nucleus:0.95:64`, `sampled:22`, `hybrid:4:8`), which with the packed
columns is all that a reader needs: nothing has to be copied into a training config.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import ConfigError, StoreError, TeacherError
from asrkd.targets import packing, select
from asrkd.targets.packing import Columns, Layout
from asrkd.targets.select import HEAD_GRID, LOG_STEP, Entries
from asrkd.targets.soft_targets import SoftTargets

LOG_PROBS = "target_log_probs"


class Codec(Protocol):
    """Keeps a part of each frame's posteriors and packs it into one-dimensional columns.

    `unbiased`: the mean of the decoded probabilities over keys is the teacher's distribution, and nothing is missing.
    """

    unbiased: bool

    @property
    def spec(self) -> str:
        """The name by which `parse_codec` makes an equal codec."""

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        """The packed columns and the types of their items."""

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        """(M, V) natural-log posteriors of a batch of frames, on any device, and their (M,) keys -> kept classes.

        The keys are those of `asrkd.targets.random.frame_keys`; only codecs that sample need them.
        Raises TeacherError for NaN.
        """

    def pack(self, entries: Entries) -> Columns:
        """The kept classes of one utterance -> columns."""

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        """Columns -> soft targets. Raises StoreError when they do not belong together."""


@dataclass(frozen=True)
class Dense:
    """Every class of every frame, as float32: exact, 4 V bytes a frame."""

    unbiased = True

    @property
    def spec(self) -> str:
        return "dense"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return {LOG_PROBS: np.dtype(np.float32)}

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.everything(_checked(log_probs))

    def pack(self, entries: Entries) -> Columns:
        return {LOG_PROBS: entries.codes.cpu().numpy()}

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        if LOG_PROBS not in columns:
            raise StoreError(f"column {LOG_PROBS!r} is not among {', '.join(columns)}; the shard is of another codec")
        values = np.asarray(columns[LOG_PROBS])
        if len(values) != num_frames * num_classes:
            raise StoreError(
                f"column {LOG_PROBS!r} has {len(values)} items where {num_frames * num_classes} belong; the shard is damaged"
            )
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
    probability), and what lies below exp(-31.99) is stored as exp(-31.99). What is not kept is missing.
    """

    k: int
    unbiased = False

    def __post_init__(self) -> None:
        _between("K of 'topk:K'", self.k, 1, 65535)

    @property
    def spec(self) -> str:
        return f"topk:{self.k}"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout(num_classes).columns, np.dtype(np.uint8))

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.largest(_checked(log_probs), self.k)

    def pack(self, entries: Entries) -> Columns:
        return _pack(entries, self.layout(entries.num_classes))

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        return _unpack_logs(columns, num_frames, self.layout(num_classes))

    def layout(self, num_classes: int) -> Layout:
        return Layout(num_classes, self.k, 2)


@dataclass(frozen=True)
class Nucleus:
    """The fewest most probable classes that hold `mass`, at most `k_max`; stored as by `TopK`."""

    mass: float
    k_max: int
    unbiased = False

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ConfigError(f"P of 'nucleus:P:K_MAX' is {self.mass}, but must be above 0 and at most 1")
        _between("K_MAX of 'nucleus:P:K_MAX'", self.k_max, 1, 65535)

    @property
    def spec(self) -> str:
        return f"nucleus:{self.mass!r}:{self.k_max}"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout(num_classes).columns, np.dtype(np.uint8))

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.nucleus(_checked(log_probs), self.mass, self.k_max)

    def pack(self, entries: Entries) -> Columns:
        return _pack(entries, self.layout(entries.num_classes))

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        return _unpack_logs(columns, num_frames, self.layout(num_classes))

    def layout(self, num_classes: int) -> Layout:
        return Layout(num_classes, self.k_max, 2)


@dataclass(frozen=True)
class Sampled:
    """`draws` independent draws from each frame's distribution, stored as counts: unbiased (`select.sampled`)."""

    draws: int
    unbiased = True

    def __post_init__(self) -> None:
        _between("N of 'sampled:N'", self.draws, 1, 256)

    @property
    def spec(self) -> str:
        return f"sampled:{self.draws}"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout(num_classes).columns, np.dtype(np.uint8))

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.sampled(_checked(log_probs), self.draws, _required(keys, self.spec))

    def pack(self, entries: Entries) -> Columns:
        return _pack(entries, self.layout(entries.num_classes))

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        counts, ids, codes = packing.unpack(columns, num_frames, self.layout(num_classes))
        table = np.log(np.arange(1, 257) / self.draws).astype(np.float32)
        return _soft_targets(counts, ids, table[codes], np.zeros(num_frames), self.layout(num_classes))

    def layout(self, num_classes: int) -> Layout:
        return Layout(num_classes, self.draws, 1)


@dataclass(frozen=True)
class Hybrid:
    """The `head` most probable classes nearly exact, the others by systematic sampling: unbiased (`select.hybrid`).

    With independent draws (`Sampled`) the variance is several times as large at the same size. A head class is off by less
    than 1/HEAD_GRID of the head's mass, a tail class by less than 1/draws; neither in the mean.
    """

    head: int
    draws: int
    unbiased = True

    def __post_init__(self) -> None:
        _between("HEAD of 'hybrid:HEAD:N'", self.head, 0, HEAD_GRID)
        _between("N of 'hybrid:HEAD:N'", self.draws, 1, 256 - HEAD_GRID)

    @property
    def spec(self) -> str:
        return f"hybrid:{self.head}:{self.draws}"

    def columns(self, num_classes: int) -> dict[str, np.dtype]:
        return dict.fromkeys(self.layout(num_classes).columns, np.dtype(np.uint8))

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.hybrid(_checked(log_probs), self.head, self.draws, _required(keys, self.spec))

    def pack(self, entries: Entries) -> Columns:
        return _pack(entries, self.layout(entries.num_classes))

    def unpack(self, columns: Mapping[str, bytes | NDArray], num_frames: int, num_classes: int) -> SoftTargets:
        counts, ids, codes = packing.unpack(columns, num_frames, self.layout(num_classes))
        units = np.arange(1, 257)
        # The value of a code: its share of the whole in the tail, of what the tail leaves in the head.
        tail_share = np.where(units <= self.draws, units / self.draws, 0.0)
        log_share = np.log(np.where(units <= self.draws, units / self.draws, (units - self.draws) / HEAD_GRID))
        left = 1.0 - np.bincount(_frames(counts), weights=tail_share[codes], minlength=num_frames)
        # A frame without head entries may be left with a rounding error of 0, whose logarithm is not used.
        log_left = np.repeat(np.log(np.maximum(left, 0.5 / self.draws)), counts)
        log_probs = log_share[codes] + np.where(codes < self.draws, 0.0, log_left)
        return _soft_targets(counts, ids, log_probs, np.zeros(num_frames), self.layout(num_classes))

    def layout(self, num_classes: int) -> Layout:
        return Layout(num_classes, self.head + self.draws, 1)


def parse_codec(spec: str) -> Codec:
    """The codec that a spec string names.

    Raises:
        ConfigError: the spec is of no known form, or a number in it cannot be.
    """
    name, *arguments = spec.split(":")
    try:
        if name == "dense" and not arguments:
            return Dense()
        if name == "nucleus":
            mass, k_max = arguments
            return Nucleus(float(mass), int(k_max))
        whole = [int(argument) for argument in arguments]
        if name == "topk":
            return TopK(*whole)
        if name == "sampled":
            return Sampled(*whole)
        if name == "hybrid":
            return Hybrid(*whole)
    except (TypeError, ValueError):
        pass
    raise ConfigError(
        f"codec {spec!r} is not known; give dense, topk:K, nucleus:P:K_MAX, sampled:N or hybrid:HEAD:N, for example "
        "'topk:20' or 'hybrid:4:8'"
    )


def unpack_together(
    codec: Codec, rows: Sequence[Mapping[str, bytes | NDArray]], num_frames: Sequence[int], num_classes: int
) -> SoftTargets:
    """The soft targets of several utterances, one after another, from their columns: faster than one utterance at a time.

    Raises:
        ConfigError: the codec `dense`, which packs nothing.
        StoreError: columns do not belong together.
    """
    joined = packing.join(rows, num_frames, layout_of(codec, num_classes))
    return codec.unpack(joined, sum(num_frames), num_classes)


def layout_of(codec: Codec, num_classes: int) -> Layout:
    """How a codec that keeps some classes of each frame packs them.

    Raises:
        ConfigError: the codec `dense`, which packs nothing.
    """
    if isinstance(codec, (TopK, Nucleus, Sampled, Hybrid)):
        return codec.layout(num_classes)
    raise ConfigError(
        f"codec {codec.spec!r} has nothing to unpack for many utterances at a time or on a device; read the store without unpack_on_device, "
        "or label it with a sparse codec"
    )


def as_stored(codec: Codec, log_probs: Tensor, keys: Tensor | None = None) -> SoftTargets:
    """What a reader of a store will get for (T, V) log-posteriors: encoded, packed and unpacked."""
    return codec.unpack(codec.pack(codec.encode(log_probs, keys)), *log_probs.shape)


def _pack(entries: Entries, layout: Layout) -> Columns:
    counts, ids, codes = (part.cpu().numpy() for part in (entries.counts, entries.ids, entries.codes))
    return packing.pack(counts, ids, codes, layout)


def _unpack_logs(columns: Mapping[str, bytes | NDArray], num_frames: int, layout: Layout) -> SoftTargets:
    """Codes are log-probabilities; what is not kept is missing, and nothing is where every class is kept."""
    counts, ids, codes = packing.unpack(columns, num_frames, layout)
    log_probs = np.multiply(codes, np.float32(-LOG_STEP), dtype=np.float32)
    kept = _sums(_masses()[codes], counts)
    missing = np.where(counts < layout.num_classes, np.clip(1.0 - kept, 0.0, 1.0), 0.0)
    return _soft_targets(counts, ids, log_probs, missing, layout)


@functools.lru_cache(maxsize=1)
def _masses() -> NDArray[np.float64]:
    """(65536,) the probability that a 16-bit code of a log-probability stands for; looking up is cheaper than exp."""
    return np.exp(np.arange(1 << 16, dtype=np.float32) * np.float32(-LOG_STEP), dtype=np.float64)


def _sums(values: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """(T,) the sum of each frame's values."""
    sums = np.zeros(len(counts))
    some = counts > 0
    if len(values):
        sums[some] = np.add.reduceat(values, (np.cumsum(counts) - counts)[some])
    return sums


def _frames(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The frame of each entry."""
    return np.repeat(np.arange(len(counts)), counts)


def _soft_targets(
    counts: NDArray[np.int64], ids: NDArray[np.int32], log_probs: NDArray, missing: NDArray, layout: Layout
) -> SoftTargets:
    return SoftTargets(
        row_splits=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]),
        ids=ids,
        log_probs=log_probs.astype(np.float32, copy=False),
        missing=missing.astype(np.float32),
        num_classes=layout.num_classes,
    )


def _checked(log_probs: Tensor) -> Tensor:
    log_probs = log_probs.detach()
    # NaN or infinities of both signs: a sum tells eight times as fast as looking at each value.
    suspicious = torch.isnan(log_probs.sum(dim=1)).nonzero()[:, 0]
    bad = suspicious[torch.isnan(log_probs[suspicious]).any(dim=1)]
    if len(bad):
        raise TeacherError(
            f"the teacher's posteriors are NaN in {len(bad)} of {len(log_probs)} frames (first: frame {int(bad[0])}), "
            "so they cannot be stored; look at the audio of this cut, or at the teacher's precision"
        )
    return log_probs


def _required(keys: Tensor | None, spec: str) -> Tensor:
    if keys is None:
        raise ConfigError(
            f"codec {spec!r} samples and was given no keys, without which labeling again would give other bytes; make them "
            "with asrkd.targets.random.frame_keys"
        )
    return keys


def _between(what: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ConfigError(f"{what} is {value}, but must be {lowest} to {highest}")
