"""What a kind of acoustic model is: how its specs look, a sentence about it, and what loads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from asrkd import config
from asrkd.acoustic.model import AcousticModel
from asrkd.errors import ConfigError, ModelError

T = TypeVar("T")


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


def read_settings(cls: type[T], spec: str, path: Path) -> T:
    """The YAML file of a model that is made of others.

    Raises:
        ModelError: it cannot be read, or a key or value of it cannot be used.
    """
    try:
        return config.load(cls, path)
    except ConfigError as error:
        raise ModelError(f"model {spec!r}: {str(path)!r}: {error}") from None
