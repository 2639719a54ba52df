"""What each batch of a training is trained with: by the criterion of the phase and the kind of the batch's source."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.errors import ConfigError
from asrkd.streaming.batch import Batch
from asrkd.streaming.source import Source
from asrkd.training.consistency import ConsistencyObjective
from asrkd.training.objective import FrameObjective
from asrkd.training.schedule import PhaseConfig
from asrkd.training.sequence import SequenceObjective
from asrkd.training.sources import KINDS
from asrkd.training.student import Objective, WeightedSum

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig


def criteria(schedule: Sequence[PhaseConfig]) -> set[str]:
    """The sequence criteria of a schedule."""
    return {phase.criterion for phase in schedule} - {"frame"}


class Objectives:
    """
    Attributes:
        frame: the loss of every frame.
        sequence: the sequence criteria; None if the schedule has none.

    Args:
        sources: of the loader, by name.
        log_prior: (V,) for `hmm` with sequence criteria.
        helpers: weighted objectives on every batch.

    Raises:
        ConfigError: settings that do not go with the topology, or a sequence criterion that lacks priors.
    """

    def __init__(
        self,
        config: TrainConfig,
        lexicon: Tokenizer,
        inventory: Inventory,
        sources: Mapping[str, Source],
        log_prior: Tensor | None,
        device: torch.device,
        helpers: Sequence[tuple[float, Objective]] = (),
    ) -> None:
        self.frame = FrameObjective(
            lexicon,
            inventory,
            kinds={name: source.kind for name, source in config.sources.items()},
            soft=config.soft_loss,
            hard=config.hard_loss,
            n_best={name: source.n_best for name, source in config.sources.items()},
        )
        self._config = config
        self.sequence = self._sequence(sources, log_prior, device)
        weights = {name: source.weight for name, source in config.sources.items()}
        self._sums = {
            (criterion, kind): WeightedSum([*self._terms(criterion, kind), *helpers], weights)
            for criterion in {"frame", *criteria(config.schedule)}
            for kind in KINDS
        }

    def of(self, criterion: str, batch: Batch) -> WeightedSum:
        """What a batch is trained with in a phase with this criterion."""
        return self._sums[criterion, self.frame.kinds[batch.source[0]]]

    def _sequence(
        self, sources: Mapping[str, Source], log_prior: Tensor | None, device: torch.device
    ) -> SequenceObjective | None:
        config, inventory = self._config, self.frame.inventory
        wanted = criteria(config.schedule)
        if not wanted:
            return None
        if inventory.topology.needs_prior and log_prior is None:
            raise ConfigError(
                f"the schedule has a sequence criterion, which for {inventory.topology_name!r} needs the priors of the classes; start from a finished run "
                "(init: RUN/final.pt) or name a labeled store (prior: STORE)"
            )
        phases = [phase for phase in config.schedule if phase.criterion == "lf_mmi"]
        drawn = {name for phase in phases for name in {**phase.mixture, **phase.until}}
        labeled = [sources[name] for name, kind in self.frame.kinds.items() if kind == "labeled" and name in drawn]
        return SequenceObjective(wanted, config.sequence, self.frame.lexicon, inventory, labeled, log_prior, device)

    def _terms(self, criterion: str, kind: str) -> list[tuple[float, Objective]]:
        """The weighted objectives of a batch of a source of this kind, without the helpers."""
        if criterion == "frame" or kind != "labeled" or self.sequence is None:
            consistency = self._config.consistency
            return [(1.0, ConsistencyObjective(self.frame, consistency) if consistency.scale else self.frame)]
        share = self._config.sequence.smoothing
        terms: list[tuple[float, Objective]] = [(1 - share, functools.partial(self.sequence, criterion))]
        if share:
            smooth_with = "soft" if self._config.sequence.smooth_with == "soft" else "labeled"
            terms.append((share, dataclasses.replace(self.frame, kinds=dict.fromkeys(self.frame.kinds, smooth_with))))
        return terms
