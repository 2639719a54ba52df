"""Topologies: what the classes of a model mean, frame by frame, and what follows for graphs, losses and searches.

This is the one place that tells them apart. Everything else asks `Inventory.topology`: how a token is spelled in classes, which class is
nothing, what the hard loss is, which arcs a graph has, whether scores need a prior, and whether hard labels need an alignment first. A third
topology is a third class here, and its losses and searches where those of the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from asrkd.errors import ConfigError

BLANK = "<blk>"
SILENCE = "SIL"
# The class of frames in which nothing is said: blank or silence.
NOTHING = 0


class Topology(Protocol):
    """What a topology says.

    Attributes:
        name: in configs, stores and checkpoints.
        nothing, nothing_is: name of unit 0, and what kind of unit it is, in words.
        has_blank: frames of `nothing` come between tokens wherever a model likes, so that few frames hold the tokens.
        collapses_repeats: frames of one class in a row are one token, so any sequence of classes spells something; equal tokens need a frame of
            `nothing` between them, and any two may have one.
        hard_loss: which function of `asrkd.losses.hard` trains on transcribed speech.
        needs_alignment: its labels are a class a frame, which an alignment makes first; otherwise they are a transcript's tokens.
        needs_prior: searches read log-posteriors less log-priors (Bourlard & Morgan 1994).
    """

    name: ClassVar[str]
    nothing: ClassVar[str]
    nothing_is: ClassVar[str]
    has_blank: ClassVar[bool]
    collapses_repeats: ClassVar[bool]
    hard_loss: ClassVar[str]
    needs_alignment: ClassVar[bool]
    needs_prior: ClassVar[bool]

    @property
    def states_per_phone(self) -> int:
        """Classes of a token."""

    def units(self, tokens: Sequence[str]) -> tuple[str, ...]:
        """The output units of a model of these tokens, in the order of the classes; the blank or silence comes first wherever it is among them."""

    def spelling(self, token: str) -> list[str]:
        """The units that a token passes through."""

    def tokens(self, units: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], int | None]:
        """The inverse of `units`: names of the tokens, the classes of each in order, and the number of silence's token counted from 1."""

    def begins_token(self, label: int) -> bool:
        """Whether a token may begin with this class."""

    def early_ends(self, classes: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Where the last token of `classes` may end before, when it is left early."""

    def maps_from(self, other: Topology) -> bool:
        """Whether a vocabulary map may sum classes of the other topology into those of this one."""


@dataclass(frozen=True)
class CTC:
    """Unit 0 is the blank `<blk>`, every other unit is a token (Graves et al. 2006)."""

    states_per_phone: ClassVar[int] = 1
    name: ClassVar[str] = "ctc"
    nothing: ClassVar[str] = BLANK
    nothing_is: ClassVar[str] = "the blank"
    has_blank: ClassVar[bool] = True
    collapses_repeats: ClassVar[bool] = True
    hard_loss: ClassVar[str] = "ctc_loss"
    needs_alignment: ClassVar[bool] = False
    needs_prior: ClassVar[bool] = False

    def units(self, tokens: Sequence[str]) -> tuple[str, ...]:
        return (BLANK, *(token for token in tokens if token != BLANK))

    def spelling(self, token: str) -> list[str]:
        return [token]

    def tokens(self, units: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], int | None]:
        return tuple(units[1:]), tuple((label,) for label in range(1, len(units))), None

    def begins_token(self, label: int) -> bool:
        return True

    def early_ends(self, classes: tuple[int, ...]) -> list[tuple[int, ...]]:
        return []

    def maps_from(self, other: Topology) -> bool:
        return isinstance(other, CTC)


@dataclass(frozen=True)
class HMM:
    """Unit 0 is silence `SIL`; the others are states `phone_0`, `phone_1`, ..., left to right, each with a self-loop.

    A class is one state (a pdf-id).
    """

    states_per_phone: int = 1

    name: ClassVar[str] = "hmm"
    nothing: ClassVar[str] = SILENCE
    nothing_is: ClassVar[str] = "silence"
    has_blank: ClassVar[bool] = False
    collapses_repeats: ClassVar[bool] = False
    hard_loss: ClassVar[str] = "frame_cross_entropy"
    needs_alignment: ClassVar[bool] = True
    needs_prior: ClassVar[bool] = True

    def units(self, tokens: Sequence[str]) -> tuple[str, ...]:
        return (SILENCE, *(unit for token in tokens if token not in (SILENCE, BLANK) for unit in self.spelling(token)))

    def spelling(self, token: str) -> list[str]:
        return [token] if token == SILENCE else [f"{token}_{state}" for state in range(self.states_per_phone)]

    def tokens(self, units: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...], int | None]:
        firsts = range(1, len(units), self.states_per_phone)
        names = tuple(units[first].rpartition("_")[0] for first in firsts)
        return (SILENCE, *names), ((0,), *(tuple(range(n, n + self.states_per_phone)) for n in firsts)), 1

    def begins_token(self, label: int) -> bool:
        return label == NOTHING or (label - 1) % self.states_per_phone == 0

    def early_ends(self, classes: tuple[int, ...]) -> list[tuple[int, ...]]:
        ends = []
        while not self.begins_token(classes[-1]):
            classes = classes[:-1]
            ends.append(classes)
        return ends

    def maps_from(self, other: Topology) -> bool:
        return isinstance(other, HMM)


# By name, each made from the states of a phone.
_KINDS: dict[str, Callable[[int], Topology]] = {HMM.name: HMM, CTC.name: lambda states_per_phone: CTC()}


def make_topology(name: str, states_per_phone: int = 1) -> Topology:
    """The topology that a config, store or checkpoint names.

    Raises:
        ConfigError: an unknown name, or fewer than one state.
    """
    if states_per_phone < 1:
        raise ConfigError(f"states_per_phone is {states_per_phone}, but must be at least 1")
    if name not in _KINDS:
        raise ConfigError(f"topology is {name!r}, but must be one of {', '.join(_KINDS)}")
    return _KINDS[name](states_per_phone)
