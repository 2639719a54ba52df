"""The trainer: updates a model along a schedule, and goes on bit for bit where it was stopped."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asrkd import files, fingerprint, text
from asrkd.corpus.augment import Augment
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.distributed.parallel import Parallel
from asrkd.distributed.ranks import join
from asrkd.errors import AsrkdError, ConfigError, MismatchError
from asrkd.models import (
    Chunked,
    Peers,
    build_model,
    check_model,
    count_parameters,
    quantized_parameters,
    rounded_weights,
)
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.training import checkpoint
from asrkd.training.best import Best
from asrkd.training.check import check_numbers
from asrkd.training.config import TrainConfig
from asrkd.training.dev import dev_loss
from asrkd.training.inputs import inputs
from asrkd.training.layer_loss import with_layer
from asrkd.training.metrics import Metrics, Speed
from asrkd.training.mutual import MutualObjective, check_mutual
from asrkd.training.objective import Objective
from asrkd.training.optimizer import make_optimizer
from asrkd.training.prior import fixed_prior, mean_posterior
from asrkd.training.run_folder import check, has_config, prepare
from asrkd.training.schedule import check_schedule, learning_rate, phase_at, stream_schedule
from asrkd.training.sequence import SequenceObjective
from asrkd.training.sources import open_sources

Progress = Callable[[int, int, dict[str, float]], None]
# Further figures of the averaged model at an evaluation, by name, given its update.
Measure = Callable[[nn.Module, int], dict[str, float]]


class Trainer:
    """One training run.

    Everything random is seeded from the config: the batches by the loader, dropout by torch's generator, whose state
    is in every checkpoint. A run that is killed and started again ends with the weights of one that was not.
    """

    def __init__(self, config: TrainConfig) -> None:
        """Open the stores, build the model, and read the last checkpoint if there is one.

        Raises:
            ConfigError: a config value that cannot be used, or a run folder of another config.
            MismatchError: a store of another inventory or frame law than the model's.
            CorpusError: a transcript that the lexicon cannot spell.
        """
        check_numbers(config)
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
            check(self.run, config, inputs(config))
        self.front_end = FrontEnd.from_dict(config.front_end)
        self.lexicon = Lexicon.read(config.inventory.lexicon)
        self.inventory = Inventory.from_lexicon(
            self.lexicon, config.inventory.topology, states_per_phone=config.inventory.states_per_phone
        )
        self.total_steps = check_schedule(config.schedule, list(config.sources))
        sources = open_sources(config, self.inventory)
        augment = Augment.from_settings(self.front_end, **dataclasses.asdict(config.augment))
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
        check_mutual(config)
        students = [self._student() for _ in range(config.mutual.students)]
        self.model = (Peers(students) if len(students) > 1 else students[0]).to(self.device)
        check_model(self.model, self.front_end.feature_dim, len(self.inventory), config.model.subsampling_factor)
        if config.model.int8:
            quantized_parameters(self.model)
        self._init_prior: Tensor | None = None
        if config.init:
            self._initialise(config.init)
        self.chunked = Chunked(self.model) if any(phase.chunk_frames for phase in config.schedule) else None
        self.with_layer = with_layer(self.model, config, sources, self.front_end.feature_dim)
        # What has the weights that are trained: the model, and what helps it to learn.
        self.trained = self.with_layer or self.model
        self.parallel = Parallel(self.chunked or self.trained, config.scale, self.ranks, self.device)
        # A block of updates counts as so many.
        decay = config.optimizer.ema_decay ** max(config.scale.bmuf_block, 1)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.optimizer = make_optimizer(self.trained.parameters(), config.optimizer)
        self.objective = Objective(
            self.lexicon,
            self.inventory,
            kinds={name: source.kind for name, source in config.sources.items()},
            weights={name: source.weight for name, source in config.sources.items()},
            soft=config.soft_loss,
            hard=config.hard_loss,
        )
        self.frame_objective = MutualObjective(self.objective, config.mutual) if len(students) > 1 else self.objective
        self.prior = fixed_prior(config, self.inventory, self._init_prior if self._criteria() else None)
        self.sequence = self._sequence_objective()
        self.step = 0
        self.best = Best(self.run, config.keep_best, config.patience)
        self.stopped = False
        self.seconds = 0.0
        if (config.keep_best or config.patience) and not config.dev:
            raise ConfigError(
                f"keep_best is {config.keep_best} and patience {config.patience}, but the config names no dev store to tell the best by; "
                "set dev"
            )
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
        content = checkpoint.read(path)
        try:
            self.model.load_state_dict(content["model"])
            self._init_prior = content.get("log_prior")
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
        drawn = {
            name
            for phase in self.config.schedule
            if phase.criterion == "lf_mmi"
            for name in {**phase.mixture, **phase.until}
        }
        sources = [
            source
            for name, source in self.loader.sources.items()
            if name in drawn and self.config.sources[name].kind == "labeled"
        ]
        return SequenceObjective(
            self._criteria(), self.config.sequence, self.objective, sources, self.prior, self.device
        )

    @property
    def done(self) -> bool:
        """Whether the schedule has ended (or the dev loss has not fallen for too long) and `final.pt` is there."""
        return self._ended and (self.run / "final.pt").exists()

    @property
    def _ended(self) -> bool:
        return self.stopped or self.step >= self.total_steps

    def train(
        self, progress: Progress | None = None, stop_at: int | None = None, measure: Measure | None = None
    ) -> dict[str, float]:
        """Train to the end of the schedule (or to update `stop_at`); returns the last measured losses.

        Every process of a training calls this; the first writes the files, shows progress and calls `measure` after evaluations on the dev set
        (`asrkd.evaluation.dev_wer` for word error rates, which training knows nothing of).

        Raises:
            AsrkdError: a loss or gradient that is not finite (with the utterances of the batch), or a full disk.
        """
        if self.done:
            return {}
        metrics = Metrics(self.run, self.step, self.ranks)
        speed = Speed(self.ranks)
        began = time.monotonic() - self.seconds
        last: dict[str, float] = {}
        end = min(self.total_steps, stop_at or self.total_steps)
        steps = self.loader.steps(stream_schedule(self.config.schedule))
        try:
            while self.step < end and not self.stopped:
                batches = next(steps)
                for losses in self._update(batches):
                    metrics.add(losses)
                speed.add(batches)
                self.step += 1
                if self.step % self.config.log_steps == 0 or self.step == end:
                    last = metrics.flush(self.step, learning_rate=self.optimizer.param_groups[0]["lr"])
                    found = speed.measure() | self.parallel.traffic()
                    metrics.show(self.step, found)
                    last |= found
                if self.config.dev and (self.step % self.config.eval_steps == 0 or self.step == self.total_steps):
                    found = {"dev": self._evaluate()}
                    if measure and self.ranks.first:
                        with self._as_used(self.averaged):
                            found |= measure(self.averaged.eval(), self.step)
                    last |= metrics.write(self.step, found)
                self.seconds = time.monotonic() - began
                if self.step % self.config.checkpoint_steps == 0 or self.step == end or self.stopped:
                    self._checkpoint()
                if progress and self.ranks.first:
                    progress(self.step, self.total_steps, last)
        finally:
            metrics.close()
            self.loader.close()
            self._list_skipped()
        if self._ended:
            self._finish()
        return last

    def _evaluate(self) -> float:
        """The dev loss, measured by the first process; what it says about the best checkpoints and the end."""
        loss = self.ranks.broadcast(self.dev_loss() if self.ranks.first else None)
        if self.ranks.first:
            self.best.add(loss, self.step, self.averaged.module.state_dict())
        self.stopped = self.ranks.broadcast(self.best.enough)
        return float(loss)

    def _list_skipped(self) -> None:
        """Note the utterances without a loss, beside those of an earlier part of the run."""
        if self.sequence is None or not self.sequence.skipped:
            return
        path = self.run / ("skipped.tsv" if self.ranks.first else f"skipped-{self.ranks.rank}.tsv")
        lines = text.lines(text.read(path)) if path.exists() else []
        listed = {key: why for key, _, why in (line.partition("\t") for line in lines)}
        # A tab or a line end in an id would be one of the table's.
        listed |= {" ".join(text.words(key)): " ".join(text.words(why)) for key, why in self.sequence.skipped.items()}
        files.write(path, "".join(f"{key}\t{why}\n" for key, why in sorted(listed.items())))

    def _update(self, batches: Sequence[Batch]) -> list[dict[str, float]]:
        """One update on a global batch; the losses of its batches."""
        rate = learning_rate(self.step, self.total_steps, self.config.optimizer, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.parallel.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        factors = self.parallel.factors(batches)
        losses = []
        with self._as_used(self.model):
            for number, (batch, factor) in enumerate(zip(batches, factors, strict=True), 1):
                with self.parallel.accumulating(last=number == len(batches)):
                    losses.append(self._accumulate(batch.to(self.device), factor))
        scaler = self.parallel.scaler
        scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.optimizer.clip_norm)
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
                self.averaged.update_parameters(self.model)
        return losses

    def _as_used(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, the model's weights are those that the finished model computes with."""
        return rounded_weights(model) if self.config.model.int8 else nullcontext()

    def _accumulate(self, batch: Batch, factor: float) -> dict[str, float]:
        phase = phase_at(self.config.schedule, self.step)
        if self.chunked:
            self.chunked.chunk_frames = phase.chunk_frames
        logits, lengths = self.parallel.forward(batch.features, batch.feature_lengths)
        if self.sequence and phase.criterion != "frame" and self.objective.kinds[batch.source[0]] == "labeled":
            loss, losses = self.sequence(phase.criterion, logits, lengths, batch)
        else:
            loss, losses = self.frame_objective(logits, lengths, batch)
        if self.with_layer:
            alike = self.with_layer.loss(lengths, batch)
            loss = loss + self.config.layer_loss.weight * self.objective.weights[batch.source[0]] * alike
            losses |= {f"{batch.source[0]}_layer": float(alike.detach())} if batch.layer is not None else {}
        if not bool(torch.isfinite(loss)):
            raise AsrkdError(
                f"the loss of update {self.step + 1} is {loss.item()}, so the weights would be lost; the last checkpoint is "
                f"whole. Utterances: {', '.join(batch.ids[:8])}. Lower optimizer.learning_rate or look at these utterances"
            )
        self.parallel.scaler.scale(loss * factor).backward()
        return losses

    def dev_loss(self) -> float:
        """Labeled loss of the averaged model on the dev store (`asrkd.training.dev.dev_loss`)."""
        with self._as_used(self.averaged):
            return dev_loss(self.averaged, self.config, self.front_end, self.objective)

    def _checkpoint(self) -> None:
        """Write where the run stands: what all processes share, and what each alone knows."""
        own = {"torch_rng": torch.random.get_rng_state(), "parallel": self.parallel.state_dict()}
        if self.parallel.blocks:
            own |= {"model": self.trained.state_dict(), "optimizer": self.optimizer.state_dict()}
        ranks = self.ranks.gather(own)
        if not self.ranks.first:
            return
        checkpoint.save(
            self.run / "last.pt",
            {
                "step": self.step,
                "stopped": self.stopped,
                "seconds": self.seconds,
                "model": self.trained.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(),
                "best": self.best.state_dict(),
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
        self.trained.load_state_dict(own.get("model", state["model"]))
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(own.get("optimizer", state["optimizer"]))
        self.loader.load_state_dict(state["loader"])
        self.parallel.load_state_dict(own["parallel"])
        torch.random.set_rng_state(own["torch_rng"])
        self.step, self.stopped, self.seconds = state["step"], state["stopped"], state["seconds"]
        if self.ranks.first:
            self.best.load_state_dict(state["best"])

    def _finish(self) -> None:
        """Write the averaged model, with its priors, as the run's result."""
        if not self.ranks.first:
            return
        model: Any = self.averaged.module
        mean = self.best.mean()
        if mean is not None:
            model.load_state_dict(mean)
        students = model.students if isinstance(model, Peers) else [model]
        for number, student in reversed(list(enumerate(students, 1))):
            self._save_result(student, self.run / (f"peer-{number}.pt" if number > 1 else "final.pt"))

    def _save_result(self, model: nn.Module, path: Path) -> None:
        checkpoint.save(
            path,
            {
                "step": self.step,
                "model": model.state_dict(),
                "model_factory": self.config.model.factory,
                "model_args": dict(self.config.model.args),
                "front_end": self.front_end.to_dict(),
                "inventory": self.inventory.to_dict(),
                "subsampling_factor": self.config.model.subsampling_factor,
                "log_prior": self._mean_posterior(model) if self.prior is None else self.prior,
                "num_parameters": count_parameters(model),
                "train_seconds": self.seconds,
                "sent_share": self.parallel.traffic().get("sent_share"),
            },
        )

    def _mean_posterior(self, model: nn.Module) -> Tensor:
        """(V,) log of a model's mean posterior over the last phase's first source."""
        batches = self.loader.epoch(next(iter(self.config.schedule[-1].mixture)))
        with self._as_used(model):
            return mean_posterior(model, batches, len(self.inventory), self.device)
