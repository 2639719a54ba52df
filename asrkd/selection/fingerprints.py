"""Audio fingerprints: of the very samples, and one that a copy in another format keeps.

The second follows Haitsma and Kalker (2002): signs of differences of band energies, in time and between bands. A clip is cut into equal stretches, so that its fingerprint has a
fixed size; copies that were trimmed are not found.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

RATE = 8000  # so that a copy of telephone bandwidth is found, too
_HOP, _SIZE = 128, 512
# Bands, Hz; and stretches: 32 x 16 signs.
_LOW, _HIGH, _BANDS, _STRETCHES = 200.0, 3400.0, 17, 33
# What is quieter than the clip's mean by more than this is not a sound that a codec keeps.
_FLOOR = 1e-3
_EDGES = np.round(np.geomspace(_LOW, _HIGH, _BANDS + 1) * _SIZE / RATE).astype(int)


class BandEnergies:
    """Energies of the bands of a clip at `RATE`, block by block."""

    def __init__(self) -> None:
        self._held = np.zeros(0, np.float32)
        self._parts: list[NDArray[np.float32]] = []
        self._window = torch.hann_window(_SIZE)

    def accept(self, samples: NDArray[np.float32]) -> None:
        held = np.concatenate([self._held, samples])
        count = (len(held) - _SIZE) // _HOP + 1
        if count < 1:
            self._held = held
            return
        frames = torch.from_numpy(held).unfold(0, _SIZE, _HOP)[:count]
        power = torch.fft.rfft(frames * self._window).abs().square().numpy()
        self._parts.append(np.add.reduceat(power, _EDGES[:-1], axis=1).astype(np.float32))
        self._held = held[count * _HOP :]

    def fingerprint(self) -> bytes:
        """64 bytes of signs and 64 bytes that say which of them are sure; empty for a clip of under 33 frames (0.6 s)."""
        energies = np.concatenate(self._parts) if self._parts else np.zeros((0, _BANDS), np.float32)
        if len(energies) < _STRETCHES:
            return b""
        begins = np.arange(_STRETCHES) * len(energies) // _STRETCHES
        means = np.add.reduceat(energies, begins, axis=0) / np.diff([*begins, len(energies)])[:, None]
        logs = np.log(means + _FLOOR * means.mean() + 1e-12)
        steps = np.diff(np.diff(logs, axis=1), axis=0)
        # A re-encoding moves a difference by some tenths.
        return np.packbits(steps > 0).tobytes() + np.packbits(np.abs(steps) > 0.3).tobytes()


@dataclass
class _Bucket:
    """Clips of about one length: their fingerprints and ids."""

    prints: NDArray[np.uint8]
    keys: list[str]
    seconds: NDArray[np.float64]


class Duplicates:
    """Finds clips that were there before; holds about 250 bytes of each.

    A fingerprint is compared with those of all clips that are as long to `SECONDS`: time grows with their number.
    """

    # Encoders add or take away some milliseconds at the ends.
    SECONDS = 0.08
    # Of the signs that are sure in both, how many may differ, and how many there must be.
    SHARE, SURE = 0.05, 64

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._buckets: dict[int, _Bucket] = defaultdict(lambda: _Bucket(np.zeros((4, 128), np.uint8), [], np.zeros(4)))

    def first_like(self, key: str, seconds: float, samples_hash: str, fingerprint: bytes) -> str:
        """The id of the first clip that this one is a copy of, which is empty if it is not one; and remember this one."""
        if samples_hash in self._exact:
            return self._exact[samples_hash]
        found = self._similar(seconds, fingerprint) if fingerprint else ""
        self._exact[samples_hash] = found or key
        if fingerprint and not found:
            self._add(key, seconds, fingerprint)
        return found

    def _similar(self, seconds: float, fingerprint: bytes) -> str:
        own = np.frombuffer(fingerprint, np.uint8)
        best, best_share = "", self.SHARE
        for number in range(self._bucket(seconds - self.SECONDS), self._bucket(seconds + self.SECONDS) + 1):
            if number not in self._buckets:
                continue
            bucket = self._buckets[number]
            count = len(bucket.keys)
            near = np.flatnonzero(np.abs(bucket.seconds[:count] - seconds) <= self.SECONDS)
            others = bucket.prints[near]
            sure = others[:, 64:] & own[64:]
            total = np.bitwise_count(sure).sum(axis=1)
            differ = np.bitwise_count((others[:, :64] ^ own[:64]) & sure).sum(axis=1)
            shares = np.where(total >= self.SURE, differ / np.maximum(total, 1), 1.0)
            if len(shares) and shares.min() < best_share:
                best, best_share = bucket.keys[near[int(shares.argmin())]], float(shares.min())
        return best

    def _add(self, key: str, seconds: float, fingerprint: bytes) -> None:
        bucket = self._buckets[self._bucket(seconds)]
        count = len(bucket.keys)
        if count == len(bucket.prints):
            bucket.prints = np.concatenate([bucket.prints, np.zeros_like(bucket.prints)])
            bucket.seconds = np.concatenate([bucket.seconds, np.zeros_like(bucket.seconds)])
        bucket.prints[count] = np.frombuffer(fingerprint, np.uint8)
        bucket.seconds[count] = seconds
        bucket.keys.append(key)

    @staticmethod
    def _bucket(seconds: float) -> int:
        return int(seconds * 10)
