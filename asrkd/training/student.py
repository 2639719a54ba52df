"""What is trained: students, and the objectives that see their outputs.

An objective is called as `objective(student, batch)`. Objectives add up (`WeightedSum`), those that have weights of their own are modules, and all of them
share one forward pass, `student.output`. One that needs another pass, say of masked features, calls `student.forward`. The call happens inside the module that DDP
wraps (`Learner`), so that an update is one forward pass of that, however often a student runs in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from asrkd.distributed.precision import autocast
from asrkd.models import Chunked
from asrkd.models.layer import layer_frames, tapped
from asrkd.streaming.batch import Batch


class StudentOutput(NamedTuple):
    """What a student's forward pass outputs.

    Attributes:
        logits: (N, T', V).
        lengths: (N,) frames of each utterance.
        layers: by name (N, T', D), what the wanted layers inside the model output at the frames of the logits.
    """

    logits: Tensor
    lengths: Tensor
    layers: Mapping[str, Tensor] = {}

    @property
    def mask(self) -> Tensor:
        """(N, T') bool: which frames are not padding."""
        return torch.arange(self.logits.shape[1], device=self.logits.device)[None] < self.lengths[:, None]


@dataclass(eq=False)
class Student:
    """A student and a batch, as objectives see them.

    Attributes:
        forward: features (N, T, F) and their lengths (N,) -> `StudentOutput`.
        peers: the other students of the training.
    """

    forward: Callable[[Tensor, Tensor], StudentOutput]
    batch: Batch
    peers: Sequence[Student] = field(default=(), repr=False)

    @cached_property
    def output(self) -> StudentOutput:
        """Of the batch as it is, computed once."""
        return self.forward(self.batch.features, self.batch.feature_lengths)


# A loss per frame, and figures for the log by name.
Losses = tuple[Tensor, dict[str, float]]


class Objective(Protocol):
    """A loss of a student on a batch from one source.

    A module with weights must use all of them on every batch, or processes that exchange gradients would wait for them. What submodules of the student
    output is in `student.output.layers` for those that an attribute `layers` of the objective names.
    """

    def __call__(self, student: Student, batch: Batch, /) -> Losses: ...


@dataclass(frozen=True)
class WeightedSum:
    """Objectives that add up.

    Attributes:
        terms: (weight, objective).
        sources: by source name a factor of the sum; 1 for those that are not named.
    """

    terms: Sequence[tuple[float, Objective]]
    sources: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, student: Student, batch: Batch) -> Losses:
        factor = self.sources.get(batch.source[0], 1.0)
        total = torch.zeros((), device=batch.features.device)
        figures: dict[str, float] = {}
        for weight, objective in self.terms:
            loss, parts = objective(student, batch)
            total = total + weight * factor * loss
            figures |= parts
        return total, figures


def run_model(
    model: nn.Module,
    features: Tensor,
    feature_lengths: Tensor,
    *,
    layers: Sequence[str] = (),
    precision: str = "float32",
) -> StudentOutput:
    """The forward pass of any model that returns (logits, lengths).

    Args:
        layers: submodules whose outputs are wanted.
        precision: of the computation, see `asrkd.distributed.precision`.

    Raises:
        ConfigError: there is no such layer, or the model cannot run in this precision.
        MismatchError: a layer without a vector for every frame.
    """
    with ExitStack() as stack:
        tapped_layers = {name: stack.enter_context(tapped(model, name)) for name in layers}
        with autocast(precision, features.device):
            logits, lengths = model(features, feature_lengths)
    hidden = {
        name: layer_frames(outputs[-1], len(features), logits.shape[1], name=name)
        for name, outputs in tapped_layers.items()
    }
    return StudentOutput(logits, lengths, hidden)


class Learner(nn.Module):
    """The students of a training, and what has weights and helps them to learn.

    Attributes:
        students: of one shape; the first is the result.
        helpers: those of the objectives that are modules.

    Args:
        objectives: that the students will be called with.
        chunks: whether `chunk_frames` will be used.
        precision: of the students' forward pass.

    Raises:
        ConfigError: with `chunks`, students that do not stream.
    """

    def __init__(
        self,
        students: Sequence[nn.Module],
        objectives: Sequence[Objective] = (),
        *,
        chunks: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.students = nn.ModuleList(students)
        self.helpers = nn.ModuleList(one for one in objectives if isinstance(one, nn.Module))
        self._layers = tuple(dict.fromkeys(name for one in objectives for name in getattr(one, "layers", ())))
        self._precision = precision
        # In a tuple, so that their weights are not counted twice.
        self._chunked = tuple(Chunked(student) for student in students) if chunks else ()

    def forward(self, batch: Batch, objective: Objective, chunk_frames: int = 0) -> Losses:
        """The sum of the students' losses, and the figures of the first.

        Args:
            chunk_frames: input frames through which the gradient flows back at most; 0 for whole utterances.
        """
        for chunked in self._chunked:
            chunked.chunk_frames = chunk_frames
        models = self._chunked if chunk_frames else self.students
        run = partial(run_model, layers=self._layers, precision=self._precision)
        students = [Student(partial(run, model), batch) for model in models]
        for student in students:
            student.peers = [other for other in students if other is not student]
        losses = [objective(student, batch) for student in students]
        return torch.stack([loss for loss, _ in losses]).sum(), losses[0][1]
