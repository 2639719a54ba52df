"""One cut measured: level, peak, clipping, signal to noise, fingerprints."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.corpus.cut_json import CutJson, to_cut
from asrkd.corpus.resampler import StreamResampler
from asrkd.errors import CorpusError, ModelError
from asrkd.segmentation.activity import level_db
from asrkd.segmentation.samples import blocks
from asrkd.selection.fingerprints import RATE, BandEnergies
from asrkd.selection.spoken_language import SpokenLanguage, spoken_language

# From here on a sample is at full scale, both of 16-bit audio and of what lossy codecs make of it.
_FULL_SCALE = 0.999
_QUIETEST = -120.0
# Of a cut, to find out its language: what Whisper reads at a time.
_BEGINNING_SECONDS = 30


@dataclass(frozen=True)
class MeasuredCut:
    """What was found in the audio of a cut.

    Attributes:
        cut: in lhotse's JSON form.
        level_dbfs, peak_dbfs: root of the mean square, and the greatest sample, in decibels of full scale (at least -120).
        clipping: share of the samples at full scale.
        snr_db: by how much the 95th percentile of levels (of 512 samples) is above the 10th: an estimate of the ratio of signal to noise.
        samples_hash: of the samples of the mean of the channels, with 16 bits: equal in copies without losses.
        fingerprint: see `asrkd.selection.fingerprints`.
        language: that is spoken; None where no model was asked.
        unreadable: why it could not be measured; empty if it could.
    """

    cut: CutJson
    level_dbfs: float = _QUIETEST
    peak_dbfs: float = _QUIETEST
    clipping: float = 0.0
    snr_db: float = 0.0
    samples_hash: str = ""
    fingerprint: bytes = b""
    language: SpokenLanguage | None = None
    unreadable: str = ""


def measure_cut(cut: CutJson, language_model: str = "") -> MeasuredCut:
    """Measure a cut block by block, at its own sampling rate.

    Args:
        language_model: spec of the text teacher that says which language is spoken (`asrkd.selection.spoken_language`); empty to ask none.
    """
    if "unreadable" in cut:
        return MeasuredCut(cut, unreadable=cut["unreadable"])
    digest, energies, levels = hashlib.sha256(), BandEnergies(), []
    beginning: list[NDArray[np.float32]] = []
    square, count, clipped, peak = 0.0, 0, 0, 0.0
    try:
        readable = to_cut(cut)
        rate = readable.sampling_rate
        resampler = StreamResampler(rate, RATE)
        for block in blocks(readable, rate):
            magnitude = np.abs(block)
            peak = max(peak, float(magnitude.max(initial=0.0)))
            clipped += int((magnitude >= _FULL_SCALE).sum())
            square += float(np.square(block, dtype=np.float64).sum())
            count += len(block)
            digest.update(np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2").tobytes())
            levels.append(level_db(iter([block])))
            if language_model and sum(map(len, beginning)) < _BEGINNING_SECONDS * rate:
                beginning.append(block)
            energies.accept(resampler.accept(torch.from_numpy(block)).numpy())
        energies.accept(resampler.finish().numpy())
        language = spoken_language(np.concatenate(beginning), rate, language_model) if language_model else None
    except (CorpusError, ModelError) as error:  # also what the model cannot take is a fault of this cut alone
        return MeasuredCut(cut, unreadable=" ".join(str(error).split()))
    low, high = np.percentile(np.concatenate(levels), [10, 95]) if count else (_QUIETEST, _QUIETEST)
    digest.update(str(rate).encode())
    return MeasuredCut(
        cut,
        _decibels(np.sqrt(square / max(count, 1))),
        _decibels(peak),
        clipped / max(count, 1),
        round(float(high - low), 1),
        digest.hexdigest()[:32],
        energies.fingerprint(),
        language,
    )


def _decibels(amplitude: float) -> float:
    return round(max(_QUIETEST, 20.0 * float(np.log10(max(amplitude, 1e-12)))), 1)
