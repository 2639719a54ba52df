"""How the batches of several sources are interleaved."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from asrkd import fingerprint
from asrkd.errors import ConfigError

Mixture = Mapping[str, int]


def check_mixture(mixture: Mixture, sources: Collection[str]) -> None:
    """Refuse shares that are not whole numbers, and names that are no source, by `ConfigError`."""
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


def source_at(mixture: Mixture, step: int, seed: int) -> str:
    """The source of global batch `step`.

    With shares that sum to S, each group of S batches (steps g * S to g * S + S - 1) holds every source as often as
    its share says, in an order drawn from (seed, g, mixture). A pure function, so it needs no state beyond `step`.
    """
    names = [name for name in sorted(mixture) for _ in range(mixture[name])]
    group, place = divmod(step, len(names))
    key = fingerprint.of_json({name: share for name, share in mixture.items() if share})
    return names[int(np.random.default_rng([seed, group, int(key[:16], 16)]).permutation(len(names))[place])]
