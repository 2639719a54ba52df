"""Codecs: what is kept of a frame's posteriors, and how it is packed into columns.

A codec is named by a spec string (`dense`, `topk:20`, `nucleus:0.95:64`, `sampled:22`, `hybrid:4:8`), which with the packed
columns is all that a reader needs: nothing has to be copied into a training config.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from asrkd.errors import ConfigError, ModelError
from asrkd.targets import select
from asrkd.targets.layouts import Bytes, Floats, Layout
from asrkd.targets.packing import ByteLayout
from asrkd.targets.select import HEAD_GRID, LOG_STEP, Entries
from asrkd.targets.sparse import SparseTargets

# Of a labeling that names none.
DEFAULT_CODEC = "topk:20"


class Codec(Protocol):
    """Keeps a part of each frame's posteriors.

    Attributes:
        form: of its specs, as people read it: the name by which `CODECS` has it, and its arguments.
        arguments: their types, in order; what it is made from.
        unbiased: the mean of the decoded probabilities over keys is the teacher's distribution, and nothing is missing.
    """

    form: ClassVar[str]
    arguments: ClassVar[tuple[type[int] | type[float], ...]]
    unbiased: ClassVar[bool]

    @property
    def spec(self) -> str:
        """The name by which `parse_codec` makes an equal codec."""

    def layout(self, num_classes: int) -> Layout:
        """How the kept classes become columns."""

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        """(M, V) natural-log posteriors of a batch of frames, on any device, and their (M,) keys -> kept classes.

        The keys are those of `asrkd.targets.random.frame_keys`; only codecs that sample need them.
        Raises ModelError for NaN.
        """

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        """Kept classes -> (E,) float32 log-probabilities, and (M,) float32 mass that is missing in each frame."""


@dataclass(frozen=True)
class Dense:
    """Every class of every frame, as float32: exact, 4 V bytes a frame."""

    form: ClassVar[str] = "dense"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = ()
    unbiased: ClassVar[bool] = True

    @property
    def spec(self) -> str:
        return "dense"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.everything(_checked(log_probs))

    def layout(self, num_classes: int) -> Layout:
        return Floats(num_classes)

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        return entries.codes, _nothing(entries)


@dataclass(frozen=True)
class TopK:
    """The k most probable classes of each frame: the study's high-valued logits (k = 20), normalised.

    A log-probability is kept in 16 bits as a multiple of 2^-11 nat: the error is at most 2^-12 nat (0.03 % of a
    probability), and what lies below exp(-31.99) is stored as exp(-31.99). What is not kept is missing.
    """

    k: int
    form: ClassVar[str] = "topk:K"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    unbiased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _between(f"K of {self.form!r}", self.k, 1, 65535)

    @property
    def spec(self) -> str:
        return f"topk:{self.k}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.largest(_checked(log_probs), self.k)

    def layout(self, num_classes: int) -> Layout:
        return _bytes(num_classes, self.k, 2)

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        return _log_values(entries)


@dataclass(frozen=True)
class Nucleus:
    """The fewest most probable classes that hold `mass`, at most `k_max`; stored as by `TopK`."""

    mass: float
    k_max: int
    form: ClassVar[str] = "nucleus:P:K_MAX"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (float, int)
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

    def layout(self, num_classes: int) -> Layout:
        return _bytes(num_classes, self.k_max, 2)

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        return _log_values(entries)


@dataclass(frozen=True)
class Sampled:
    """`draws` independent draws from each frame's distribution, stored as counts: unbiased (`select.sampled`)."""

    draws: int
    form: ClassVar[str] = "sampled:N"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int,)
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _between(f"N of {self.form!r}", self.draws, 1, 256)

    @property
    def spec(self) -> str:
        return f"sampled:{self.draws}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.sampled(_checked(log_probs), self.draws, _required(keys, self.spec))

    def layout(self, num_classes: int) -> Layout:
        return _bytes(num_classes, self.draws, 1)

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        return _count_table(self.draws, entries.ids.device).index_select(0, entries.codes), _nothing(entries)


@dataclass(frozen=True)
class Hybrid:
    """The `head` most probable classes nearly exact, the others by systematic sampling: unbiased (`select.hybrid`).

    With independent draws (`Sampled`) the variance is several times as large at the same size. A head class is off by less
    than 1/HEAD_GRID of the head's mass, a tail class by less than 1/draws; neither in the mean.
    """

    head: int
    draws: int
    form: ClassVar[str] = "hybrid:HEAD:N"
    arguments: ClassVar[tuple[type[int] | type[float], ...]] = (int, int)
    unbiased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _between(f"HEAD of {self.form!r}", self.head, 0, HEAD_GRID)
        _between(f"N of {self.form!r}", self.draws, 1, 256 - HEAD_GRID)

    @property
    def spec(self) -> str:
        return f"hybrid:{self.head}:{self.draws}"

    def encode(self, log_probs: Tensor, keys: Tensor | None = None) -> Entries:
        return select.hybrid(_checked(log_probs), self.head, self.draws, _required(keys, self.spec))

    def layout(self, num_classes: int) -> Layout:
        return _bytes(num_classes, self.head + self.draws, 1)

    def values(self, entries: Entries) -> tuple[Tensor, Tensor]:
        tables = _hybrid_tables(self.draws, entries.ids.device)
        log_share, tail_share, in_head = (table.index_select(0, entries.codes) for table in tables)
        left = 1.0 - _sums(tail_share, entries.counts)
        # A frame without head entries may be left with a rounding error of 0, whose logarithm is not used.
        log_left = left.clamp_min(0.5 / self.draws).log().repeat_interleave(entries.counts, output_size=len(in_head))
        log_probs = log_share.addcmul_(in_head, log_left)
        return log_probs.float(), _nothing(entries)


# What a spec may name; `parse_codec`, its errors and the help of `--codec` are made from it.
CODECS: dict[str, type[Codec]] = {kind.form.split(":")[0]: kind for kind in (Dense, TopK, Nucleus, Sampled, Hybrid)}


def codec_forms() -> str:
    """The forms of specs in a sentence."""
    *forms, last = (kind.form for kind in CODECS.values())
    return f"{', '.join(forms)} or {last}"


def parse_codec(spec: str) -> Codec:
    """The codec that a spec string names.

    Raises:
        ConfigError: the spec is of no known form, or a number in it cannot be.
    """
    name, *texts = spec.split(":")
    try:
        kind = CODECS[name]
        values = [read(text) for read, text in zip(kind.arguments, texts, strict=True)]
    except (KeyError, ValueError):
        raise ConfigError(
            f"codec {spec!r} is not known; give {codec_forms()}, for example 'topk:20' or 'hybrid:4:8'"
        ) from None
    return kind(*values)


def decode_entries(codec: Codec, entries: Entries, lengths: Tensor | None = None) -> SparseTargets:
    """Kept classes of utterances of (U,) frames (None: of one utterance) as targets."""
    return SparseTargets.of_counts(
        entries.counts, entries.ids, *codec.values(entries), num_classes=entries.num_classes, lengths=lengths
    )


def _bytes(num_classes: int, max_count: int, code_bytes: int) -> Bytes:
    return Bytes(ByteLayout(num_classes, max_count, code_bytes))


def _log_values(entries: Entries) -> tuple[Tensor, Tensor]:
    """Codes are log-probabilities; what is not kept is missing, and nothing is where every class is kept."""
    log_probs = entries.codes.float().mul_(-LOG_STEP)
    kept = _sums(log_probs.double().exp_(), entries.counts)
    missing = torch.where(entries.counts < entries.num_classes, (1.0 - kept).clamp(0.0, 1.0), 0.0)
    return log_probs, missing.float()


@functools.lru_cache(maxsize=16)
def _count_table(draws: int, device: torch.device) -> Tensor:
    """(256,) float32 log-probability of a code of `sampled`: of 1 to 256 draws."""
    return torch.arange(1, 257, dtype=torch.float64, device=device).div_(draws).log_().float()


@functools.lru_cache(maxsize=16)
def _hybrid_tables(draws: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(256,) float64 of a code of `hybrid`: the log of its share (of the whole in the tail, of what the tail leaves in the head), its share
    in the tail or 0, and 1 in the head or 0."""
    units = torch.arange(1, 257, dtype=torch.float64, device=device)
    in_tail = units <= draws
    share = torch.where(in_tail, units / draws, (units - draws) / HEAD_GRID)
    return share.log(), share * in_tail, (~in_tail).double()


def _nothing(entries: Entries) -> Tensor:
    return torch.zeros(len(entries.counts), device=entries.ids.device)


def _sums(values: Tensor, counts: Tensor) -> Tensor:
    """(M,) the sum of each frame's values."""
    if not len(values):
        return values.new_zeros(len(counts))
    return torch.segment_reduce(values, "sum", lengths=counts, initial=0.0)


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
