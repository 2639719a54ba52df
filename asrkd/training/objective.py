"""The objective: the loss of a batch by the kind of its source, and the losses apart for the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError, MismatchError
from asrkd.losses.hard import ctc_loss, frame_cross_entropy
from asrkd.losses.soft import soft_cross_entropy
from asrkd.streaming.batch import Batch
from asrkd.training.config import SoftLossConfig


@dataclass(frozen=True)
class Objective:
    """Loss of a batch, per frame: soft cross-entropy, cross-entropy with the alignment, or CTC.

    Attributes:
        kinds: by source name, `soft` or `labeled`.
        weights: by source name, the factor of its loss.
    """

    lexicon: Lexicon
    inventory: Inventory
    kinds: Mapping[str, str]
    weights: Mapping[str, float]
    soft: SoftLossConfig

    def __call__(self, logits: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Mean loss per frame of a batch from one source, and the same by name of the source.

        Utterances whose frames are too few for their CTC tokens count 0, and are counted as `NAME_too_short`.

        Args:
            logits: (N, T', V).
            lengths: (N,) frames of each.

        Raises:
            MismatchError: the model's frames are not the targets' frames.
            CorpusError: a labeled utterance without a transcript or alignment.
        """
        name = batch.source[0]
        frames = int(lengths.sum())
        mask = torch.arange(logits.shape[1], device=logits.device)[None] < lengths[:, None]
        counted: dict[str, float] = {}
        if self.kinds[name] == "soft":
            total = self._soft(logits[mask], batch)
        elif self.inventory.topology == "hmm":
            total = self._hard(logits, batch)
        else:
            total, too_short = self._ctc(logits, lengths, batch)
            if too_short:
                counted[f"{name}_too_short"] = float(too_short)
        loss = total / max(frames, 1)
        return loss * self.weights[name], {name: float(loss.detach()), **counted}

    def _soft(self, logits: Tensor, batch: Batch) -> Tensor:
        targets = batch.targets
        if targets is None or not bool(batch.has_targets.all()):
            raise MismatchError(
                f"batch of source {batch.source[0]!r}: utterances without soft targets; label them first"
            )
        if len(targets.missing) != len(logits):
            raise MismatchError(
                f"the model gives {len(logits)} frames for this batch, the stored targets have {len(targets.missing)}; "
                "the model's subsampling factor or its frames are not those of the teacher"
            )
        return soft_cross_entropy(
            logits,
            targets.row_splits,
            targets.ids,
            targets.log_probs,
            targets.missing,
            missing_mass=self.soft.missing_mass,
            temperature=self.soft.temperature,
            reduction="sum",
        )

    def _hard(self, logits: Tensor, batch: Batch) -> Tensor:
        if batch.alignment is None:
            raise CorpusError(
                f"source {batch.source[0]!r} has no alignments, which the 'hmm' topology trains on; make them with asrkd align"
            )
        return frame_cross_entropy(logits, batch.alignment)[0]

    def _ctc(self, logits: Tensor, lengths: Tensor, batch: Batch) -> tuple[Tensor, int]:
        tokens = [self.tokens(text, what=key) for key, text in zip(batch.ids, batch.texts, strict=True)]
        return ctc_loss(logits, lengths, tokens)

    def tokens(self, text: str | None, *, what: str) -> list[int]:
        """CTC tokens of a transcript: the first pronunciation of each word."""
        if text is None:
            raise CorpusError(
                f"utterance {what!r} has no transcript, but its source is of kind 'labeled'; set kind 'soft'"
            )
        spelled = self.lexicon.spell(text, what=f"utterance {what!r}")
        return [unit for spellings in spelled for unit in self.inventory.ids(spellings[0])]
