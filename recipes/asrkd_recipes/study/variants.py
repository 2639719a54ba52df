"""What the variants of a study learn from."""

from __future__ import annotations

import random
from collections.abc import Iterable

from asrkd.errors import ConfigError
from asrkd_recipes.study.config import TARGETS, VariantConfig


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


def some_speakers(name: str, given: VariantConfig, speakers: Iterable[str], seed: int) -> list[str]:
    """The untranscribed speakers that a variant learns from, chosen from an order of the seed's.

    Args:
        name: the variant's.
        speakers: of the whole untranscribed set, in any order.

    Raises:
        ConfigError: there are too few.
    """
    order = sorted(speakers)
    count = given.unlabeled_speakers or len(order) - given.without_speakers
    if count < 1 or given.without_speakers < 0 or given.without_speakers + count > len(order):
        raise ConfigError(
            f"variants.{name}.unlabeled_speakers is {given.unlabeled_speakers} and without_speakers {given.without_speakers}, but the "
            f"untranscribed set has {len(order)} speakers"
        )
    random.Random(seed).shuffle(order)
    return sorted(order[given.without_speakers :][:count])
