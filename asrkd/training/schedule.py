"""The schedule: which sources a step draws from, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asrkd.config import setting
from asrkd.streaming.mixture import Phase
from asrkd.training.optimizer import OptimizerConfig

CRITERIA = ("frame", "mmi", "lf_mmi", "smbr", "mwer")


@dataclass
class PhaseConfig:
    """A stretch of the schedule (scheduled learning: Parthasarathi & Ström 2019, section 3.2)."""

    steps: int = setting(at_least=1)
    """Updates of this phase."""
    mixture: dict[str, int] = setting(dict, at_least=1)
    """Batches drawn from each source, as integer shares."""
    until: dict[str, int] = setting(dict, at_least=0)
    """Shares at the end of the phase, towards which those of `mixture` move linearly."""
    learning_rate_scale: float = setting(1.0, at_least=0)
    """Factor of the optimizer's learning rate in this phase."""
    learning_rate: float | None = setting(None, above=0)
    """Constant learning rate of this phase, in place of the optimizer's schedule."""
    criterion: str = setting("frame", one_of=CRITERIA)
    """Loss on labeled batches: `frame` (cross-entropy or CTC), or a sequence criterion (`mmi`, `lf_mmi`, `smbr`, `mwer`; needs k2)."""
    chunk_frames: int = setting(0, at_least=0)
    """Truncate backpropagation in a streaming model to chunks of N input frames; 0 trains on whole utterances."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.mixture:
            yield "mixture", f"must give at least one source a share, not {self.mixture!r}"
        if self.until and not any(self.until.values()):
            yield "until", f"must give at least one source a share, not {self.until!r}"


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
