"""What a kind of acoustic model is: how its specs look, a sentence about it, and what loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asrkd.acoustic.model import AcousticModel


@dataclass(frozen=True)
class Request:
    """What a loader is given.

    Attributes:
        spec: the whole spec string, for messages.
        argument: what follows the kind and its colon.
        device: where the model is to run.
        member: loads another spec in the same way, for kinds that are made of models.
    """

    spec: str
    argument: str
    device: str
    member: Callable[[str], AcousticModel]

    @property
    def path(self) -> Path:
        return Path(self.argument)


@dataclass(frozen=True)
class Kind:
    """A kind of model spec.

    Attributes:
        form: a spec of it, `onnx:PATH`.
        help: what it is, in one sentence.
        load: loads the model of a spec.
        of_models: it is made of other models, which compute in its place.
        in_torch: torch computes it, so torch's autocast applies.
    """

    form: str
    help: str
    load: Callable[[Request], AcousticModel]
    of_models: bool = False
    in_torch: bool = True

    @property
    def name(self) -> str:
        return self.form.partition(":")[0]


def kind(
    form: str, help: str, *, of_models: bool = False, in_torch: bool = True
) -> Callable[[Callable[[Request], AcousticModel]], Kind]:
    """Make a loader a `Kind`, which `asrkd.acoustic.load.KINDS` lists."""
    return lambda load: Kind(form, help, load, of_models, in_torch)
