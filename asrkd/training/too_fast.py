"""Transcribed utterances that a CTC student cannot learn from: too few frames for their tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asrkd.streaming.batch import Batch
from asrkd.training.callback import Callback

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer

_NAMED = 5


class TooFast(Callback):
    """Warns of utterances of labeled sources that have more tokens and repeats than frames, which count nothing in the CTC loss."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        for batch, figures in zip(batches, losses, strict=True):
            name = batch.source[0]
            if f"{name}_too_short" not in figures or trainer.objectives.frame.kinds[name] != "labeled":
                continue
            for key, text, frames in zip(batch.ids, batch.texts, batch.num_frames.tolist(), strict=True):
                tokens = trainer.objectives.frame.tokens(text, what=key)
                if len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens)) > frames:
                    self.ids.add(key)

    def finish(self, trainer: Trainer) -> None:
        ids = sorted(set().union(*trainer.ranks.gather(self.ids)))
        if trainer.ranks.first and ids:
            named = ", ".join(map(repr, ids[:_NAMED])) + (" and others" if len(ids) > _NAMED else "")
            trainer.warnings.append(
                f"{len(ids)} labeled utterances have fewer frames than their CTC tokens need, so nothing was learned from them ({named}): the "
                "speech is too fast for the frame rate, or the transcripts say more than the audio; take a front end with a shorter frame shift, or "
                "leave them out"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"ids": sorted(self.ids)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ids = set(state.get("ids", []))
