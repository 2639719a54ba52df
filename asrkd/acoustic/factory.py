"""Models of a user's own code."""

from __future__ import annotations

import dataclasses

from torch import nn

from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel
from asrkd.callables import find_callable
from asrkd.errors import AsrkdError, ConfigError, ModelError, one_line


@kind("python:package.module:factory", "A function of your own that returns an asrkd.acoustic.AcousticModel.")
def python(request: Request) -> AcousticModel:
    """Raises `ModelError` for a factory that cannot be found, fails, or returns something else."""
    spec, device = request.spec, request.device
    try:
        make = find_callable(request.argument, what="factory")
    except ConfigError as error:
        raise ModelError(f"model {spec!r}: {error}") from None
    try:
        model = make()
    except AsrkdError:
        raise
    except Exception as error:  # it is the user's code
        raise ModelError(f"model {spec!r}: the factory fails ({one_line(error)}); correct it") from error
    if not isinstance(model, AcousticModel):
        raise ModelError(
            f"model {spec!r}: the factory returns a {type(model).__name__}, not an asrkd.acoustic.AcousticModel"
        )
    # What a factory says of itself is tried all the same.
    model = dataclasses.replace(model, spec=spec, own=False)
    if isinstance(model.network, nn.Module):
        return dataclasses.replace(model, network=model.network.eval().to(device), device=device)
    if model.device != device:
        raise ModelError(
            f"model {spec!r} runs on {model.device!r} and cannot be moved to {device!r}: its network is not a torch.nn.Module"
        )
    return model
