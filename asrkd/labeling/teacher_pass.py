"""What a teacher makes of batches: the seam between the worker, which knows of units and shards alone, and teachers of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from asrkd.acoustic import AcousticModel
from asrkd.labeling.encoding import Encoded, encode, packed, pad
from asrkd.labeling.layer import open_encoder
from asrkd.labeling.reading import NO_LIMIT, CutFeatures, LengthLimit, SampleInput
from asrkd.labeling.text_encoding import columns_of_text, transcribe
from asrkd.store import Store
from asrkd.text_teachers import TextTeacher, Transcription

AnyTeacher = AcousticModel | TextTeacher


class TeacherPass(Protocol):
    """A teacher of a store, on batches of utterances.

    Attributes:
        samples: what it is given in place of features; None for features.
        limit: the longest cut that it takes.
    """

    @property
    def samples(self) -> SampleInput | None: ...

    @property
    def limit(self) -> LengthLimit: ...

    def ready(self, heard: Sequence[CutFeatures]) -> Any:
        """The input of a batch; made ahead, in another thread."""

    def run(self, heard: Sequence[CutFeatures], ready: Any) -> tuple[Sequence[Any], dict[str, str]]:
        """What the teacher says of each utterance, None for one that it cannot be run on, and the reasons for these by id.

        Raises:
            ModelError, MismatchError: the teacher fails.
        """

    def columns(self, heard: CutFeatures, said: Any) -> dict[str, Any] | None:
        """The columns of an utterance's row; None if it has no row. In another thread."""


def pass_of(store: Store, teacher: AnyTeacher | None) -> TeacherPass:
    """The pass of a store's teacher; None is that of a store of transcripts."""
    if teacher is None:
        return _NoTeacher()
    return _Text(teacher) if isinstance(teacher, TextTeacher) else _Frames(store, teacher)


def _limit(teacher: str, seconds: float) -> LengthLimit:
    return NO_LIMIT if seconds > NO_LIMIT.seconds else LengthLimit(teacher, seconds)


class _NoTeacher:
    samples = None
    limit = NO_LIMIT

    def ready(self, heard: Sequence[CutFeatures]) -> None:
        return None

    def run(self, heard: Sequence[CutFeatures], ready: None) -> tuple[Sequence[None], dict[str, str]]:
        return [None for _ in heard], {}

    def columns(self, heard: CutFeatures, said: None) -> dict[str, Any]:
        return {}


class _Frames:
    samples = None

    def __init__(self, store: Store, teacher: AcousticModel) -> None:
        self._identity, self._teacher, self._layer = store.identity, teacher, open_encoder(store)
        self.limit = _limit(f"teacher {teacher.spec!r}", teacher.max_seconds)
        self._pin = torch.device(teacher.device).type == "cuda"

    def ready(self, heard: Sequence[CutFeatures]) -> torch.Tensor:
        features = pad(heard) if heard else torch.empty(0)
        return features.pin_memory() if self._pin else features

    def run(self, heard: Sequence[CutFeatures], ready: torch.Tensor) -> tuple[Sequence[Encoded | None], dict[str, str]]:
        return encode(heard, ready, self._identity, self._teacher, self._layer)

    def columns(self, heard: CutFeatures, said: Encoded | None) -> dict[str, Any] | None:
        return None if said is None else packed(said, self._identity)


class _Text:
    def __init__(self, teacher: TextTeacher) -> None:
        self._teacher = teacher
        self.samples = SampleInput(teacher.sampling_rate, teacher.batch_size)
        self.limit = _limit(f"text teacher {teacher.spec!r}", teacher.max_seconds)

    def ready(self, heard: Sequence[CutFeatures]) -> None:
        return None

    def run(self, heard: Sequence[CutFeatures], ready: None) -> tuple[Sequence[Transcription | None], dict[str, str]]:
        return transcribe(heard, self._teacher)

    def columns(self, heard: CutFeatures, said: Transcription | None) -> dict[str, Any] | None:
        return None if said is None else columns_of_text(said, heard.row["duration"], self._teacher.settings)
