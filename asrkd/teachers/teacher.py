"""A teacher: a model, and what makes its output meaningful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import TeacherError


@dataclass(frozen=True)
class Teacher:
    """A model that gives posteriors for every frame.

    Attributes:
        model: `logits, lengths = model(features, feature_lengths)`; (N, T, F), (N,) -> (N, T', V), (N,).
        front_end: what makes its features: log-mel, or the samples themselves.
        inventory: what its classes mean.
        subsampling_factor: T' is T over this, rounded up.
        spec: the spec string it was loaded from.
        fingerprint: over weights, code identity, front end and inventory.
        device: where the model runs.
        autocast: name of the type in which torch's autocast computes what is safe in it, `bfloat16` or `float16`; empty for none.
    """

    model: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    front_end: AnyFrontEnd
    inventory: Inventory
    subsampling_factor: int
    spec: str
    fingerprint: str
    device: str = "cpu"
    autocast: str = ""

    @torch.no_grad()
    def log_probs(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> natural-log posteriors (N, T', V) float32, and lengths (N,).

        Raises:
            TeacherError: the model's classes are not its inventory's.
        """
        features, lengths = features.to(self.device, non_blocking=True), lengths.to(self.device)
        kind = getattr(torch, self.autocast) if self.autocast else None
        with torch.autocast(torch.device(self.device).type, kind, enabled=kind is not None):
            logits, out_lengths = self.model(features, lengths)
        if logits.shape[-1] != len(self.inventory):
            raise TeacherError(
                f"teacher {self.spec!r} gives {logits.shape[-1]} classes, its inventory has {len(self.inventory)}; the "
                "classes would have no names. Correct the inventory beside the model"
            )
        return logits.float().log_softmax(-1), out_lengths
