"""Models that asrkd trained: what the checkpoint of a finished run holds, and the acoustic model that it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from asrkd import checkpoint, fingerprint
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, tokenizer_from_dict, tokenizer_to_dict
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict
from asrkd.errors import AsrkdError, ModelError, one_line
from asrkd.models import build_model, to_int8

FINAL = "final.pt"
_KEYS = {
    "format", "model", "model_factory", "model_args", "front_end", "inventory", "subsampling_factor", "log_prior",
    "tokenizer", "int8_trained",
}  # fmt: skip


@dataclass(frozen=True)
class TrainedModel:
    """The result of a training run, which `final.pt` holds.

    Attributes:
        weights: of the network.
        factory, args: what makes the network (`asrkd.models.build_model`).
        front_end, inventory, subsampling_factor: as `AcousticModel`.
        log_prior: (V,) natural logs of the priors of its classes.
        tokenizer: what spells text with its units; None where that is not known.
        facts: for reports, as `num_parameters` and `train_seconds`.
        int8_trained: training rounded the weights to 8 bits (`model.int8`).
    """

    weights: Mapping[str, Tensor]
    factory: str
    args: Mapping[str, Any]
    front_end: AnyFrontEnd
    inventory: Inventory
    subsampling_factor: int
    log_prior: Tensor | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tokenizer: Tokenizer | None = None
    int8_trained: bool = False

    def save(self, path: str | Path) -> None:
        """Write a checkpoint, whole or not at all."""
        checkpoint.save(
            path,
            {
                **self.facts,
                "model": dict(self.weights),
                "model_factory": self.factory,
                "model_args": dict(self.args),
                "front_end": self.front_end.to_dict(),
                "inventory": self.inventory.to_dict(),
                "subsampling_factor": self.subsampling_factor,
                "log_prior": self.log_prior,
                "tokenizer": None if self.tokenizer is None else tokenizer_to_dict(self.tokenizer),
                "int8_trained": self.int8_trained,
            },
        )

    @classmethod
    def read(cls, path: str | Path) -> TrainedModel:
        """The model of a run folder, or of a checkpoint such as its `final.pt`.

        Raises:
            ModelError: there is none, or it is damaged or of another kind.
        """
        path = Path(path)
        path = path / FINAL if path.is_dir() else path
        content = checkpoint.read(path, error=ModelError)
        try:
            return cls(
                content["model"],
                content["model_factory"],
                content["model_args"],
                front_end_from_dict(content["front_end"]),
                Inventory.from_dict(content["inventory"]),
                int(content["subsampling_factor"]),
                content.get("log_prior"),
                {key: value for key, value in content.items() if key not in _KEYS},
                tokenizer_from_dict(content["tokenizer"]) if content.get("tokenizer") else None,
                bool(content.get("int8_trained")),
            )
        except AsrkdError:
            raise
        except Exception as error:
            raise ModelError(
                f"checkpoint {str(path)!r} does not hold a finished model ({one_line(error)}); give the {FINAL} that asrkd train wrote at its end"
            ) from None


@kind("checkpoint:PATH", "A model that asrkd train made: its run folder, or a checkpoint such as final.pt.")
def trained(request: Request) -> AcousticModel:
    """Raises `ModelError` for a checkpoint that cannot be used."""
    try:
        content = TrainedModel.read(request.path)
    except ModelError as error:
        raise ModelError(f"model {request.spec!r}: {error}") from None
    front_end, inventory = content.front_end, content.inventory
    try:
        network = build_model(
            content.factory, content.args, input_dim=front_end.feature_dim, num_classes=len(inventory)
        )
        network.load_state_dict(content.weights)
    except AsrkdError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {request.spec!r}: the weights are not those of {content.factory!r} ({one_line(error)}); give what asrkd train wrote, with "
            "the version of the network that it was trained with"
        ) from None
    weights = fingerprint.of_state_dict(content.weights)
    code = [content.factory, content.args]
    return AcousticModel(
        network.eval().to(request.device),
        front_end,
        inventory,
        content.subsampling_factor,
        request.spec,
        identity(weights, code, front_end, inventory, content.subsampling_factor),
        request.device,
        log_prior=content.log_prior,
        own=content.factory.startswith("asrkd.models:"),
        tokenizer=content.tokenizer,
        max_features=getattr(network, "max_features", None),
        int8_trained=content.int8_trained,
    )


@kind("int8:PATH", "The same, computed with 8-bit weights on a CPU.")
def int8(request: Request) -> AcousticModel:
    """Raises `ModelError` as `trained`, or for another device than a CPU."""
    if request.device != "cpu":
        raise ModelError(
            f"model {request.spec!r} runs on a CPU alone, not on {request.device!r}; give checkpoint:{request.path} there"
        )
    model = trained.load(request)
    return dataclasses.replace(
        model,
        network=to_int8(model.network),  # type: ignore[arg-type]
        fingerprint=fingerprint.of_json([model.fingerprint, "int8"]),
        own=False,  # it rounds activations by the range that they have in a batch, padding included
    )
