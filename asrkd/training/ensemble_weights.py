"""Weights of an ensemble's teachers, chosen on a set with hard labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from asrkd import files
from asrkd.acoustic import load_model
from asrkd.acoustic.ensemble import Ensemble, read_ensemble
from asrkd.errors import CorpusError, MismatchError, ModelError
from asrkd.losses.hard import PADDING
from asrkd.store import Store
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source


@dataclass(frozen=True)
class Weighing:
    """
    Attributes:
        weights: of the teachers in the file's order; they sum to 1.
        before, after: cross-entropy with the labels in nats a frame, with the file's weights and with these.
        alone: that of each teacher.
        frames: that were looked at.
    """

    weights: list[float]
    before: float
    after: float
    alone: list[float]
    frames: int


def weigh(
    ensemble: str | Path, store: Store, out: str | Path, *, device: str = "cpu", max_frames: int = 20_000
) -> Weighing:
    """Choose the weights with which the ensemble's posteriors have the lowest cross-entropy with a store's alignments; write the file `out`.

    Args:
        ensemble: the file that `ensemble:FILE` names.
        store: with alignments, best of speech that no teacher was trained on.
        max_frames: frames to look at; the log domain holds all classes of them in memory.

    Raises:
        ModelError: the file or a teacher cannot be used.
        CorpusError: the store has no alignments.
        MismatchError: the teachers are of another inventory than the alignments, or their frames are others.
    """
    given = read_ensemble(f"ensemble:{ensemble}", Path(ensemble))
    found, labels = _posteriors(given, store, device, max_frames)
    weights, after = fit(found, labels, domain=given.domain)
    before = float(_loss(torch.tensor(given.weights, dtype=torch.float64), found, labels, given.domain))
    single = torch.eye(len(given.specs), dtype=torch.float64)
    alone = [float(_loss(one, found, labels, given.domain)) for one in single]
    content = {
        "teachers": [{"spec": spec, "weight": weight} for spec, weight in zip(given.specs, weights, strict=True)],
        "domain": given.domain,
    }
    files.write(out, yaml.safe_dump(content, sort_keys=False))
    return Weighing(weights, before, after, alone, len(labels))


def fit(log_probs: Tensor, labels: Tensor, *, domain: str) -> tuple[list[float], float]:
    """The weights with the lowest cross-entropy, and that, in nats a frame.

    The loss is convex in the weights in both domains (a mixture of experts, and a log-linear pool), so L-BFGS finds the one minimum.

    Args:
        log_probs: (K, M, V) natural-log posteriors of K teachers.
        labels: (M,) right classes.
        domain: `probability` or `log`, see `asrkd.acoustic.load_model`.
    """
    # Weights are a softmax, whose argument has one value too many: that does not trouble L-BFGS.
    theta = torch.zeros(len(log_probs), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([theta], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(theta.softmax(0), log_probs, labels, domain)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        weights = theta.softmax(0)
        return weights.tolist(), float(_loss(weights, log_probs, labels, domain))


def _loss(weights: Tensor, log_probs: Tensor, labels: Tensor, domain: str) -> Tensor:
    """Mean over frames of -log of the ensemble's posterior of the label."""
    right = log_probs.gather(2, labels[None, :, None].expand(len(log_probs), -1, 1))[:, :, 0].double()
    # A floor, as the logarithm of a weight of 0 has no gradient.
    if domain == "probability":
        return -(right + weights.clamp_min(1e-12).log()[:, None]).logsumexp(dim=0).mean()
    pooled = torch.einsum("k,kmv->mv", weights.to(log_probs), log_probs)
    return -(weights @ right - pooled.logsumexp(dim=1)).mean()


@torch.no_grad()
def _posteriors(given: Ensemble, store: Store, device: str, max_frames: int) -> tuple[Tensor, Tensor]:
    """(K, M, V) log-posteriors of every teacher for the labeled frames, and (M,) their labels."""
    teachers = [load_model(spec, device) for spec in given.specs]
    first = teachers[0]
    loader = Loader(
        {"dev": Source("dev", store)},
        front_end=first.front_end,  # type: ignore[arg-type]
        subsampling_factor=first.subsampling_factor,
        max_frames=4000,
        max_utterances=16,
    )
    parts: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in loader.epoch("dev"):
        if batch.alignment is None:
            raise CorpusError(
                f"store {store.root!r} has no alignments to weigh teachers by; make them with asrkd align"
            )
        kept = batch.alignment != PADDING
        if int(batch.alignment.max()) >= len(first.inventory):
            raise MismatchError(
                f"store {store.root!r} has alignments with class {int(batch.alignment.max())}, the teachers have {len(first.inventory)} classes; "
                "align it with their lexicon, topology and states_per_phone"
            )
        outputs = []
        for teacher in teachers:
            log_probs, _ = teacher.log_probs(batch.features, batch.feature_lengths)
            if log_probs.shape[1] != kept.shape[1]:
                raise ModelError(
                    f"teacher {teacher.spec!r} gives {log_probs.shape[1]} frames, the alignments have {kept.shape[1]}; they are of another frame rate"
                )
            outputs.append(log_probs.cpu()[kept])
        parts.append(torch.stack(outputs))
        labels.append(batch.alignment[kept])
        if sum(len(one) for one in labels) >= max_frames:
            break
    if not labels:
        raise CorpusError(f"store {store.root!r} has no utterances to weigh teachers by")
    return torch.cat(parts, dim=1)[:, :max_frames], torch.cat(labels)[:max_frames]
