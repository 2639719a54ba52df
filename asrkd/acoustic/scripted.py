"""Models as TorchScript modules."""

from __future__ import annotations

import torch

from asrkd import fingerprint
from asrkd.acoustic.description import read_description
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity, one_line
from asrkd.errors import ModelError


@kind("torchscript:PATH", "A TorchScript module, described by PATH.json beside it.")
def torchscript(request: Request) -> AcousticModel:
    """Raises `ModelError` for a module or a description that cannot be used."""
    spec, path = request.spec, request.path
    front_end, inventory, factor, log_prior, tokenizer = read_description(spec, path)
    try:
        network = torch.jit.load(str(path), map_location=request.device).eval()
        identified = identity(fingerprint.of_file(path), "torchscript", front_end, inventory, factor)
    except Exception as error:  # torch.jit reads no checkpoint, names operators that it does not know, and more
        raise ModelError(
            f"model {spec!r}: torch {torch.__version__} cannot load {str(path)!r} as TorchScript ({one_line(error)}); give what "
            "torch.jit.save wrote, for this version of torch"
        ) from None
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
