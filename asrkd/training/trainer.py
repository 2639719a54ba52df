"""The trainer: a loop of updates along a schedule with callbacks around it, which resumes bit for bit where it was stopped."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asrkd import files, fingerprint
from asrkd.acoustic import TrainedModel
from asrkd.corpus.augment import Augment
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict, longest_seconds
from asrkd.distributed.parallel import Parallel
from asrkd.distributed.precision import why_slow
from asrkd.distributed.ranks import join
from asrkd.errors import AsrkdError
from asrkd.models import rounded_weights
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.targets.streams import HIDDEN
from asrkd.training.average import MovingAverage
from asrkd.training.callback import Callback
from asrkd.training.callback_list import all_callbacks
from asrkd.training.config import TrainConfig
from asrkd.training.dev import dev_loss, dev_source
from asrkd.training.initial import initialise, make_students
from asrkd.training.inputs import inputs
from asrkd.training.layer_loss import layer_terms
from asrkd.training.mutual import MutualObjective
from asrkd.training.optimizer import make_optimizer, pretrained_parameters
from asrkd.training.prior import fixed_prior
from asrkd.training.run_folder import check_resumable, has_config, prepare
from asrkd.training.schedule import learning_rate, stream_schedule, update_phase
from asrkd.training.sources import open_sources
from asrkd.training.spelling import check_transcripts, units_of
from asrkd.training.state import load_state, save_state
from asrkd.training.student import Learner, Objective
from asrkd.training.terms import Objectives, criteria

_log = logging.getLogger(__name__)
TrainingProgress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """One training run.

    Everything random is seeded from the config: the batches by the loader, dropout by torch's generator, whose state
    is in every checkpoint. A run that is killed and started again ends with the weights of one that was not.

    Attributes:
        learner: what is trained.
        averaged: the moving average of the students' weights, which becomes the result.
        objectives: what each batch is trained with.
        step: updates so far, of `total_steps`.
        end: updates after which this call of `train` returns.
        max_seconds: the longest utterance that the model takes.
        stopped: whether a callback has ended the training before the end of the schedule.
        figures: what was measured last, by name.
        warnings: what the user should know of the result.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        callbacks: Sequence[Callback] = (),
        objectives: Sequence[tuple[float, Objective]] = (),
    ) -> None:
        """Open the stores, build the model, and read the last checkpoint if there is one.

        Args:
            callbacks: of your own. They come after those that measure, and before those that write the log and the result.
            objectives: of your own, with weights, added to those of the config on every batch. Modules are trained, too.

        Raises:
            ConfigError: a config value that cannot be used, or a run folder of another config.
            MismatchError: a store of another inventory or frame law than the model's.
            CorpusError: a transcript that the lexicon cannot spell.
        """
        self.config = config
        self.run = Path(config.run)
        self.ranks, device = join(config.device)
        self.device = torch.device(device)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        if self.ranks.first:
            files.check_folder(self.run)
        if self.ranks.first and has_config(self.run):  # first, for what follows from a changed input is said worse
            check_resumable(self.run, config, inputs(config))
        self.front_end: AnyFrontEnd = front_end_from_dict(config.front_end)
        self.lexicon, self.inventory = units_of(config.inventory)
        students = make_students(config, self.front_end, self.inventory, self.device)
        self.model = students[0]
        self.max_seconds = longest_seconds(self.front_end, getattr(self.model, "max_features", None))
        self.total_steps = sum(phase.steps for phase in config.schedule)
        sources = open_sources(
            config.sources,
            self.inventory,
            config.loader,
            streams=[HIDDEN] if config.layer_loss.layer else [],
            max_seconds=self.max_seconds,
        )
        augment = Augment.from_settings(
            self.front_end,
            config.consistency.masked(config.augment),
            two_views=config.consistency.scale > 0,
        )
        self.loader = Loader(
            sources,
            front_end=self.front_end,
            subsampling_factor=config.model.subsampling_factor,
            augment=augment,
            **dataclasses.asdict(config.batch),
            num_workers=config.loader.num_workers,
            prefetch=config.loader.prefetch,
            cache_mb=config.loader.cache_mb,
            unpack_on_device=config.loader.unpack_on_device,
            features_on_device=config.loader.features_on_device,
            pin_memory=self.device.type == "cuda",
            seed=config.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )
        init_prior = initialise(self.model, config.init) if config.init else None
        soft_stores = [sources[name].store for name, source in config.sources.items() if source.kind == "soft"]
        helpers = [*layer_terms(self.model, config.layer_loss, soft_stores, self.front_end.feature_dim), *objectives]
        if len(students) > 1:
            helpers.append((config.mutual.weight, MutualObjective(config.mutual.temperature)))
        self.learner = Learner(
            students,
            [objective for _, objective in helpers],
            chunks=any(phase.chunk_frames for phase in config.schedule),
            precision=config.scale.precision,
        ).to(self.device)
        if self.ranks.first and (warning := why_slow(config.scale.precision, self.device)):
            _log.warning(warning)
        self.parallel = Parallel(self.learner, config.scale, self.ranks, self.device)
        # A block of updates counts as that many updates.
        decay = config.optimizer.ema_decay ** max(config.scale.bmuf_block, 1)
        self.averaged = AveragedModel(self.learner.students, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._average = MovingAverage(self.averaged, self.learner.students, decay)
        self.optimizer = make_optimizer(self.learner, config.optimizer)
        self._thawed_later = pretrained_parameters(self.learner) if config.optimizer.freeze_steps else []
        self.prior = fixed_prior(config, self.inventory, init_prior if criteria(config.schedule) else None)
        self.objectives = Objectives(
            config, self.lexicon, self.inventory, self.loader.sources, self.prior, self.device, helpers
        )
        if self.ranks.first and not (self.run / "last.pt").exists():
            check_transcripts(config, self.lexicon, self.inventory, sources)
        self.step, self.end, self.stopped, self.seconds = 0, self.total_steps, False, 0.0
        self.audio_seconds = 0.0  # that this process has trained on since it began
        self.figures: dict[str, float] = {}
        self.warnings: list[str] = self._left_out(sources)
        self.callbacks = all_callbacks(self, callbacks)
        if self.ranks.first:
            stores = {name: source.store for name, source in sources.items()}
            prepare(self.run, config, inputs(config, stores, augment))
        # Dropout of its own on every process, from the seed alone.
        if not self.ranks.first:
            torch.manual_seed(int(fingerprint.of_json([config.seed, self.ranks.rank])[:15], 16))
        last = self.run / "last.pt"
        if self.ranks.broadcast(last.exists()):
            load_state(self, last)

    @property
    def done(self) -> bool:
        """Whether the schedule has ended (or the dev loss has not fallen for too long) and `final.pt` is there."""
        return self._ended and (self.run / "final.pt").exists()

    @property
    def _ended(self) -> bool:
        return self.stopped or self.step >= self.total_steps

    def train(self, progress: TrainingProgress | None = None, stop_at: int | None = None) -> dict[str, float]:
        """Train to the end of the schedule (or to update `stop_at`); returns the last measured figures.

        Every process of a training calls this; the first writes the files and shows progress.

        Raises:
            AsrkdError: a loss or gradient that is not finite (with the utterances of the batch), or a full disk.
        """
        if self.done:
            self.warnings = list(TrainedModel.read(self.run).facts.get("warnings", []))
            return {}
        began = time.monotonic() - self.seconds
        self.end = min(self.total_steps, stop_at or self.total_steps)
        steps = self.loader.steps(stream_schedule(self.config.schedule))
        try:
            for callback in self.callbacks:
                callback.begin(self)
            while self.step < self.end and not self.stopped:
                batches = next(steps)
                losses = self._update(batches)
                self.step += 1
                self.audio_seconds += sum(batch.seconds for batch in batches)
                for callback in self.callbacks:
                    callback.update(self, batches, losses)
                if self.step % self.config.eval_steps == 0 or self.step == self.total_steps:
                    figures: dict[str, float] = {}
                    for callback in self.callbacks:
                        callback.evaluate(self, figures)
                    self.stopped = self.ranks.broadcast(self.stopped)
                self.seconds = time.monotonic() - began
                if self.step % self.config.checkpoint_steps == 0 or self.step == self.end or self.stopped:
                    save_state(self)
                if progress and self.ranks.first:
                    progress(self.step, self.total_steps, self.figures)
        finally:
            self.loader.close()
            for callback in self.callbacks:
                callback.end(self)
        if self._ended:
            for callback in self.callbacks:
                callback.finish(self)
        return self.figures

    def _update(self, batches: Sequence[Batch]) -> list[dict[str, float]]:
        """One update on a global batch; the losses of its batches."""
        rate = learning_rate(self.step, self.total_steps, self.config.optimizer, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        is_frozen = self.step < self.config.optimizer.freeze_steps
        for parameter in self._thawed_later:
            # Processes that exchange gradients wait for all of them.
            parameter.requires_grad_(not is_frozen or self.ranks.world_size > 1)
        self.parallel.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        factors = self.parallel.factors(batches)
        losses = []
        with self.as_used(self.learner.students):
            for number, (batch, factor) in enumerate(zip(batches, factors, strict=True), 1):
                with self.parallel.accumulating(last=number == len(batches)):
                    losses.append(self._accumulate(batch.to(self.device), factor))
        for parameter in self._thawed_later if is_frozen else ():
            parameter.grad = None
        scaler = self.parallel.scaler
        scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.config.optimizer.clip_norm)
        # With scaling a gradient that overflows is skipped, and the scale lowered.
        if not scaler.is_enabled() and not bool(torch.isfinite(norm)):
            raise AsrkdError(
                f"the gradient of update {self.step + 1} is not finite; the last checkpoint is whole. Utterances: "
                f"{', '.join(batches[0].ids[:8])}. Lower optimizer.learning_rate or look at these utterances"
            )
        scaler.step(self.optimizer)
        scaler.update()
        if self.parallel.end_update(self.step + 1, final=self.step + 1 == self.total_steps):
            with self.parallel.evaluated():
                self._average.update()
        return losses

    def as_used(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, the model's weights are those that the finished model computes with."""
        return rounded_weights(model) if self.config.model.int8 else nullcontext()

    def _accumulate(self, batch: Batch, factor: float) -> dict[str, float]:
        phase = update_phase(self.config.schedule, self.step)
        loss, figures = self.parallel.module(batch, self.objectives.of(phase.criterion, batch), phase.chunk_frames)
        if not bool(torch.isfinite(loss)):
            raise AsrkdError(
                f"the loss of update {self.step + 1} is {loss.item()}, so the weights would be lost; the last checkpoint is "
                f"whole. Utterances: {', '.join(batch.ids[:8])}. Lower optimizer.learning_rate or look at these utterances"
            )
        self.parallel.scaler.scale(loss * factor).backward()
        return figures

    def dev_loss(self) -> float:
        """Labeled loss of the averaged model on the dev store (`asrkd.training.dev.dev_loss`)."""
        model = self.averaged_students[0]
        with self.as_used(model):
            return dev_loss(model, self.config, self.front_end, self.objectives.frame, self.max_seconds)

    def _left_out(self, sources: Mapping[str, Source]) -> list[str]:
        """Which sources, and whether dev, have utterances that are longer than what the model takes; said at once, and with the result."""
        counted = {f"sources.{name}": source for name, source in sources.items()}
        if self.config.dev and math.isfinite(self.max_seconds):
            counted["dev"] = dev_source(self.config, self.max_seconds)
        found = [
            f"{name}: {source.num_too_long} of {source.num_too_long + len(source)} utterances are longer than {self.max_seconds:g} s, which is the most that "
            "the model takes, and are left out; split them (asrkd segment --max-seconds)"
            for name, source in counted.items()
            if source.num_too_long
        ]
        for warning in found if self.ranks.first else ():
            _log.warning(warning)
        return found

    @property
    def averaged_students(self) -> list[nn.Module]:
        """The students with averaged weights; the first is the result."""
        return list(self.averaged.module.children())
