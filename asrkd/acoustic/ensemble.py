"""Ensembles: the weighted mean of several teachers' posteriors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.model import AcousticModel
from asrkd.errors import ModelError


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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        members = [(str(one["spec"]), float(one.get("weight", 1.0))) for one in content["teachers"]]
        domain = content.get("domain", "probability")
    except OSError as error:
        raise ModelError(f"model {spec!r}: {str(path)!r} cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"model {spec!r}: {str(path)!r} is not of the form 'teachers: [{{spec: ..., weight: ...}}]' ({error})"
        ) from None
    if domain not in ("probability", "log") or not members or any(weight <= 0 for _, weight in members):
        raise ModelError(
            f"model {spec!r}: domain is {domain!r} (must be 'probability' or 'log') over {len(members)} teachers, whose "
            "weights must be above 0"
        )
    total = sum(weight for _, weight in members)
    return Ensemble([one for one, _ in members], [weight / total for _, weight in members], domain)


def ensemble_teacher(spec: str, path: Path, load: Callable[[str], AcousticModel]) -> AcousticModel:
    """The teacher that the YAML file describes; `load` loads its members.

    Raises:
        ModelError: a file that cannot be used, or members whose frames cannot be averaged.
    """
    given = read_ensemble(spec, path)
    teachers = [load(one) for one in given.specs]
    first = teachers[0]
    for teacher in teachers[1:]:
        for name in ("inventory", "front_end", "subsampling_factor"):
            if getattr(teacher, name) != getattr(first, name):
                raise ModelError(
                    f"model {spec!r}: {teacher.spec!r} and {first.spec!r} differ in {name}, so their frames cannot be averaged"
                )
    identity = fingerprint.of_json([given.domain, given.weights, [teacher.fingerprint for teacher in teachers]])
    model = _Average(teachers, given.weights, given.domain)
    own = all(teacher.own for teacher in teachers)
    return AcousticModel(
        model, first.front_end, first.inventory, first.subsampling_factor, spec, identity, first.device, own=own
    )


class _Average:
    """Weighted mean of posteriors, in the domain of probabilities or of logarithms (renormalised by the softmax)."""

    def __init__(self, teachers: list[AcousticModel], weights: list[float], domain: str) -> None:
        self.teachers, self.weights, self.domain = teachers, weights, domain

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs = [teacher.log_probs(features, lengths) for teacher in self.teachers]
        stacked = torch.stack([log_probs for log_probs, _ in outputs])
        weights = torch.tensor(self.weights, device=stacked.device).view(-1, 1, 1, 1)
        if self.domain == "log":
            return (weights * stacked).sum(dim=0), outputs[0][1]
        return (stacked + weights.log()).logsumexp(dim=0), outputs[0][1]
