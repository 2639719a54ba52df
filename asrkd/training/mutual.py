"""The objective of students that learn from each other in one run."""

from __future__ import annotations

from dataclasses import dataclass

from asrkd.losses.mutual import mutual_kl
from asrkd.streaming.batch import Batch
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
