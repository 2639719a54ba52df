"""In what order the variants of a study can be trained: a variant may learn from others, or start where they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asrkd.errors import ConfigError
from asrkd_recipes.study.config import TARGETS, VariantConfig


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
                f"variants.{name} waits for {missing[0]!r}, which is not a run of this study or waits for it in turn; the runs are "
                f"{', '.join(sorted(known | set(variants)))}"
            )
        order.append(ready)
        known |= set(ready)
        left = {name: given for name, given in left.items() if name not in known}
    return order


def store_of(given: VariantConfig, own: str, own_targets: str) -> str:
    """Name of the store that a variant learns from.

    Args:
        own: name of the store of the posteriors of the study's own teacher.
        own_targets: the study's.
    """
    name = f"soft-of-{'+'.join(given.teachers)}" if given.teachers else own
    name = with_targets(name, given.targets or own_targets)
    if given.codec:
        name += f"-codec-{given.codec.replace(':', '-')}"
    if given.embed:
        name += f"-embed-{given.embed.replace(':', '-')}"
    return name + (f"-layer-{given.layer}" if given.layer else "") + (f"-{given.codebooks}" if given.codebooks else "")


def has_own_store(given: VariantConfig) -> bool:
    """Whether it learns from another store than the study's distilled student."""
    return bool(given.teachers or given.targets or given.codec or given.embed or given.layer)


def with_targets(name: str, targets: str) -> str:
    """Name of the store of a kind of targets, given that of the posteriors."""
    return name if targets == TARGETS[0] else f"{name}-{targets}"


def _needed(given: VariantConfig) -> list[str]:
    return [*given.teachers, *([given.init] if given.init else [])]
