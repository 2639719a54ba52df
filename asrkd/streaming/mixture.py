"""How the batches of several sources are interleaved: by shares, along a schedule."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asrkd import fingerprint
from asrkd.errors import ConfigError

Mixture = Mapping[str, int]
# Fractional parts of its multiples fill 0..1 evenly from the first on (the golden ratio: Weyl's sequence).
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Phase:
    """A stretch of a schedule.

    Attributes:
        steps: global batches; None for no end.
        mixture: source name -> its share, a whole number of batches.
        until: the shares at the end of the phase, towards which they move in a straight line; None: they stay.
    """

    steps: int | None
    mixture: Mixture
    until: Mixture | None = None


def endless(mixture: Mixture) -> list[Phase]:
    """The schedule of one mixture without end."""
    return [Phase(None, mixture)]


def check_phases(schedule: Sequence[Phase], sources: Collection[str]) -> None:
    """Refuse what is not a schedule over these sources, by `ConfigError`."""
    if not schedule:
        raise ConfigError("the schedule has no phases; give at least one with steps and a mixture")
    for number, phase in enumerate(schedule):
        if phase.steps is None and number + 1 < len(schedule):
            raise ConfigError(f"phase {number} of the schedule has no end, so the phases behind it would never come")
        if phase.steps is not None and phase.steps < 1:
            raise ConfigError(f"phase {number} of the schedule has {phase.steps} steps, but must have at least 1")
        check_mixture(phase.mixture, sources)
        if phase.until is not None:
            check_mixture(phase.until, sources)
            if phase.steps is None:
                raise ConfigError(f"phase {number} of the schedule moves its shares, but has no end; give its steps")


def check_mixture(mixture: Mixture, sources: Collection[str]) -> None:
    """Refuse shares that are not whole numbers, and names that are not sources, by `ConfigError`."""
    for name, share in mixture.items():
        if name not in sources:
            raise ConfigError(f"the mixture names {name!r}, but the sources are {', '.join(sorted(sources))}")
        if isinstance(share, bool) or not isinstance(share, int) or share < 0:
            raise ConfigError(
                f"the mixture gives {name!r} the share {share!r}, but a share is a whole number of batches; "
                "write 3 and 1 rather than 0.75 and 0.25"
            )
    if sum(mixture.values()) == 0:
        raise ConfigError(f"the mixture {dict(mixture)!r} gives no source a share")


def phase_at(schedule: Sequence[Phase], step: int) -> tuple[Phase, int] | None:
    """The phase of a global batch, and its number within the phase; None past the end of the schedule."""
    for phase in schedule:
        if phase.steps is None or step < phase.steps:
            return phase, step
        step -= phase.steps
    return None


def source_at(phase: Phase, step: int, seed: int, *, stream: int = 0, streams: int = 1) -> str:
    """The source of a stream's batch in global batch `step` of a phase.

    The batches of all streams are counted through. With shares that stay and sum to S, each S batches in a row hold every source
    as often as its share says, in an order drawn from (seed, number of the group, mixture). With shares that move, a
    low-discrepancy sequence draws from them. A pure function, so it needs no state.
    """
    number = step * streams + stream
    if phase.until is not None and phase.steps is not None:
        return _moving(phase.mixture, phase.until, step / phase.steps, number, seed)
    names = [name for name in sorted(phase.mixture) for _ in range(phase.mixture[name])]
    if names[0] == names[-1]:  # one source: nothing to draw
        return names[0]
    group, place = divmod(number, len(names))
    key = fingerprint.of_json({name: share for name, share in phase.mixture.items() if share})
    return names[int(np.random.default_rng([seed, group, int(key[:16], 16)]).permutation(len(names))[place])]


def _moving(first: Mixture, last: Mixture, moved: float, number: int, seed: int) -> str:
    names = sorted({*first, *last})
    ends = [np.array([mixture.get(name, 0) for name in names]) / sum(mixture.values()) for mixture in (first, last)]
    edges = np.cumsum((1.0 - moved) * ends[0] + moved * ends[1])
    point = (np.random.default_rng(seed).random() + number * _GOLDEN) % 1.0
    # The last edge may be a hair below 1.
    return names[min(int(np.searchsorted(edges, point, side="right")), len(names) - 1)]
