"""Consistency regularization: two views of a batch, each the other's target (CR-CTC, Yao et al. 2025, arXiv 2410.05101).

With z and z' the outputs for the two views, sg that no gradient flows, and L the loss on targets or labels (there: CTC),

    loss = (L(z) + L(z')) / 2 + scale (KL(sg(z') || z) + KL(sg(z) || z')) / 2

Both terms are per frame. The views differ in their masks; noise, warps and the targets are shared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from asrkd.config import check, setting
from asrkd.corpus.augment import AugmentConfig
from asrkd.errors import ConfigError
from asrkd.losses.mutual import mutual_kl
from asrkd.streaming.batch import Batch
from asrkd.training.student import Losses, Objective, Student


@dataclass
class ConsistencyConfig:
    """Consistency regularization (CR-CTC, Yao et al. 2025): a batch is seen under two sets of masks, and each output is the other's target."""

    scale: float = setting(0.0, at_least=0)
    """Weight of the divergence between the two views; published 0.2 for CTC, 0 disables it and the second view."""
    time_mask_ratio: float = setting(2.5, above=0)
    """Factor of `augment.time_masks` while this is on, rounded to a whole number of masks; published 2.5."""
    warmup_steps: int = setting(2000, at_least=0)
    """Updates over which the weight rises linearly to `scale`; published 2000."""

    def __post_init__(self) -> None:
        check(self, "consistency")

    def masked(self, augment: AugmentConfig) -> AugmentConfig:
        """The augmentation of a training with this: with more time masks."""
        if not self.scale:
            return augment
        # Half a mask counts as one.
        return dataclasses.replace(augment, time_masks=int(augment.time_masks * self.time_mask_ratio + 0.5))


@dataclass(frozen=True)
class ConsistencyObjective:
    """An objective on both views of a batch, and how unlike the outputs are (`NAME_consistency`, per frame, before the weight).

    Attributes:
        objective: of one view.
    """

    objective: Objective
    settings: ConsistencyConfig

    def __call__(self, student: Student, batch: Batch) -> Losses:
        """
        Raises:
            ConfigError: the batch has one view.
        """
        if batch.second_view is None:
            raise ConfigError(
                f"consistency.scale: is {self.settings.scale}, but a batch of source {batch.source[0]!r} has one view alone; "
                "augment with two views (Augment.views)"
            )
        other_batch = dataclasses.replace(batch, features=batch.second_view, second_view=None)
        other = Student(student.forward, other_batch)
        loss, figures = self.objective(student, batch)
        other_loss, other_figures = self.objective(other, other_batch)
        mask = student.output.mask
        one, two = student.output.logits[mask], other.output.logits[mask]
        divergence = (mutual_kl(one, [two]) + mutual_kl(two, [one])) / (2 * mask.sum().clamp(min=1))
        # Steps count from 0; the first update has some weight.
        rising = min((batch.step + 1) / max(self.settings.warmup_steps, 1), 1.0)
        figures = {name: (value + other_figures[name]) / 2 for name, value in figures.items()}
        figures[f"{batch.source[0]}_consistency"] = float(divergence.detach())
        return (loss + other_loss) / 2 + self.settings.scale * rising * divergence, figures
