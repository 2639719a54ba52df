"""Uniform numbers that are a pure function of a key and a counter, the same on every device and in every batch."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

# SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), as signed 64-bit constants.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


def utterance_key(utterance_id: str, teacher_fingerprint: str) -> int:
    """64 bits (signed) that stand for an utterance labeled by a teacher."""
    digest = hashlib.sha256(f"{teacher_fingerprint}\n{utterance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def frame_keys(utterance_id: str, teacher_fingerprint: str, num_frames: int, device: torch.device) -> Tensor:
    """(T,) int64: a key for each frame of an utterance."""
    start = utterance_key(utterance_id, teacher_fingerprint)
    return _mix(torch.arange(1, num_frames + 1, device=device) * _GAMMA + start)


def uniforms(keys: Tensor, count: int) -> Tensor:
    """(M,) int64 keys -> (M, count) float64 in [0, 1): the first numbers of each key's SplitMix64 sequence."""
    counter = torch.arange(1, count + 1, device=keys.device) * _GAMMA
    bits = _shift(_mix(keys[:, None] + counter), 11)
    return bits.double() / (1 << 53)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
