"""The result of a run: `final.pt`, and `peer-2.pt` and so on of students that learned with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from asrkd.acoustic import TrainedModel
from asrkd.corpus.units import Units
from asrkd.models import checkpoint_args, count_parameters
from asrkd.training.callback import Callback
from asrkd.training.prior import mean_output

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


class Result(Callback):
    """Writes the averaged students with their priors, the first of them last."""

    def finish(self, trainer: Trainer) -> None:
        if trainer.ranks.first:
            for number, student in reversed(list(enumerate(trainer.averaged_students, 1))):
                _save(trainer, student, trainer.run / (f"peer-{number}.pt" if number > 1 else "final.pt"))


def _save(trainer: Trainer, model: nn.Module, path: Path) -> None:
    config, prior = trainer.config, trainer.prior
    if prior is None:
        # Over the last phase's first source.
        batches = trainer.loader.epoch(next(iter(config.schedule[-1].mixture)))
        with trainer.as_used(model):
            prior = mean_output(model, batches, len(trainer.inventory), trainer.device)
    TrainedModel(
        model.state_dict(),
        config.model.factory,
        checkpoint_args(model, config.model.args),
        trainer.front_end,
        trainer.inventory,
        config.model.subsampling_factor,
        prior,
        {
            "step": trainer.step,
            "num_parameters": count_parameters(model),
            "train_seconds": trainer.seconds,
            "sent_share": trainer.parallel.traffic().get("sent_share"),
            "warnings": trainer.warnings,
        },
        # Units alone are in the inventory already, and names of states are not text.
        None if trainer.lexicon.kind == Units.kind else trainer.lexicon,
        config.model.int8,
    ).save(path)
