"""The precision of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from asrkd.errors import ConfigError

PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, models compute in this precision where that is safe.

    Raises:
        ConfigError: the model cannot run in it here.
    """
    dtype = PRECISIONS[precision]
    if dtype is None:
        yield
        return
    try:
        with torch.autocast(device.type, dtype):
            yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"the model cannot run in {precision} on {device} ({reason}); LSTMs on a CPU need one with instructions for it. Set "
            "scale.precision to float32"
        ) from error
