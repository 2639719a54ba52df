"""The objective of students that learn from each other in one run."""

from __future__ import annotations

from dataclasses import dataclass

from asrkd.config import check, setting
from asrkd.losses.mutual import mutual_kl
from asrkd.streaming.batch import Batch
from asrkd.training.student import Losses, Student


@dataclass
class MutualConfig:
    """Mutual learning: students of one shape that teach each other in one run (Zhang et al. 2018)."""

    students: int = setting(1, at_least=1)
    """Number of students; the result is the first, the others are written as `peer-2.pt` and so on."""
    weight: float = setting(1.0, at_least=0)
    """Factor of the mean KL(peer || student) in each student's loss."""
    temperature: float = setting(1.0, above=0)
    """Softmax temperature of the students in that KL divergence."""

    def __post_init__(self) -> None:
        check(self, "mutual")


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
