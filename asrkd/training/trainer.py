"""The trainer: a loop of updates along a schedule with callbacks around it, which resumes bit for bit where it was stopped."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asrkd import checkpoint, files, fingerprint
from asrkd.acoustic import TrainedModel
from asrkd.corpus.augment import Augment
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.distributed.parallel import Parallel
from asrkd.distributed.ranks import join
from asrkd.errors import AsrkdError, ConfigError, MismatchError
from asrkd.models import build_model, check_model, quantized_parameters, rounded_weights
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.training.best import BestCheckpoints, EarlyStopping
from asrkd.training.callback import Callback
from asrkd.training.config import TrainConfig
from asrkd.training.consistency import ConsistencyObjective
from asrkd.training.dev import DevLoss, dev_loss
from asrkd.training.dev_wer import DevWer
from asrkd.training.fit import Fit
from asrkd.training.inputs import inputs
from asrkd.training.layer_loss import layer_terms
from asrkd.training.metrics import Log, RisingDev
from asrkd.training.mutual import MutualObjective
from asrkd.training.objective import FrameObjective
from asrkd.training.optimizer import make_optimizer
from asrkd.training.prior import fixed_prior
from asrkd.training.result import Result
from asrkd.training.run_folder import check_resumable, has_config, prepare
from asrkd.training.schedule import learning_rate, stream_schedule, update_phase
from asrkd.training.sequence import SequenceObjective, SkippedUtterances
from asrkd.training.sources import KINDS, open_sources
from asrkd.training.student import Learner, Objective, WeightedSum
from asrkd.training.too_fast import TooFast

TrainingProgress = Callable[[int, int, dict[str, float]], None]


class Trainer:
    """One training run.

    Everything random is seeded from the config: the batches by the loader, dropout by torch's generator, whose state
    is in every checkpoint. A run that is killed and started again ends with the weights of one that was not.

    Attributes:
        learner: what is trained.
        averaged: the moving average of the students' weights, which becomes the result.
        step: updates so far, of `total_steps`.
        end: updates after which this call of `train` returns.
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
        self.front_end = FrontEnd.from_dict(config.front_end)
        self.lexicon = read_tokenizer(config.inventory.lexicon)
        self.inventory = Inventory.from_lexicon(
            self.lexicon, config.inventory.topology, states_per_phone=config.inventory.states_per_phone
        )
        self.total_steps = sum(phase.steps for phase in config.schedule)
        sources = open_sources(config.sources, self.inventory, config.loader, layer=bool(config.layer_loss.layer))
        augment = Augment.from_settings(
            self.front_end,
            **dataclasses.asdict(config.consistency.masked(config.augment)),
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
            pin_memory=self.device.type == "cuda",
            seed=config.seed,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )
        students = [self._student() for _ in range(config.mutual.students)]
        self.model = students[0].to(self.device)
        check_model(self.model, self.front_end.feature_dim, len(self.inventory), config.model.subsampling_factor)
        if config.model.int8:
            quantized_parameters(self.model)
        self._init_prior: Tensor | None = None
        if config.init:
            self._initialise(config.init)
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
        self.parallel = Parallel(self.learner, config.scale, self.ranks, self.device)
        # A block of updates counts as so many.
        decay = config.optimizer.ema_decay ** max(config.scale.bmuf_block, 1)
        self.averaged = AveragedModel(self.learner.students, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.optimizer = make_optimizer(self.learner.parameters(), config.optimizer)
        self.objective = FrameObjective(
            self.lexicon,
            self.inventory,
            kinds={name: source.kind for name, source in config.sources.items()},
            soft=config.soft_loss,
            hard=config.hard_loss,
        )
        self.prior = fixed_prior(config, self.inventory, self._init_prior if self._criteria() else None)
        self.sequence = self._sequence_objective()
        weights = {name: source.weight for name, source in config.sources.items()}
        self._objectives = {
            (criterion, kind): WeightedSum([*self._terms(criterion, kind), *helpers], weights)
            for criterion in {"frame", *self._criteria()}
            for kind in KINDS
        }
        self.step, self.end, self.stopped, self.seconds = 0, self.total_steps, False, 0.0
        self.figures: dict[str, float] = {}
        self.warnings: list[str] = []
        self.callbacks = self._callbacks(callbacks)
        if self.ranks.first:
            stores = {name: source.store for name, source in sources.items()}
            prepare(self.run, config, inputs(config, stores, augment))
        # Dropout of its own on every process, from the seed alone.
        if not self.ranks.first:
            torch.manual_seed(int(fingerprint.of_json([config.seed, self.ranks.rank])[:15], 16))
        last = self.run / "last.pt"
        if self.ranks.broadcast(last.exists()):
            self._resume(last)

    def _student(self) -> nn.Module:
        """A model of the config, with random weights."""
        return build_model(
            self.config.model.factory,
            self.config.model.args,
            input_dim=self.front_end.feature_dim,
            num_classes=len(self.inventory),
        )

    def _initialise(self, path: str) -> None:
        initial = TrainedModel.read(path)
        try:
            self.model.load_state_dict(initial.weights)
            self._init_prior = initial.log_prior
        except RuntimeError as error:
            why = " ".join(str(error).split())
            raise MismatchError(
                f"init: {path!r} holds weights of another model ({why}); use the same factory and args"
            ) from None

    def _criteria(self) -> set[str]:
        """The sequence criteria of the schedule."""
        return {phase.criterion for phase in self.config.schedule} - {"frame"}

    def _sequence_objective(self) -> SequenceObjective | None:
        if not self._criteria():
            return None
        if self.inventory.topology.needs_prior and self.prior is None:
            raise ConfigError(
                f"the schedule has a sequence criterion, which for {self.inventory.topology_name!r} needs the priors of the classes; start from a finished run "
                "(init: RUN/final.pt) or name a labeled store (prior: STORE)"
            )
        phases = [phase for phase in self.config.schedule if phase.criterion == "lf_mmi"]
        drawn = {name for phase in phases for name in {**phase.mixture, **phase.until}}
        sources = [
            self.loader.sources[name]
            for name, kind in self.objective.kinds.items()
            if kind == "labeled" and name in drawn
        ]
        return SequenceObjective(
            self._criteria(), self.config.sequence, self.lexicon, self.inventory, sources, self.prior, self.device
        )

    @property
    def done(self) -> bool:
        """Whether the schedule has ended (or the dev loss has not fallen for too long) and `final.pt` is there."""
        return self._ended and (self.run / "final.pt").exists()

    @property
    def _ended(self) -> bool:
        return self.stopped or self.step >= self.total_steps

    def _terms(self, criterion: str, kind: str) -> list[tuple[float, Objective]]:
        """The weighted objectives of a batch of a source of this kind, without those that only help."""
        if criterion == "frame" or kind != "labeled" or self.sequence is None:
            consistency = self.config.consistency
            return [(1.0, ConsistencyObjective(self.objective, consistency) if consistency.scale else self.objective)]
        share = self.config.sequence.smoothing
        terms: list[tuple[float, Objective]] = [(1 - share, functools.partial(self.sequence, criterion))]
        if share:
            smooth_with = "soft" if self.config.sequence.smooth_with == "soft" else "labeled"
            kinds = dict.fromkeys(self.objective.kinds, smooth_with)
            terms.append((share, dataclasses.replace(self.objective, kinds=kinds)))
        return terms

    def objective_of(self, criterion: str, batch: Batch) -> WeightedSum:
        """What a batch is trained with in a phase with this criterion."""
        return self._objectives[criterion, self.objective.kinds[batch.source[0]]]

    def _callbacks(self, further: Sequence[Callback]) -> list[Callback]:
        """All callbacks in their order; those that measure come before those that look at their figures."""
        config, dev = self.config, self.config.dev is not None
        callbacks = [
            *([DevLoss()] if dev else []),
            *([DevWer(self)] if dev and config.dev_decoding.every else []),
            *([EarlyStopping(config.patience)] if config.patience else []),
            *([BestCheckpoints(self.run, config.keep_best)] if config.keep_best and self.ranks.first else []),
            *further,
            Log(),
            *([SkippedUtterances(self.sequence)] if self.sequence else []),
            *([RisingDev()] if dev else []),
            *([TooFast()] if self.inventory.topology.has_blank else []),
            Fit(),
            Result(),
        ]
        for name, count in Counter(map(_name, callbacks)).items():
            if count > 1:
                raise ConfigError(
                    f"callbacks: {name} is there {count} times, so a checkpoint could not tell their states apart; give one"
                )
        return callbacks

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
                for callback in self.callbacks:
                    callback.update(self, batches, losses)
                if self.step % self.config.eval_steps == 0 or self.step == self.total_steps:
                    figures: dict[str, float] = {}
                    for callback in self.callbacks:
                        callback.evaluate(self, figures)
                    self.stopped = self.ranks.broadcast(self.stopped)
                self.seconds = time.monotonic() - began
                if self.step % self.config.checkpoint_steps == 0 or self.step == self.end or self.stopped:
                    self._checkpoint()
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
            group["lr"] = rate
        self.parallel.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        factors = self.parallel.factors(batches)
        losses = []
        with self.as_used(self.learner.students):
            for number, (batch, factor) in enumerate(zip(batches, factors, strict=True), 1):
                with self.parallel.accumulating(last=number == len(batches)):
                    losses.append(self._accumulate(batch.to(self.device), factor))
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
                self.averaged.update_parameters(self.learner.students)
        return losses

    def as_used(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, the model's weights are those that the finished model computes with."""
        return rounded_weights(model) if self.config.model.int8 else nullcontext()

    def _accumulate(self, batch: Batch, factor: float) -> dict[str, float]:
        phase = update_phase(self.config.schedule, self.step)
        loss, figures = self.parallel.module(batch, self.objective_of(phase.criterion, batch), phase.chunk_frames)
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
            return dev_loss(model, self.config, self.front_end, self.objective)

    @property
    def averaged_students(self) -> list[nn.Module]:
        """The students with averaged weights; the first is the result."""
        return list(self.averaged.module.children())

    def _checkpoint(self) -> None:
        """Write where the run stands: what all processes share, and what each alone knows."""
        own = {"torch_rng": torch.random.get_rng_state(), "parallel": self.parallel.state_dict()}
        if self.parallel.blocks:
            own |= {"model": self.learner.state_dict(), "optimizer": self.optimizer.state_dict()}
        ranks = self.ranks.gather(own)
        if not self.ranks.first:
            return
        checkpoint.save(
            self.run / "last.pt",
            {
                "step": self.step,
                "stopped": self.stopped,
                "seconds": self.seconds,
                "model": self.learner.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(),
                "callbacks": {_name(callback): callback.state_dict() for callback in self.callbacks},
                "ranks": ranks,
            },
        )

    def _resume(self, path: Path) -> None:
        state = checkpoint.read(path)
        if len(state["ranks"]) != self.ranks.world_size:
            raise MismatchError(
                f"{str(path)!r} was written by a training of {len(state['ranks'])} processes, this one has {self.ranks.world_size}; each has "
                "random numbers (and with blocks or compression a model or residual) of its own, so start as many as before"
            )
        own = state["ranks"][self.ranks.rank]
        try:
            self.learner.load_state_dict(own.get("model", state["model"]))
        except RuntimeError as error:
            raise MismatchError(
                f"{str(path)!r} has weights of other students or objectives ({' '.join(str(error).split())}); resume with the objectives, and the version "
                "of asrkd, that began the run"
            ) from None
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(own.get("optimizer", state["optimizer"]))
        self.loader.load_state_dict(state["loader"])
        self.parallel.load_state_dict(own["parallel"])
        torch.random.set_rng_state(own["torch_rng"])
        self.step, self.stopped, self.seconds = state["step"], state["stopped"], state["seconds"]
        for callback in self.callbacks:
            callback.load_state_dict(state["callbacks"].get(_name(callback), {}))


def _name(callback: Callback) -> str:
    return type(callback).__name__
