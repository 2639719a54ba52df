"""Audio of a page: Opus in `data:` URIs."""

from __future__ import annotations

import base64

import numpy as np
from lhotse.cut import Cut
from numpy.typing import NDArray

from asrkd.corpus.audio import read_audio
from asrkd.report.html import PlayableClip
from asrkd.store.embedding import OPUS_RATES, opus_bytes

# A clip is played from its beginning, at most this long: 15 s are about 60 kB.
SECONDS = 15.0
_RATE, _KBPS = 24000, 32
_LONG = 120


def clip_of_samples(caption: str, samples: NDArray[np.float32], rate: int) -> PlayableClip | None:
    """(num_samples,) in -1..1; None at a rate that Opus does not take."""
    return PlayableClip(caption, _uri(samples[: int(SECONDS * rate)], rate)) if rate in OPUS_RATES else None


def clip_of_cut(caption: str, cut: Cut) -> PlayableClip:
    """The beginning of a cut.

    Raises:
        CorpusError: its audio cannot be read.
    """
    cut = cut.truncate(duration=SECONDS) if cut.duration > SECONDS else cut
    return PlayableClip(caption, _uri(read_audio(cut, _RATE), _RATE))


def _uri(samples: NDArray[np.float32], rate: int) -> str:
    rounded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return "data:audio/ogg;base64," + base64.b64encode(opus_bytes(rounded, rate, _KBPS)).decode()


def shortened(text: str, most: int = _LONG) -> str:
    """A text that fits a caption."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
