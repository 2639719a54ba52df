"""What happens in a training besides its updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asrkd.streaming.batch import Batch

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


class Callback:
    """Called by `Trainer.train`, in the order of `Trainer.callbacks`, on every process; what is not overridden does nothing.

    Only the first process (`trainer.ranks.first`) writes files. What a callback must remember for a run to resume exactly is its state.
    """

    def begin(self, trainer: Trainer) -> None:
        """Before the first update of a call of `train`."""

    def update(self, trainer: Trainer, batches: Sequence[Batch], losses: Sequence[dict[str, float]]) -> None:
        """After an update, number `trainer.step`.

        Args:
            batches: that this process contributed.
            losses: figures of each, by name.
        """

    def evaluate(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Every `eval_steps` updates and after the last. Add to `figures` what belongs in the log, and set `trainer.stopped` to end the training.

        Args:
            figures: of the callbacks before this one, by name.
        """

    def finish(self, trainer: Trainer) -> None:
        """At the end of the schedule, or when a callback has stopped the training: `trainer.averaged` becomes the result."""

    def end(self, trainer: Trainer) -> None:
        """When `train` returns or fails."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where a state was taken."""
