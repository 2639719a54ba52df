"""Word error rate on the dev store while a model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asrkd.acoustic import AcousticModel
from asrkd.decoding.run import Scores, decode_scores, search_graph
from asrkd.errors import CorpusError
from asrkd.evaluation.wer import score, total
from asrkd.training.callback import Callback
from asrkd.training.dev import dev_batches

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


class DevWer(Callback):
    """Measures `dev_wer`, a share, of the averaged model, as `dev_decoding` of the config says."""

    def __init__(self, trainer: Trainer) -> None:
        penalty = trainer.config.dev_decoding.insertion_penalty
        self._graph = search_graph(trainer.lexicon, trainer.inventory, insertion_penalty=penalty)

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """At every so many evaluations and at the last update.

        Raises:
            CorpusError: an utterance without a transcript.
        """
        config, settings = trainer.config, trainer.config.dev_decoding
        last = trainer.step == trainer.total_steps
        if not trainer.ranks.first or (trainer.step % (settings.every * config.eval_steps) and not last):
            return
        factor, student = config.model.subsampling_factor, trainer.averaged_students[0]
        with trainer.as_used(student):
            model = AcousticModel(
                student.eval(), trainer.front_end, trainer.inventory, factor, "training", "", str(trainer.device)
            )
            scores = _scores(trainer, model)
        seen = np.concatenate([np.exp(one, dtype=np.float64) for one in scores.log_probs.values()])
        texts = decode_scores(
            scores,
            model,
            self._graph,
            log_prior=np.log(seen.mean(axis=0).clip(1e-5)).astype(np.float32),
            acoustic_scale=settings.acoustic_scale,
            beam=settings.beam,
        )
        figures["dev_wer"] = total(score(scores.references, texts, scores.speakers)).rate


def _scores(trainer: Trainer, model: AcousticModel) -> Scores:
    """Log-posteriors of the dev store."""
    scores = Scores()
    for batch in dev_batches(trainer.config, trainer.front_end):
        log_probs, lengths = model.log_probs(batch.features, batch.feature_lengths)
        for n, length in enumerate(lengths.tolist()):
            key, text = batch.ids[n], batch.texts[n]
            if text is None:
                raise CorpusError(
                    f"utterance {key!r} of the dev store {trainer.config.dev!r} has no transcript, so it cannot be scored"
                )
            scores.log_probs[key] = log_probs[n, :length].cpu().numpy()
            scores.references[key], scores.speakers[key] = text, batch.speakers[n] or key
    return scores
