"""The checkpoint that a training resumes from: what all processes share, and what each alone knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from asrkd import checkpoint
from asrkd.errors import MismatchError
from asrkd.training.callback_list import state_name

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


def save_state(trainer: Trainer) -> None:
    """Write `last.pt`; every process calls this, and the first writes."""
    of_rank = {"torch_rng": torch.random.get_rng_state(), "parallel": trainer.parallel.state_dict()}
    if trainer.parallel.blocks:
        of_rank |= {"model": trainer.learner.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    ranks = trainer.ranks.gather(of_rank)
    if not trainer.ranks.first:
        return
    checkpoint.save(
        trainer.run / "last.pt",
        {
            "step": trainer.step,
            "stopped": trainer.stopped,
            "seconds": trainer.seconds,
            "model": trainer.learner.state_dict(),
            "averaged": trainer.averaged.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "loader": trainer.loader.state_dict(),
            "callbacks": {state_name(callback): callback.state_dict() for callback in trainer.callbacks},
            "ranks": ranks,
        },
    )


def load_state(trainer: Trainer, path: Path) -> None:
    """Resume where a checkpoint was written.

    Raises:
        MismatchError: it is of another number of processes, or of other students or objectives.
        AsrkdError: it cannot be read.
    """
    state = checkpoint.read(path)
    if len(state["ranks"]) != trainer.ranks.world_size:
        raise MismatchError(
            f"{str(path)!r} was written by a training of {len(state['ranks'])} processes, this one has {trainer.ranks.world_size}; each has "
            "random numbers (and with blocks or compression a model or residual) of its own, so start as many as before"
        )
    of_rank = state["ranks"][trainer.ranks.rank]
    try:
        trainer.learner.load_state_dict(of_rank.get("model", state["model"]))
    except RuntimeError as error:
        raise MismatchError(
            f"{str(path)!r} has weights of other students or objectives ({' '.join(str(error).split())}); resume with the objectives, and the version "
            "of asrkd, that began the run"
        ) from None
    trainer.averaged.load_state_dict(state["averaged"])
    trainer.optimizer.load_state_dict(of_rank.get("optimizer", state["optimizer"]))
    for group in trainer.optimizer.param_groups:
        group.setdefault("scale", 1.0)  # earlier versions had one group and no scales
    trainer.loader.load_state_dict(state["loader"])
    trainer.parallel.load_state_dict(of_rank["parallel"])
    torch.random.set_rng_state(of_rank["torch_rng"])
    trainer.step, trainer.stopped, trainer.seconds = state["step"], state["stopped"], state["seconds"]
    for callback in trainer.callbacks:
        callback.load_state_dict(state["callbacks"].get(state_name(callback), {}))
