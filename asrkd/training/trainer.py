"""The trainer: updates a model along a schedule, and goes on bit for bit where it was stopped."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from asrkd import config as configs
from asrkd.corpus.augment import Augment
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import AsrkdError, ConfigError, MismatchError
from asrkd.models import build_model, check_model, count_parameters
from asrkd.store.prior import log_prior
from asrkd.store.reader import Store
from asrkd.streaming.batch import Batch
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Filter, Source
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.vocabulary_map import VocabularyMap
from asrkd.training import checkpoint
from asrkd.training.config import KINDS, HardLossConfig, SourceConfig, TrainConfig
from asrkd.training.metrics import Metrics, write_whole
from asrkd.training.objective import Objective
from asrkd.training.schedule import check_schedule, learning_rate, phase_at, stream_schedule
from asrkd.training.sequence import SequenceObjective

Progress = Callable[[int, int, dict[str, float]], None]


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
        self.config = config
        self.run = Path(config.run)
        self.device = torch.device(config.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.front_end = FrontEnd.from_dict(config.front_end)
        self.lexicon = Lexicon.read(config.inventory.lexicon)
        self.inventory = Inventory.from_lexicon(
            self.lexicon, config.inventory.topology, states_per_phone=config.inventory.states_per_phone
        )
        self.total_steps = check_schedule(config.schedule, list(config.sources))
        sources = self._open_sources()
        self.loader = Loader(
            sources,
            front_end=self.front_end,
            subsampling_factor=config.model.subsampling_factor,
            augment=Augment.from_settings(self.front_end, **dataclasses.asdict(config.augment)),
            **dataclasses.asdict(config.batch),
            num_workers=config.loader.num_workers,
            prefetch=config.loader.prefetch,
            cache_mb=config.loader.cache_mb,
            unpack_on_device=config.loader.unpack_on_device,
            pin_memory=self.device.type == "cuda",
            seed=config.seed,
        )
        self.model = build_model(
            config.model.factory,
            config.model.args,
            input_dim=self.front_end.feature_dim,
            num_classes=len(self.inventory),
        ).to(self.device)
        check_model(self.model, self.front_end.feature_dim, len(self.inventory), config.model.subsampling_factor)
        self._init_prior: Tensor | None = None
        if config.init:
            self._initialise(config.init)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(config.optimizer.ema_decay))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
        )
        self.objective = Objective(
            self.lexicon,
            self.inventory,
            kinds={name: source.kind for name, source in config.sources.items()},
            weights={name: source.weight for name, source in config.sources.items()},
            soft=config.soft_loss,
            hard=config.hard_loss,
        )
        self.prior = self._fixed_prior()
        self.sequence = self._sequence_objective()
        self.step = 0
        self._prepare_run_folder()
        if (self.run / "last.pt").exists():
            self._resume(self.run / "last.pt")

    def _open_sources(self) -> dict[str, Source]:
        sources = {}
        settings = self.config.loader
        disk_cache = DiskCache(settings.disk_cache, settings.disk_cache_gb) if settings.disk_cache else None
        for name, given in self.config.sources.items():
            if given.kind not in KINDS:
                raise ConfigError(f"sources.{name}.kind is {given.kind!r}, but must be one of {', '.join(KINDS)}")
            identity = Store.open(given.store).identity
            mapped = None
            if given.kind == "soft":
                if not identity.codec:
                    raise MismatchError(
                        f"sources.{name} is {given.store!r}, a store of transcripts without soft targets, but its kind "
                        "is 'soft'; label it with a teacher first (asrkd label plan --teacher) or set the kind to 'labeled'"
                    )
                if given.vocabulary_map and identity.topology == self.inventory.topology:
                    mapped = VocabularyMap.read(
                        given.vocabulary_map, identity.units, self.inventory.units, lossy=given.lossy_map
                    )
                elif identity.inventory != self.inventory:
                    raise MismatchError(
                        f"sources.{name}: the store {given.store!r} has targets over {len(identity.units)} units of "
                        f"topology {identity.topology!r}, the student's inventory has {len(self.inventory)} units of "
                        f"topology {self.inventory.topology!r} or other names; their classes would be mixed up. Use the "
                        f"lexicon, topology and states_per_phone of the teacher, or, for one topology, set sources.{name}.vocabulary_map"
                    )
            rate = FrameRateMap(given.frame_rate_map) if given.frame_rate_map else None
            sources[name] = Source(
                name,
                given.store,
                filter=_filter(name, given),
                vocabulary_map=mapped,
                frame_rate_map=rate,
                snapshot=given.snapshot,
                audio=given.audio,
                disk_cache=disk_cache,
            )
        return sources

    def _initialise(self, path: str) -> None:
        content = checkpoint.read(path)
        try:
            self.model.load_state_dict(content["model"])
            self._init_prior = content.get("log_prior")
        except RuntimeError as error:
            text = " ".join(str(error).split())[:200]
            raise MismatchError(
                f"init: {path!r} holds weights of another model ({text}); use the same factory and args"
            ) from None

    def _fixed_prior(self) -> Tensor | None:
        """(V,) log-priors that are known before training: of the store `prior`, or those that sequence training started with."""
        if self.inventory.topology != "hmm":
            if self.config.prior:
                raise ConfigError(
                    f"prior is {self.config.prior!r}, but a 'ctc' model has no use for priors; leave it out"
                )
            return None
        if self.config.prior:
            identity = Store.open(self.config.prior).identity
            if identity.inventory != self.inventory:
                raise MismatchError(
                    f"prior: the store {self.config.prior!r} has targets over other units than the model; give one of the same inventory"
                )
            return torch.from_numpy(log_prior(self.config.prior))
        return self._init_prior if self._criteria() else None

    def _criteria(self) -> set[str]:
        """The sequence criteria of the schedule."""
        return {phase.criterion for phase in self.config.schedule} - {"frame"}

    def _sequence_objective(self) -> SequenceObjective | None:
        if not self._criteria():
            return None
        if self.inventory.topology == "hmm" and self.prior is None:
            raise ConfigError(
                "the schedule has a sequence criterion, which for 'hmm' needs the priors of the classes; start from a finished run "
                "(init: RUN/final.pt) or name a labeled store (prior: STORE)"
            )
        labeled = [source.store for source in self.config.sources.values() if source.kind == "labeled"]
        return SequenceObjective(
            self._criteria(), self.config.sequence, self.objective, labeled, self.prior, self.device
        )

    def _prepare_run_folder(self) -> None:
        """Write the resolved config, or refuse a folder that holds another run."""
        self.run.mkdir(parents=True, exist_ok=True)
        resolved = configs.to_yaml(self.config)
        path = self.run / "config.yaml"
        if path.exists() and path.read_text(encoding="utf-8") != resolved:
            changed = _first_difference(path.read_text(encoding="utf-8"), resolved)
            raise ConfigError(
                f"run folder {str(self.run)!r} holds a run of another config ({changed}); going on would mix the two. "
                "Choose another run folder or remove this one"
            )
        if not path.exists():
            write_whole(path, resolved)
            versions = {"python": sys.version.split()[0], "torch": torch.__version__, "command": sys.argv}
            write_whole(self.run / "versions.json", json.dumps(versions, indent=2) + "\n")

    @property
    def done(self) -> bool:
        """Whether the schedule has ended and `final.pt` is there."""
        return self.step >= self.total_steps and (self.run / "final.pt").exists()

    def train(self, progress: Progress | None = None, stop_at: int | None = None) -> dict[str, float]:
        """Train to the end of the schedule (or to update `stop_at`); returns the last measured losses.

        Raises:
            AsrkdError: a loss or gradient that is not finite (with the utterances of the batch), or a full disk.
        """
        if self.done:
            return {}
        metrics = Metrics(self.run, self.step)
        last: dict[str, float] = {}
        end = min(self.total_steps, stop_at or self.total_steps)
        steps = self.loader.steps(stream_schedule(self.config.schedule))
        try:
            while self.step < end:
                for losses in self._update(next(steps)):
                    metrics.add(losses)
                self.step += 1
                if self.step % self.config.log_steps == 0 or self.step == end:
                    last = metrics.flush(self.step, learning_rate=self.optimizer.param_groups[0]["lr"])
                if self.config.dev and (self.step % self.config.eval_steps == 0 or self.step == self.total_steps):
                    last |= metrics.write(self.step, {"dev": self.dev_loss()})
                if self.step % self.config.checkpoint_steps == 0 or self.step == end:
                    self._checkpoint()
                if progress:
                    progress(self.step, self.total_steps, last)
        finally:
            metrics.close()
            self.loader.close()
            self._list_skipped()
        if self.step >= self.total_steps:
            self._finish()
        return last

    def _list_skipped(self) -> None:
        """Note the utterances without a loss, beside those of an earlier part of the run."""
        if self.sequence is None or not self.sequence.skipped:
            return
        path = self.run / "skipped.tsv"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        listed = dict(line.split("\t", 1) for line in lines) | self.sequence.skipped
        write_whole(path, "".join(f"{key}\t{why}\n" for key, why in sorted(listed.items())))

    def _update(self, batches: Sequence[Batch]) -> list[dict[str, float]]:
        """One update on a global batch; the losses of its batches."""
        rate = learning_rate(self.step, self.total_steps, self.config.optimizer, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._accumulate(batch.to(self.device)) for batch in batches]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip_norm)
        if not bool(torch.isfinite(norm)):
            raise AsrkdError(
                f"the gradient of update {self.step + 1} is not finite; the last checkpoint is whole. Utterances: "
                f"{', '.join(batches[0].ids[:8])}. Lower optimizer.learning_rate or look at these utterances"
            )
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        return losses

    def _accumulate(self, batch: Batch) -> dict[str, float]:
        logits, lengths = self.model(batch.features, batch.feature_lengths)
        phase = phase_at(self.config.schedule, self.step)
        if self.sequence and phase.criterion != "frame" and self.objective.kinds[batch.source[0]] == "labeled":
            loss, losses = self.sequence(phase.criterion, logits, lengths, batch)
        else:
            loss, losses = self.objective(logits, lengths, batch)
        if not bool(torch.isfinite(loss)):
            raise AsrkdError(
                f"the loss of update {self.step + 1} is {loss.item()}, so the weights would be lost; the last checkpoint is "
                f"whole. Utterances: {', '.join(batch.ids[:8])}. Lower optimizer.learning_rate or look at these utterances"
            )
        (loss * batch.weight).backward()
        return losses

    @torch.no_grad()
    def dev_loss(self) -> float:
        """Labeled loss of the averaged model on the dev store, a frame or an utterance, without augmentation."""
        if self.config.dev is None:
            raise ConfigError("the config names no dev store")
        loader = Loader(
            {"dev": Source("dev", self.config.dev)},
            front_end=self.front_end,
            subsampling_factor=self.config.model.subsampling_factor,
            max_frames=self.config.batch.max_frames,
            max_utterances=self.config.batch.max_utterances,
            seed=0,
        )
        objective = dataclasses.replace(
            self.objective, kinds={"dev": "labeled"}, weights={"dev": 1.0}, hard=HardLossConfig()
        )
        state = torch.random.get_rng_state()
        self.averaged.eval()
        summed = count = 0.0
        for batch in loader.epoch("dev"):
            logits, lengths = self.averaged(batch.features.to(self.device), batch.feature_lengths.to(self.device))
            loss, _ = objective(logits, lengths, batch.to(self.device))
            summed += float(loss) * len(batch.ids)
            count += len(batch.ids)
        torch.random.set_rng_state(state)
        return summed / max(count, 1.0)

    def _checkpoint(self) -> None:
        checkpoint.save(
            self.run / "last.pt",
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(),
                "torch_rng": torch.random.get_rng_state(),
            },
        )

    def _resume(self, path: Path) -> None:
        state = checkpoint.read(path)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.loader.load_state_dict(state["loader"])
        torch.random.set_rng_state(state["torch_rng"])
        self.step = state["step"]

    def _finish(self) -> None:
        """Write the averaged model, with its priors, as the run's result."""
        model: Any = self.averaged.module
        checkpoint.save(
            self.run / "final.pt",
            {
                "step": self.step,
                "model": model.state_dict(),
                "model_factory": self.config.model.factory,
                "model_args": dict(self.config.model.args),
                "front_end": self.front_end.to_dict(),
                "inventory": dataclasses.asdict(self.inventory) | {"units": list(self.inventory.units)},
                "subsampling_factor": self.config.model.subsampling_factor,
                "log_prior": self._log_prior() if self.prior is None else self.prior,
                "num_parameters": count_parameters(model),
            },
        )

    @torch.no_grad()
    def _log_prior(self, batches: int = 40) -> Tensor:
        """(V,) log of the mean posterior over training data (Kaldi's `adjust-priors`), floored at 1e-5."""
        self.averaged.eval()
        total = torch.zeros(len(self.inventory), dtype=torch.float64)
        for number, batch in enumerate(self.loader.epoch(next(iter(self.config.schedule[-1].mixture)))):
            if number == batches:
                break
            logits, lengths = self.averaged(batch.features.to(self.device), batch.feature_lengths.to(self.device))
            mask = torch.arange(logits.shape[1], device=logits.device)[None] < lengths[:, None]
            total += logits.softmax(-1)[mask].double().sum(dim=0).cpu()
        return (total / total.sum()).clamp_min(1e-5).log().float()


def _filter(name: str, given: SourceConfig) -> Filter:
    for column, pair in given.bounds.items():
        if len(pair) != 2:
            raise ConfigError(
                f"sources.{name}.bounds.{column} is {list(pair)!r}, but must be a lowest and a highest value (null for none)"
            )
    bounds = {column: (low, high) for column, (low, high) in given.bounds.items()}
    return Filter(bounds, speakers=frozenset(given.speakers) or None)


def _first_difference(old: str, new: str) -> str:
    for before, after in zip(old.splitlines(), new.splitlines(), strict=False):
        if before != after:
            return f"{before.strip()!r} there, {after.strip()!r} here"
    return "other length"
