"""The callbacks of a training, by the config, in their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asrkd.errors import ConfigError
from asrkd.training.best import BestCheckpoints, EarlyStopping
from asrkd.training.callback import Callback
from asrkd.training.dev import DevLoss
from asrkd.training.dev_wer import DevWer
from asrkd.training.fit import Fit
from asrkd.training.metrics import Log, RisingDev
from asrkd.training.result import Result
from asrkd.training.sequence import SkippedUtterances
from asrkd.training.too_fast import TooFast

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


def all_callbacks(trainer: Trainer, further: Sequence[Callback]) -> list[Callback]:
    """Those of the config and `further`; those that measure come before those that look at their figures.

    Raises:
        ConfigError: two of one class.
    """
    config, sequence = trainer.config, trainer.objectives.sequence
    dev = config.dev is not None
    callbacks = [
        *([DevLoss()] if dev else []),
        *([DevWer(trainer)] if dev and config.dev_decoding.every else []),
        *([EarlyStopping(config.patience)] if config.patience else []),
        *([BestCheckpoints(trainer.run, config.keep_best)] if config.keep_best and trainer.ranks.first else []),
        *further,
        Log(),
        *([SkippedUtterances(sequence)] if sequence else []),
        *([RisingDev()] if dev else []),
        *([TooFast()] if trainer.inventory.topology.has_blank else []),
        Fit(),
        Result(),
    ]
    for name, count in Counter(map(state_name, callbacks)).items():
        if count > 1:
            raise ConfigError(
                f"callbacks: {name} is there {count} times, so a checkpoint could not tell their states apart; give one"
            )
    return callbacks


def state_name(callback: Callback) -> str:
    """The name of a callback's state in a checkpoint."""
    return type(callback).__name__
