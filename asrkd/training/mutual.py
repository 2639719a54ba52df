"""The objective of students that learn from each other in one run."""

from __future__ import annotations

from dataclasses import dataclass

from asrkd.errors import ConfigError
from asrkd.losses.mutual import mutual_kl
from asrkd.streaming.batch import Batch
from asrkd.training.config import TrainConfig
from asrkd.training.student import Losses, Student


@dataclass(frozen=True)
class MutualObjective:
    """What a student's peers say (`asrkd.losses.mutual_kl`), per frame, as `NAME_mutual`."""

    temperature: float

    def __call__(self, student: Student, batch: Batch) -> Losses:
        mask = student.output.mask
        peers = [peer.output.logits.detach()[mask] for peer in student.peers]
        total = mutual_kl(student.output.logits[mask], peers, temperature=self.temperature)
        loss = total / mask.sum().clamp(min=1)
        return loss, {f"{batch.source[0]}_mutual": float(loss.detach())}


def check_mutual(config: TrainConfig) -> None:
    """Raise `ConfigError` for what does not go together with mutual learning, or cannot be."""
    settings = config.mutual
    if settings.students < 1 or settings.weight < 0 or not settings.temperature > 0:
        raise ConfigError(
            f"mutual.students is {settings.students}, weight {settings.weight} and temperature {settings.temperature}, but they must be at "
            "least 1, at least 0 and above 0"
        )
    if settings.students == 1:
        return
    if config.init:
        raise ConfigError(
            f"mutual.students is {settings.students}, but init {config.init!r} would start all of them alike, and they would have nothing to "
            "tell each other; leave one of the two out"
        )
    if any(phase.criterion != "frame" for phase in config.schedule):
        raise ConfigError(
            f"mutual.students is {settings.students}, but the schedule has a sequence criterion, which trains one student; train it on from "
            "the finished run (init)"
        )
