"""Word error rate on the dev store while a model trains."""

from __future__ import annotations

import numpy as np
from torch import nn

from asrkd.acoustic import AcousticModel
from asrkd.decoding.run import Scores, decode_scores, search_graph
from asrkd.errors import CorpusError
from asrkd.evaluation.wer import score, total
from asrkd.training.dev import dev_batches
from asrkd.training.trainer import Measure, Trainer


def dev_wer(trainer: Trainer) -> Measure | None:
    """What `Trainer.train` calls after evaluations, as its config's `dev_decoding` says; None where that or the dev store is not set."""
    config = trainer.config
    settings, root = config.dev_decoding, config.dev
    if not settings.every or not root:
        return None

    graph = search_graph(trainer.lexicon, trainer.inventory, insertion_penalty=settings.insertion_penalty)

    def measure(model: nn.Module, step: int) -> dict[str, float]:
        """`dev_wer`, a share, at every so many evaluations and at the last update."""
        if step % (settings.every * config.eval_steps) and step != trainer.total_steps:
            return {}
        scores = _scores(trainer, model, root)
        seen = np.concatenate([np.exp(one, dtype=np.float64) for one in scores.log_probs.values()])
        texts = decode_scores(
            scores,
            _as_teacher(trainer, model),
            graph,
            log_prior=np.log(seen.mean(axis=0).clip(1e-5)).astype(np.float32),
            acoustic_scale=settings.acoustic_scale,
            beam=settings.beam,
        )
        return {"dev_wer": total(score(scores.references, texts, scores.speakers)).rate}

    return measure


def _as_teacher(trainer: Trainer, model: nn.Module) -> AcousticModel:
    factor = trainer.config.model.subsampling_factor
    return AcousticModel(model, trainer.front_end, trainer.inventory, factor, "training", "", str(trainer.device))


def _scores(trainer: Trainer, model: nn.Module, root: str) -> Scores:
    """Log-posteriors of the dev store.

    Raises:
        CorpusError: an utterance without a transcript.
    """
    teacher = _as_teacher(trainer, model)
    scores = Scores()
    for batch in dev_batches(trainer.config, trainer.front_end):
        log_probs, lengths = teacher.log_probs(batch.features, batch.feature_lengths)
        for n, length in enumerate(lengths.tolist()):
            key, text = batch.ids[n], batch.texts[n]
            if text is None:
                raise CorpusError(
                    f"utterance {key!r} of the dev store {root!r} has no transcript, so it cannot be scored"
                )
            scores.log_probs[key] = log_probs[n, :length].cpu().numpy()
            scores.references[key], scores.speakers[key] = text, batch.speakers[n] or key
    return scores
