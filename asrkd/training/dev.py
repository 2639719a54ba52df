"""The dev set while a model trains: its batches, and the loss on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError
from asrkd.store import Store
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.training.callback import Callback
from asrkd.training.objective import FrameObjective, HardLossConfig
from asrkd.training.student import Student, run_model

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig
    from asrkd.training.trainer import Trainer

_NAME = "dev"


def dev_source(config: TrainConfig, max_seconds: float) -> Source:
    """The dev store, without utterances of more than `max_seconds`.

    Raises:
        ConfigError: the config names no dev store.
    """
    if config.dev is None:
        raise ConfigError("the config names no dev store; set dev")
    return Source(_NAME, Store.open(config.dev), max_seconds=max_seconds)


def dev_batches(config: TrainConfig, front_end: AnyFrontEnd, max_seconds: float = math.inf) -> Iterator[Batch]:
    """Every utterance of the dev store once, without augmentation; the random numbers of training stay as they are.

    Raises:
        ConfigError: the config names no dev store.
    """
    loader = Loader(
        {_NAME: dev_source(config, max_seconds)},
        front_end=front_end,
        subsampling_factor=config.model.subsampling_factor,
        max_frames=config.batch.max_frames,
        max_utterances=config.batch.max_utterances,
    )
    state = torch.random.get_rng_state()
    yield from loader.epoch(_NAME)
    torch.random.set_rng_state(state)


@torch.no_grad()
def dev_loss(
    model: nn.Module,
    config: TrainConfig,
    front_end: AnyFrontEnd,
    objective: FrameObjective,
    max_seconds: float = math.inf,
) -> float:
    """Labeled loss on the dev store, the mean over utterances of their batches' losses per frame, without smoothing of labels."""
    plain = dataclasses.replace(objective, kinds={_NAME: "labeled"}, hard=HardLossConfig(), n_best={})
    device = next(model.parameters()).device
    model.eval()
    summed = count = 0.0
    for batch in dev_batches(config, front_end, max_seconds):
        batch = batch.to(device)
        loss, _ = plain(Student(partial(run_model, model), batch), batch)
        summed += float(loss) * len(batch)
        count += len(batch)
    return summed / max(count, 1.0)


class DevLoss(Callback):
    """Measures `dev`, the dev loss of the averaged model; the first process does, for all."""

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        figures["dev"] = trainer.ranks.broadcast(trainer.dev_loss() if trainer.ranks.first else None)
