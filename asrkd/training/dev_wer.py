"""Word error rate on the dev store while a model trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from asrkd.acoustic import AcousticModel
from asrkd.config import check, setting
from asrkd.corpus.tokenizer import units_are_no_text
from asrkd.decoding.search import Search
from asrkd.errors import ConfigError, CorpusError
from asrkd.evaluation.wer import score, total
from asrkd.training.callback import Callback
from asrkd.training.dev import dev_batches

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


@dataclass
class DevDecodingConfig:
    """Word error rate on the dev store during training, through any sequence of the lexicon's words."""

    every: int = setting(0, at_least=0)
    """Decode the dev store at every N-th evaluation; 0 disables it."""
    acoustic_scale: float = setting(1.0, above=0)
    """Factor of the acoustic scores."""
    insertion_penalty: float = 0.0
    """Cost of every word, in nats."""
    beam: float = setting(16.0, above=0)
    """Beam of the search."""

    def __post_init__(self) -> None:
        check(self, "dev_decoding")


class DevWer(Callback):
    """Measures `dev_wer`, a share, of the averaged model, as `dev_decoding` of the config says.

    Raises:
        ConfigError: units of a store that are not text.
    """

    def __init__(self, trainer: Trainer) -> None:
        settings, factor = trainer.config.dev_decoding, trainer.config.model.subsampling_factor
        if units_are_no_text(trainer.lexicon):
            raise ConfigError(
                f"dev_decoding.every: is {settings.every}, but the units of the store {trainer.config.inventory.store!r} are names, not text that could be "
                "compared with transcripts; set it to 0, or name the lexicon or tokenizer of the teacher by inventory.lexicon"
            )
        # The averaged student is one module from the beginning to the end of a training, so the search is made once.
        self._model = AcousticModel(
            trainer.averaged_students[0],
            trainer.front_end,
            trainer.inventory,
            factor,
            "training",
            "",
            str(trainer.device),
        )
        self._search = Search(
            trainer.lexicon, self._model, insertion_penalty=settings.insertion_penalty, beam=settings.beam
        )

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Every N-th evaluation, and at the last update.

        Raises:
            CorpusError: an utterance without a transcript.
        """
        config, settings = trainer.config, trainer.config.dev_decoding
        last = trainer.step == trainer.total_steps
        if not trainer.ranks.first or (trainer.step % (settings.every * config.eval_steps) and not last):
            return
        student, model = trainer.averaged_students[0].eval(), self._model
        with trainer.as_used(student):
            utterances = list(_log_probs(trainer, model))
        if model.inventory.topology.needs_prior:
            mean = torch.cat([one.log_probs for one in utterances]).double().exp().mean(dim=0)
            model = dataclasses.replace(model, log_prior=mean.clamp_min(1e-5).log().float())
        texts = self._search.texts(
            (one.id, model.scores_of(one.log_probs, acoustic_scale=settings.acoustic_scale).numpy())
            for one in utterances
        )
        references = self._search.references({one.id: one.text for one in utterances})
        figures["dev_wer"] = total(score(references, texts, {one.id: one.speaker for one in utterances})).rate


class _Utterance(NamedTuple):
    """An utterance of the dev store; its log-posteriors are (T, V), in the host's memory."""

    id: str
    text: str
    speaker: str
    log_probs: Tensor


def _log_probs(trainer: Trainer, model: AcousticModel) -> Iterator[_Utterance]:
    for batch in dev_batches(trainer.config, trainer.front_end, trainer.max_seconds):
        log_probs, lengths = model.log_probs(batch.features, batch.feature_lengths)
        for n, length in enumerate(lengths.tolist()):
            key, text = batch.ids[n], batch.texts[n]
            if text is None:
                raise CorpusError(
                    f"utterance {key!r} of the dev store {trainer.config.dev!r} has no transcript, so it cannot be scored"
                )
            yield _Utterance(key, text, batch.speakers[n] or key, log_probs[n, :length].cpu())
