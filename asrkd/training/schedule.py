"""The schedule: which sources a step draws from, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asrkd.streaming.mixture import Phase
from asrkd.training.config import OptimizerConfig, PhaseConfig


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
