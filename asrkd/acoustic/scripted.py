"""Models as TorchScript modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic.description import description_path, read_description
from asrkd.acoustic.foreign_graphs import LAYOUTS, described_whole, foreign
from asrkd.acoustic.foreign_graphs import described as read_front_end
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.errors import ModelError, one_line

FOREIGN = {names for names, (toolkit, _) in LAYOUTS.items() if toolkit != "asrkd"}


@kind(
    "torchscript:PATH",
    "A TorchScript module, described by PATH.json next to it; of NeMo or icefall also, with tokens.txt.",
)
def torchscript(request: Request) -> AcousticModel:
    """Raises `ModelError` for a module or a description that cannot be used."""
    spec, path = request.spec, request.path
    try:
        network = torch.jit.load(str(path), map_location=request.device).eval()
        weights = fingerprint.of_file(path)
        names = tuple(argument.name for argument in network.forward.schema.arguments[1:])
    except Exception as error:  # torch.jit reads no checkpoint, names operators that it does not know, and more
        raise ModelError(
            f"model {spec!r}: torch {torch.__version__} cannot load {str(path)!r} as TorchScript ({one_line(error)}); give what "
            "torch.jit.save wrote, for this version of torch"
        ) from None
    if names in FOREIGN and not described_whole(path):
        return _foreign(spec, path, request.device, network, names)
    front_end, inventory, factor, log_prior, tokenizer = read_description(spec, path)
    identified = identity(weights, "torchscript", front_end, inventory, factor)
    return AcousticModel(
        network,
        front_end,
        inventory,
        factor,
        spec,
        identified,
        request.device,
        log_prior=log_prior,
        tokenizer=tokenizer,
    )


def _foreign(spec: str, path: Path, device: str, network: Callable[..., Any], names: tuple[str, ...]) -> AcousticModel:
    """A module in the layout of NeMo or icefall, whose front end PATH.json names: a module has no metadata."""
    front_end = read_front_end(path, spec)
    if front_end is None:
        raise ModelError(
            f"model {spec!r} takes {' and '.join(names)} ({LAYOUTS[names][0]}), but does not say what its features are: name them in {str(description_path(path))!r}, "
            'as in {"front_end": {"preset": "nemo"}} or {"front_end": {"preset": "sherpa", "stack": 1, "stride": 1}}'
        )

    def run(features: Tensor, lengths: Tensor) -> Tensor:
        output = network(features.to(device), lengths.to(device))
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits

    return foreign(spec, path, device, run, front_end, fingerprint.of_file(path), channels_first=LAYOUTS[names][1])
