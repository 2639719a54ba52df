"""The objective of students that learn from each other in one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asrkd.errors import ConfigError
from asrkd.losses.mutual import mutual_kl
from asrkd.streaming.batch import Batch
from asrkd.training.config import MutualConfig, TrainConfig
from asrkd.training.objective import Objective


@dataclass(frozen=True)
class MutualObjective:
    """Each student's own loss and what its peers say, summed over the students of `asrkd.models.Peers`, which share no weight."""

    objective: Objective
    settings: MutualConfig

    def __call__(self, logits: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The sum over students of their losses per frame; for the log the first student's, and the mean of `NAME_mutual`.

        Args:
            logits: (K N, T', V), student after student.
            lengths: (K N,) frames of each utterance.
        """
        name, own = batch.source[0], lengths[: len(batch)]
        students = logits.chunk(self.settings.students)
        losses = [self.objective(one, own, batch) for one in students]
        mask = torch.arange(logits.shape[1], device=logits.device)[None] < own[:, None]
        peers = mutual_kl([one[mask] for one in students], temperature=self.settings.temperature)
        mutual = torch.stack(peers).sum() / mask.sum().clamp(min=1)
        loss = torch.stack([loss for loss, _ in losses]).sum()
        total = loss + self.settings.weight * self.objective.weights[name] * mutual
        return total, losses[0][1] | {f"{name}_mutual": float(mutual.detach()) / len(students)}


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
