"""Checks that the transforms share."""

from __future__ import annotations

from asrkd.config import is_pair
from asrkd.errors import ConfigError


def check_range(name: str, bounds: tuple[float, float]) -> None:
    if not is_pair(bounds):
        raise ConfigError(f"{name} is {bounds!r}, but must be a lowest and a highest value in dB")


def check_probability(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}: the value {value} is not within 0..1")
