"""In what order the variants of a study can be trained: a variant may learn from others, or start where they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrkd.errors import ConfigError
from asrkd.study.config import VariantConfig


def waves(variants: Mapping[str, VariantConfig], finished: Iterable[str]) -> list[list[str]]:
    """Names of variants, those of a list waiting for nothing but the lists before it.

    Args:
        variants: by name.
        finished: names of runs that are there.

    Raises:
        ConfigError: a variant waits for a run that there is not, or variants wait for each other.
    """
    known, left, order = set(finished), dict(variants), []
    while left:
        ready = [name for name, given in left.items() if not set(_needed(given)) - known]
        if not ready:
            name, given = next(iter(left.items()))
            missing = [one for one in _needed(given) if one not in known]
            raise ConfigError(
                f"variants.{name} waits for {missing[0]!r}, which is no run of this study or waits for it in turn; the runs are "
                f"{', '.join(sorted(known | set(variants)))}"
            )
        order.append(ready)
        known |= set(ready)
        left = {name: given for name, given in left.items() if name not in known}
    return order


def store_of(teachers: Iterable[str]) -> str:
    """Name of the store of the soft targets of other teachers than the study's own."""
    return f"soft-of-{'+'.join(teachers)}"


def _needed(given: VariantConfig) -> list[str]:
    return [*given.teachers, *([given.init] if given.init else [])]
