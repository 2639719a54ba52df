"""Codecs: what is kept of a frame's posteriors, and how it is packed into columns.

A codec is named by a spec string (`dense`, `topk:20`, `nucleus:0.95:64`, `sampled:22`, `hybrid:4:8`), which with the packed
columns is all that a reader needs: nothing has to be copied into a training config.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.errors import ConfigError, ModelError
from asrkd.targets import select
from asrkd.targets.arrays import Array, Arrays, arrays_for
from asrkd.targets.layer_codec import Codebooks, Float16
from asrkd.targets.layouts import Bytes, Floats
from asrkd.targets.packing import ByteLayout
from asrkd.targets.select import HEAD_GRID, LOG_STEP, Entries
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS, Codec
from asrkd.targets.token_codec import TokenLists

# Of a labeling that names none.
DEFAULT_CODEC = "hybrid:0:12"


class PosteriorCodec(Codec, Protocol):
    """Keeps a part of each frame's posteriors.

    Attributes:
        unbiased: the mean of the decoded probabilities over keys is the teacher's distribution, and nothing is missing.
    """

    unbiased: ClassVar[bool]

    def layout(self, num_classes: int) -> Bytes | Floats:
        """How the kept classes become columns."""

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        """(M, V) natural-log posteriors of a batch of frames, on any device, and their (M,) keys -> kept classes.

        The keys are those of `asrkd.targets.random.frame_keys`; only codecs that sample need them.
        Raises ModelError for NaN.
        """

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        """What codes are worth: (E,) float32 log-probabilities, and (M,) float32 mass that is missing in each frame.

        Args:
            codes: (E,) of kept classes.
            splits: (M + 1,) the entries of frame t are `splits[t]:splits[t + 1]`.
            arrays: the kind of the arrays.
        """


@dataclass(frozen=True)
class Dense:
    """Every class of every frame, as float32: exact, 4 V bytes a frame."""

    stream: ClassVar[str] = POSTERIORS
    form: ClassVar[str] = "dense"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = ()
    by_frame: ClassVar[bool] = True
    unbiased: ClassVar[bool] = True

    @property
    def spec(self) -> str:
        return "dense"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.everything(_checked(log_probs))

    def layout(self, num_classes: int) -> Floats:
        return Floats(num_classes)

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        return codes, arrays.zeros(len(splits) - 1, codes)


@dataclass(frozen=True)
class TopK:
    """The k most probable classes of each frame: the study's high-valued logits (k = 20), normalised.

    A log-probability is kept in 16 bits as a multiple of 2^-11 nat: the error is at most 2^-12 nat (0.03 % of a
    probability), and what lies below exp(-31.99) is stored as exp(-31.99). What is not kept is missing.
    """

    k: int
    stream: ClassVar[str] = POSTERIORS
    form: ClassVar[str] = "topk:K"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    by_frame: ClassVar[bool] = True
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _between(f"K of {self.form!r}", self.k, 1, 65535)

    @property
    def spec(self) -> str:
        return f"topk:{self.k}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.largest(_checked(log_probs), self.k)

    def layout(self, num_classes: int) -> Bytes:
        return Bytes(ByteLayout(num_classes, self.k, 2), self)

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        return _log_values(codes, splits, num_classes, arrays)


@dataclass(frozen=True)
class Nucleus:
    """The fewest most probable classes that hold `mass`, at most `k_max`; stored as by `TopK`."""

    mass: float
    k_max: int
    stream: ClassVar[str] = POSTERIORS
    form: ClassVar[str] = "nucleus:P:K_MAX"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (float, int)
    by_frame: ClassVar[bool] = True
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ConfigError(f"P of {self.form!r} is {self.mass}, but must be above 0 and at most 1")
        _between(f"K_MAX of {self.form!r}", self.k_max, 1, 65535)

    @property
    def spec(self) -> str:
        return f"nucleus:{self.mass!r}:{self.k_max}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.nucleus(_checked(log_probs), self.mass, self.k_max)

    def layout(self, num_classes: int) -> Bytes:
        return Bytes(ByteLayout(num_classes, self.k_max, 2), self)

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        return _log_values(codes, splits, num_classes, arrays)


@dataclass(frozen=True)
class Sampled:
    """`draws` independent draws from each frame's distribution, stored as counts: unbiased (`select.sampled`)."""

    draws: int
    stream: ClassVar[str] = POSTERIORS
    form: ClassVar[str] = "sampled:N"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    by_frame: ClassVar[bool] = True
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _between(f"N of {self.form!r}", self.draws, 1, 256)

    @property
    def spec(self) -> str:
        return f"sampled:{self.draws}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.sampled(_checked(log_probs), self.draws, _required(keys, self.spec))

    def layout(self, num_classes: int) -> Bytes:
        return Bytes(ByteLayout(num_classes, self.draws, 1), self)

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        log_probs = arrays.constant(_count_table(self.draws), codes)[codes]
        return log_probs, arrays.zeros(len(splits) - 1, codes)


@dataclass(frozen=True)
class Hybrid:
    """The `head` most probable classes nearly exact, the others by systematic sampling: unbiased (`select.hybrid`).

    With independent draws (`Sampled`) the variance is several times as large at the same size. A head class is off by less
    than 1/HEAD_GRID of the head's mass, a tail class by less than 1/draws; neither in the mean.
    """

    head: int
    draws: int
    stream: ClassVar[str] = POSTERIORS
    form: ClassVar[str] = "hybrid:HEAD:N"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int, int)
    by_frame: ClassVar[bool] = True
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _between(f"HEAD of {self.form!r}", self.head, 0, HEAD_GRID)
        _between(f"N of {self.form!r}", self.draws, 1, 256 - HEAD_GRID)

    @property
    def spec(self) -> str:
        return f"hybrid:{self.head}:{self.draws}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.hybrid(_checked(log_probs), self.head, self.draws, _required(keys, self.spec))

    def layout(self, num_classes: int) -> Bytes:
        return Bytes(ByteLayout(num_classes, self.head + self.draws, 1), self)

    def values(self, codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
        tail_units, log_probs = (arrays.constant(one, codes) for one in _hybrid_tables(self.draws))
        # More units than there are only in a damaged row, which must not be read outside the table.
        units = _sums(tail_units[codes], splits, arrays).clip(0, self.draws)
        places = arrays.repeat(256 * units, splits[1:] - splits[:-1], len(codes))
        return log_probs[places + codes], arrays.zeros(len(units), codes)


# What a spec may name; parsing, its errors and the help of `--codec` are made from it.
CODECS: dict[str, type[Codec]] = {
    kind.form.split(":")[0]: kind for kind in (Dense, TopK, Nucleus, Sampled, Hybrid, Float16, Codebooks, TokenLists)
}


def codec_forms(stream: str = POSTERIORS) -> str:
    """The forms of specs of a stream in a sentence."""
    *forms, last = (kind.form for kind in CODECS.values() if kind.stream == stream)
    return f"{', '.join(forms)} or {last}" if forms else last


def parse_codec(spec: str) -> PosteriorCodec:
    """The codec of posteriors that a spec string names; raises what `stream_codec` raises."""
    return cast(PosteriorCodec, stream_codec(POSTERIORS, spec))


def stream_codec(stream: str, spec: str) -> Codec:
    """The codec that a spec string names.

    Raises:
        ConfigError: the spec is of no known form of this stream, or a number in it cannot be.
    """
    name, *texts = spec.split(":")
    kind = CODECS.get(name)
    try:
        if kind is not None and kind.stream == stream:
            return kind(*(read(text) for read, text in zip(kind.arguments, texts, strict=True)))
    except ValueError:
        pass
    if stream not in {known.stream for known in CODECS.values()}:
        raise ConfigError(f"targets {stream!r} (codec {spec!r}) are not known; they are of a later version")
    what = "codec" if stream == POSTERIORS else f"codec of {stream} targets"
    raise ConfigError(f"{what} {spec!r} is not known; give {codec_forms(stream)}")


def decode_entries(codec: PosteriorCodec, entries: Entries) -> SparseTargets:
    """Kept classes of one utterance as the targets that they will be, without packing them."""
    arrays = arrays_for(entries.counts)
    splits = arrays.splits(arrays.given(entries.counts))
    log_probs, missing = codec.values(arrays.given(entries.codes), splits, entries.num_classes, arrays)
    lengths = entries.counts.new_tensor([len(entries.counts)])
    values = (arrays.tensor(log_probs), arrays.tensor(missing), entries.num_classes, lengths)
    return SparseTargets(arrays.tensor(splits), entries.ids, *values)


def _log_values(codes: Array, splits: Array, num_classes: int, arrays: Arrays) -> tuple[Array, Array]:
    """Codes are log-probabilities; what is not kept is missing, and nothing is where every class is kept."""
    kept = _sums(arrays.constant(_masses(), codes)[codes], splits, arrays)
    counts = splits[1:] - splits[:-1]
    missing = arrays.floats((_WHOLE - kept).clip(0, _WHOLE) * (counts < num_classes))
    return arrays.floats(codes) * -LOG_STEP, missing * (1 / _WHOLE)


# Masses are summed in whole units, so that a frame's sum is the same in any company, on any device.
_WHOLE = 1 << 44


@functools.lru_cache(maxsize=1)
def _masses() -> NDArray[np.int64]:
    """(65536,) the mass of a code of `topk` or `nucleus`, in units of 2^-44; looking up is cheaper than exp."""
    return np.rint(np.exp(np.arange(1 << 16) * -LOG_STEP) * _WHOLE).astype(np.int64)


@functools.lru_cache(maxsize=16)
def _count_table(draws: int) -> NDArray[np.float32]:
    """(256,) log-probability of a code of `sampled`: of 1 to 256 draws."""
    return np.log(np.arange(1, 257) / draws).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _hybrid_tables(draws: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(256,) units of the tail that a code of `hybrid` is, 0 in the head; and (256 (draws + 1),) its log-probability in a frame whose tail has
    n units, at 256 n: its share of the whole in the tail, of what the tail leaves in the head."""
    units = np.arange(1, 257)
    in_tail = units <= draws
    log_share = np.log(np.where(in_tail, units / draws, (units - draws) / HEAD_GRID))
    # Where the tail leaves nothing there is no head, and the value is not used.
    log_left = np.log(np.maximum(1.0 - np.arange(draws + 1) / draws, 0.5 / draws))
    log_probs = log_share + np.where(in_tail, 0.0, log_left[:, None])
    return units * in_tail, log_probs.astype(np.float32).reshape(-1)


def _sums(values: Array, splits: Array, arrays: Arrays) -> Array:
    """(M,) the sum of each frame's whole numbers."""
    sums = arrays.splits(values)[splits]
    return sums[1:] - sums[:-1]


def _checked(log_probs: Tensor) -> Tensor:
    log_probs = log_probs.detach()
    # NaN or infinities of both signs: a sum tells eight times as fast as looking at each value.
    suspicious = torch.isnan(log_probs.sum(dim=1)).nonzero()[:, 0]
    bad = suspicious[torch.isnan(log_probs[suspicious]).any(dim=1)]
    if len(bad):
        raise ModelError(
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
