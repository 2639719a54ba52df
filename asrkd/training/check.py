"""Numbers of a training's config that nothing else would refuse before they do harm."""

from __future__ import annotations

from operator import attrgetter

from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig

_FROM_ONE = ("log_steps", "eval_steps", "checkpoint_steps", "loader.prefetch")
_FROM_ZERO = (
    *("threads", "keep_best", "patience", "dev_decoding.every", "loader.num_workers", "loader.cache_mb"),
    *("optimizer.weight_decay", "optimizer.warmup_steps", "optimizer.final_scale", "layer_loss.weight"),
)
_ABOVE_ZERO = ("optimizer.learning_rate", "optimizer.clip_norm", "dev_decoding.acoustic_scale", "dev_decoding.beam")
_BELOW_ONE = ("optimizer.ema_decay",)


def check_numbers(config: TrainConfig) -> None:
    """Check the numbers that are not checked by what they are given to.

    Raises:
        ConfigError: a number outside its range, or none (NaN).
    """
    for keys, inside, wanted in (
        (_FROM_ONE, lambda value: value >= 1, "at least 1"),
        (_FROM_ZERO, lambda value: value >= 0, "at least 0"),
        (_ABOVE_ZERO, lambda value: value > 0, "above 0"),
        (_BELOW_ONE, lambda value: 0 <= value < 1, "at least 0 and below 1"),
    ):
        for key in keys:
            value = attrgetter(key)(config)
            if not inside(value):
                raise ConfigError(f"{key} is {value}, but must be {wanted}")
