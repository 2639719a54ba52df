"""The precision of a forward pass."""

from __future__ import annotations

import time
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


def slowdown(precision: str, device: torch.device) -> float:
    """How many times as long as in float32 a product of matrices (256 x 256) takes in this precision: below 1 with instructions for it, some tens on a CPU without."""
    return _seconds(PRECISIONS[precision] or torch.float32, device) / _seconds(torch.float32, device)


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    factor = torch.ones(256, 256, dtype=dtype, device=device)
    found = []
    for _ in range(4):
        start = time.perf_counter()
        # The value waits for the device.
        (factor @ factor)[0, 0].item()
        found.append(time.perf_counter() - start)
    return min(found)


def why_slow(precision: str, device: torch.device) -> str:
    """What to tell a user whose device has no instructions for a precision; nothing where it has."""
    if PRECISIONS[precision] is None or (times := slowdown(precision, device)) < 2:
        return ""
    return (
        f"{device} multiplies matrices {times:.0f} times slower in {precision} than in float32, so this will take longer, not less; set the precision "
        "(scale.precision, in a study teacher.precision and student.precision) to float32"
    )
