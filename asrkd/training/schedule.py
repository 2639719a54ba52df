"""The schedule: which sources a step draws from, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from asrkd.errors import ConfigError
from asrkd.streaming.mixture import Phase
from asrkd.training.config import OptimizerConfig, PhaseConfig

CRITERIA = ("frame", "mmi", "lf_mmi", "smbr", "mwer")


def check_schedule(phases: Sequence[PhaseConfig], sources: Sequence[str]) -> int:
    """Total steps of a schedule.

    Raises:
        ConfigError: no phase, a phase without steps, an unknown source or criterion, a share below 1, a learning rate of 0, or a negative chunk.
    """
    if not phases:
        raise ConfigError("the schedule has no phases; give at least one with steps and a mixture")
    for number, phase in enumerate(phases):
        if phase.steps < 1:
            raise ConfigError(f"schedule[{number}].steps is {phase.steps}, but must be at least 1")
        if not phase.mixture:
            raise ConfigError(f"schedule[{number}].mixture is empty; name at least one of {', '.join(sources)}")
        _check_shares(phase.mixture, sources, f"schedule[{number}].mixture", lowest=1)
        _check_shares(phase.until, sources, f"schedule[{number}].until", lowest=0)
        if phase.until and not any(phase.until.values()):
            raise ConfigError(f"schedule[{number}].until gives no source a share")
        if phase.criterion not in CRITERIA:
            raise ConfigError(
                f"schedule[{number}].criterion is {phase.criterion!r}, but must be one of {', '.join(CRITERIA)}"
            )
        if phase.chunk_frames < 0:
            raise ConfigError(f"schedule[{number}].chunk_frames is {phase.chunk_frames}, but must be at least 0")
        if phase.learning_rate is not None and not phase.learning_rate > 0:
            raise ConfigError(f"schedule[{number}].learning_rate is {phase.learning_rate}, but must be above 0")
    return sum(phase.steps for phase in phases)


def _check_shares(shares: Mapping[str, int], sources: Sequence[str], what: str, *, lowest: int) -> None:
    for name, share in shares.items():
        if name not in sources:
            raise ConfigError(f"{what} names the source {name!r}, which is not one of: {', '.join(sources)}")
        if share < lowest:
            raise ConfigError(f"{what}.{name} is {share}, but must be an integer from {lowest}")


def stream_schedule(phases: Sequence[PhaseConfig]) -> list[Phase]:
    """The schedule as a loader takes it."""
    return [Phase(phase.steps, phase.mixture, phase.until or None) for phase in phases]


def update_phase(phases: Sequence[PhaseConfig], step: int) -> PhaseConfig:
    """The phase of update number `step` (from 0)."""
    for phase in phases:
        if step < phase.steps:
            return phase
        step -= phase.steps
    return phases[-1]


def learning_rate(step: int, total: int, optimizer: OptimizerConfig, phases: Sequence[PhaseConfig]) -> float:
    """Learning rate of update `step`: the phase's own, or linear warm-up and cosine decay over all phases, times the phase's scale."""
    phase = update_phase(phases, step)
    if phase.learning_rate is not None:
        return phase.learning_rate
    if step < optimizer.warmup_steps:
        scale = (step + 1) / optimizer.warmup_steps
    else:
        progress = (step - optimizer.warmup_steps) / max(1, total - optimizer.warmup_steps)
        low = optimizer.final_scale
        scale = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return optimizer.learning_rate * scale * phase.learning_rate_scale
