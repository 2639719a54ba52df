"""Whether a training has learned its own training set."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asrkd.streaming.batch import Batch
from asrkd.targets.streams import TOKENS
from asrkd.training.callback import Callback
from asrkd.training.objective import HardLossConfig
from asrkd.training.student import Student, StudentOutput, run_model

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer

# Of the loss of a model that does not look at its input, the share that a result may keep on utterances that it was trained on. Students of 0.33 M
# parameters kept 0.02 to 0.16 where their labels were right, noise and distillation included, and 0.38 on misaligned speech.
MAX_SHARE = 1 / 3
_BATCHES = 20


class Fit(Callback):
    """Warns of a result that does not fit the hard labels it was trained on: a labeled source's loss without augmentation, on some of its batches.

    The loss is compared with that of the same posterior, the model's mean, at every frame, which needs to know nothing of the speech: a loss per
    frame by itself depends on the number of classes, the share of silence and the topology.
    """

    def finish(self, trainer: Trainer) -> None:
        if not trainer.ranks.first:
            return
        phase = trainer.config.schedule[-1]
        for name in {**phase.mixture, **phase.until}:
            if trainer.objectives.frame.kinds[name] != "labeled":
                continue
            loss, blind = losses(trainer, name)
            if loss > MAX_SHARE * blind:
                trainer.warnings.append(
                    f"the result does not fit its own training set: on utterances of {name!r} its loss is {loss:.3g} per frame, where the same posterior "
                    f"at every frame has {blind:.3g}, and a model that has learned its labels less than a third of it. Are they right (asrkd align says "
                    "where a set looks misaligned), are there enough updates and parameters, and is the learning rate too high or too low?"
                )


@torch.no_grad()
def losses(trainer: Trainer, name: str) -> tuple[float, float]:
    """Loss of the hard labels of a source's first batches, per frame: of the averaged student, and of its mean posterior at every frame;
    0 and 0 without hard labels."""
    objective = dataclasses.replace(trainer.objectives.frame, hard=HardLossConfig())
    model = trainer.averaged_students[0].eval()
    total, frames = torch.zeros(len(trainer.inventory), dtype=torch.float64, device=trainer.device), 0
    loss = blind = 0.0
    seen: list[tuple[Batch, torch.Size, Tensor]] = []
    with trainer.as_used(model):
        for batch in itertools.islice(trainer.loader.epoch(name), _BATCHES):
            if batch.alignment is None and trainer.inventory.topology.needs_alignment:
                continue  # as LF-MMI allows
            batch = batch.to(trainer.device)
            student = Student(partial(run_model, model), batch)
            output, count = student.output, int(student.output.lengths.sum())
            loss += float(objective(student, batch)[0]) * count
            total += output.logits.softmax(-1)[output.mask].double().sum(dim=0)
            frames += count
            # Without what takes memory.
            texts = {name: one for name, one in batch.streams.items() if name == TOKENS}
            light = dataclasses.replace(batch, features=torch.empty(0), streams=texts)
            seen.append((light, output.logits.shape, output.lengths))
    mean = (total / total.sum()).clamp_min(1e-5).log().float()
    for batch, shape, lengths in seen:
        output = StudentOutput(mean.expand(shape), lengths)
        blind += float(objective(Student(lambda *_, output=output: output, batch), batch)[0]) * int(lengths.sum())
    return loss / max(frames, 1), blind / max(frames, 1)
