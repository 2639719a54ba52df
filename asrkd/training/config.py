"""The config of one training run: what `asrkd train CONFIG key=value ...` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.config import BY_CONTENT, MAY_CHANGE, check, setting
from asrkd.corpus.augment import AugmentConfig
from asrkd.corpus.inventory import InventoryConfig
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.distributed.config import ScaleConfig
from asrkd.errors import ConfigError
from asrkd.models.build import ModelConfig
from asrkd.streaming.loader import LoaderConfig
from asrkd.streaming.plan import BatchConfig
from asrkd.training.consistency import ConsistencyConfig
from asrkd.training.dev_wer import DevDecodingConfig
from asrkd.training.layer_loss import LayerLossConfig
from asrkd.training.mutual import MutualConfig
from asrkd.training.objective import HardLossConfig, SoftLossConfig
from asrkd.training.optimizer import OptimizerConfig
from asrkd.training.schedule import PhaseConfig
from asrkd.training.sequence import SequenceConfig
from asrkd.training.sources import SourceConfig


def _device(name: str) -> None:
    try:
        torch.device(name)
    except RuntimeError:
        raise ConfigError(f"must be a device of torch such as cpu, cuda or cuda:1, not {name!r}") from None


@dataclass(kw_only=True)
class TrainConfig:
    """One training run, which follows from this and from the stores that it names."""

    run: str = setting(resume=MAY_CHANGE)
    """Folder of the run: config, checkpoints, metrics and result."""
    seed: int = setting(1, at_least=0)
    """Seed of everything random."""
    device: str = setting("cpu", form=_device, resume=MAY_CHANGE)
    """`cpu`, `cuda` or `cuda:N`; with several processes `cuda` gives each its own GPU."""
    threads: int = setting(0, at_least=0, resume=MAY_CHANGE)
    """CPU threads of torch; 0 leaves the number to torch."""
    model: ModelConfig = setting(ModelConfig)
    """The model."""
    front_end: dict[str, Any] = setting(dict, form=front_end_from_dict)
    """Keys of the front end that differ from its defaults (`asrkd.corpus.front_end`); with `kind: waveform` samples for a pretrained encoder (`asrkd.corpus.waveform`)."""
    inventory: InventoryConfig
    """The output units."""
    sources: dict[str, SourceConfig] = setting(dict)
    """The stores to train from, by name."""
    schedule: list[PhaseConfig] = setting(list)
    """The phases, one after another."""
    soft_loss: SoftLossConfig = setting(SoftLossConfig)
    """The loss on stored targets."""
    hard_loss: HardLossConfig = setting(HardLossConfig)
    """The loss on hard labels."""
    layer_loss: LayerLossConfig = setting(LayerLossConfig)
    """The loss on a layer of the teacher."""
    mutual: MutualConfig = setting(MutualConfig)
    """Mutual learning."""
    consistency: ConsistencyConfig = setting(ConsistencyConfig)
    """Consistency regularization."""
    sequence: SequenceConfig = setting(SequenceConfig)
    """Sequence training."""
    optimizer: OptimizerConfig = setting(OptimizerConfig)
    """The optimizer."""
    scale: ScaleConfig = setting(ScaleConfig)
    """Processes and precision."""
    augment: AugmentConfig = setting(AugmentConfig)
    """Augmentation."""
    batch: BatchConfig = setting(BatchConfig)
    """Batches."""
    loader: LoaderConfig = setting(LoaderConfig, resume=MAY_CHANGE)
    """Reading."""
    dev: str | None = setting(None, resume=BY_CONTENT)
    """Labeled store for the dev loss; null evaluates nothing."""
    dev_decoding: DevDecodingConfig = setting(DevDecodingConfig, resume=MAY_CHANGE)
    """Word error rate on the dev store."""
    init: str | None = setting(None, resume=BY_CONTENT)
    """Checkpoint whose weights to start from, e.g. `RUN/final.pt`; null starts from random weights."""
    prior: str = setting("", resume=BY_CONTENT)
    """Store whose mean posterior is the prior of an `hmm` model; without it, the mean posterior of the finished model, or with sequence criteria the prior of `init`."""
    log_steps: int = setting(20, at_least=1, resume=MAY_CHANGE)
    """Updates between two lines of metrics."""
    eval_steps: int = setting(200, at_least=1)
    """Updates between two evaluations on the dev store."""
    checkpoint_steps: int = setting(200, at_least=1, resume=MAY_CHANGE)
    """Updates between two checkpoints."""
    keep_best: int = setting(0, at_least=0)
    """Keep the N checkpoints with the lowest dev loss and average them into the result; 0 takes the last."""
    patience: int = setting(0, at_least=0)
    """Stop after N consecutive evaluations without improvement; 0 disables early stopping."""

    def __post_init__(self) -> None:
        check(self)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.schedule:
            yield "schedule", f"must have at least one phase with steps and a mixture, not {self.schedule!r}"
        for number, phase in enumerate(self.schedule):
            for key, shares in (("mixture", phase.mixture), ("until", phase.until)):
                yield from _unknown(shares, self.sources, f"schedule[{number}].{key}")
        students = self.mutual.students
        if students > 1 and self.init:
            yield (
                "mutual.students",
                f"is {students}, but init {self.init!r} would start all of them alike, and they would have nothing to tell each other; leave one of "
                "the two out",
            )
        if students > 1 and any(phase.criterion != "frame" for phase in self.schedule):
            yield (
                "mutual.students",
                f"is {students}, but the schedule has a sequence criterion, which trains one student; train it on from the finished run (init)",
            )
        if self.layer_loss.layer and (students > 1 or any(phase.chunk_frames for phase in self.schedule)):
            yield (
                "layer_loss.layer",
                f"is {self.layer_loss.layer!r}, but mutual.students or chunk_frames is set, too; the layer of one model over whole utterances is "
                "compared, so leave one of them out",
            )
        if (scale := self.consistency.scale) and not (self.augment.time_masks or self.augment.frequency_masks):
            yield (
                "consistency.scale",
                f"is {scale:g}, but augment.time_masks and augment.frequency_masks are 0, so the two views would be the same; set augment.time_masks",
            )
        if scale and any(phase.criterion != "frame" for phase in self.schedule):
            yield (
                "consistency.scale",
                f"is {scale:g}, but the schedule has a sequence criterion, which sees one view; train it on from the finished run (init)",
            )
        if (steps := self.optimizer.freeze_steps) and self.scale.gtc_threshold:
            yield (
                "optimizer.freeze_steps",
                f"is {steps}, but scale.gtc_threshold is set, too, which would keep the gradients of the frozen encoder and send them later; leave one of "
                "them out",
            )
        for key in ("keep_best", "patience"):
            if getattr(self, key) and not self.dev:
                yield key, f"is {getattr(self, key)}, but the config names no dev store to tell the best by; set dev"


def _unknown(shares: Mapping[str, int], sources: Mapping[str, SourceConfig], key: str) -> Iterator[tuple[str, str]]:
    for name in shares:
        if name not in sources:
            yield f"{key}.{name}", f"there is no such source; choose from {', '.join(sources) or 'none'}"
