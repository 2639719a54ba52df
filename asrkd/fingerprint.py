"""Hashes that bind data to what produced it.

A fingerprint is the first 32 hexadecimal digits (128 bits) of a SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_DIGITS = 32


def of_bytes(data: bytes | memoryview) -> str:
    """Fingerprint of a byte string."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def of_json(value: Any) -> str:
    """Fingerprint of a JSON-serialisable value, independent of key order."""
    return of_bytes(canonical_json(value).encode())


def of_file(path: str | Path) -> str:
    """Fingerprint of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:_DIGITS]


def of_state_dict(state: Mapping[str, torch.Tensor]) -> str:
    """Fingerprint of a model's weights: names, dtypes, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]
