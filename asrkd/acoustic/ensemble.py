"""Ensembles: the weighted mean of several models' posteriors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.kinds import Request, kind, read_settings
from asrkd.acoustic.model import AcousticModel
from asrkd.config import check, setting
from asrkd.errors import ModelError


@dataclass
class MemberSettings:
    """A model of an ensemble."""

    spec: str = setting()
    """The model."""
    weight: float = setting(1.0, above=0)
    """Its share of the mean, before all are divided by their sum."""


@dataclass
class EnsembleSettings:
    """The YAML file of an ensemble."""

    teachers: list[MemberSettings] = setting(list)
    """The models."""
    domain: str = setting("probability", one_of=("probability", "log"))
    """Whether the mean is of posteriors or of their logarithms."""

    def __post_init__(self) -> None:
        check(self)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.teachers:
            yield (
                "teachers",
                f"must have at least one model, as teachers: [{{spec: ..., weight: ...}}], not {self.teachers!r}",
            )


@dataclass(frozen=True)
class Ensemble:
    """What the file of an ensemble says: specs of its teachers, their weights (which sum to 1), and the domain of the mean."""

    specs: list[str]
    weights: list[float]
    domain: str


def read_ensemble(spec: str, path: Path) -> Ensemble:
    """Read the file of `ensemble:PATH`.

    Raises:
        ModelError: it cannot be read, or says what cannot be.
    """
    settings = read_settings(EnsembleSettings, spec, path)
    total = sum(member.weight for member in settings.teachers)
    weights = [member.weight / total for member in settings.teachers]
    return Ensemble([member.spec for member in settings.teachers], weights, settings.domain)


@kind(
    "ensemble:FILE",
    "The weighted mean of several models' posteriors, by a YAML file: teachers: [{spec: ..., weight: ...}], and domain: probability or log.",
    of_models=True,
)
def ensemble(request: Request) -> AcousticModel:
    """The model that the YAML file describes; its prior is the weighted mean of the members'.

    Raises:
        ModelError: a file that cannot be used, or members whose frames cannot be averaged.
    """
    settings = read_ensemble(request.spec, request.path)
    members = [request.member(spec) for spec in settings.specs]
    first = members[0]
    for member in members[1:]:
        for name in ("inventory", "front_end", "subsampling_factor"):
            if getattr(member, name) != getattr(first, name):
                raise ModelError(
                    f"model {request.spec!r}: {member.spec!r} and {first.spec!r} differ in {name}, so their frames cannot be averaged"
                )
    return AcousticModel(
        _Average(members, settings.weights, settings.domain),
        first.front_end,
        first.inventory,
        first.subsampling_factor,
        request.spec,
        fingerprint.of_json([settings.domain, settings.weights, [member.fingerprint for member in members]]),
        first.device,
        log_prior=_mean_prior(members, settings.weights),
        own=all(member.own for member in members),
        tokenizer=next((member.tokenizer for member in members if member.tokenizer is not None), None),
        max_features=min((member.max_features for member in members if member.max_features is not None), default=None),
    )


def _mean_prior(members: Sequence[AcousticModel], weights: Sequence[float]) -> Tensor | None:
    """(V,) log of the weighted mean of the members' priors; None where one has none."""
    log_priors = [member.log_prior for member in members if member.log_prior is not None]
    if len(log_priors) < len(members):
        return None
    priors = [np.exp(log_prior.cpu().numpy()) for log_prior in log_priors]
    return torch.from_numpy(np.log(np.average(priors, axis=0, weights=weights)).astype(np.float32))


class _Average:
    """Weighted mean of posteriors, in the domain of probabilities or of logarithms (renormalised by the softmax)."""

    def __init__(self, members: list[AcousticModel], weights: list[float], domain: str) -> None:
        self.members, self.weights, self.domain = members, weights, domain

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs = [member.log_probs(features, lengths) for member in self.members]
        stacked = torch.stack([log_probs for log_probs, _ in outputs])
        weights = torch.tensor(self.weights, device=stacked.device).view(-1, 1, 1, 1)
        if self.domain == "log":
            return (weights * stacked).sum(dim=0), outputs[0][1]
        return (stacked + weights.log()).logsumexp(dim=0), outputs[0][1]
