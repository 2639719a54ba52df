"""lhotse reads files through `asrkd.corpus.sound`: to the sample, and never less than was asked for.

lhotse's own backends seek in MP3 as libsndfile does, and lhotse fills up to half a second that a file lacks. What it resamples, also to
change the speed, follows the rule of `asrkd.corpus.resampler`.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from lhotse.audio import backend as lhotse_backends
from lhotse.augmentation import torchaudio as lhotse_resampling
from lhotse.utils import compute_num_samples
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.resampler import is_sparse, sparse_resampler
from asrkd.corpus.sound import UnknownFormat, open_sound

# Seconds by which times that were rounded (to milliseconds) may lie beyond the end of a recording.
TOLERANCE = 0.001


class SoundBackend(lhotse_backends.AudioBackend):
    """Files and bytes by `open_sound`; what libsndfile does not know by lhotse's other backends (FFmpeg, sph2pipe)."""

    def __init__(self) -> None:
        self._others = lhotse_backends.get_default_audio_backend()

    def read_audio(
        self,
        path_or_fd: Any,
        offset: float = 0.0,
        duration: float | None = None,
        force_opus_sampling_rate: int | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """(channels, samples) float32 and their sampling rate."""
        source = path_or_fd.getvalue() if isinstance(path_or_fd, BytesIO) else path_or_fd
        if not isinstance(source, bytes) and ".tar/" in str(source):  # a file within a tar file, lhotse's own way
            return self._others.read_audio(path_or_fd, offset, duration, force_opus_sampling_rate)
        try:
            sound = open_sound(source)
        except UnknownFormat:
            return self._others.read_audio(path_or_fd, offset, duration, force_opus_sampling_rate)
        rate = sound.sampling_rate
        start = compute_num_samples(offset, rate) if offset > 0 else 0
        there = max(0, sound.num_samples - start)
        count = there if duration is None else compute_num_samples(duration, rate)
        if there < count <= there + max(1, round(TOLERANCE * rate)):
            count = there
        return sound.read(start, count), rate

    def info(self, path_or_fd: Any, force_opus_sampling_rate: int | None = None) -> Any:
        return self._others.info(path_or_fd, force_opus_sampling_rate)

    def supports_info(self) -> bool:
        return True

    def supports_save(self) -> bool:
        return True

    def save_audio(self, *args: Any, **kwargs: Any) -> None:
        self._others.save_audio(*args, **kwargs)


_BACKEND = SoundBackend()
_lhotse_resampler = lhotse_resampling.get_or_create_resampler


def _bounded_resampler(native: int, sampling_rate: int) -> Callable[[Tensor], Tensor]:
    if is_sparse(native, sampling_rate):
        return sparse_resampler(native, sampling_rate)
    resampler: Callable[[Tensor], Tensor] = _lhotse_resampler(native, sampling_rate)
    return resampler


def use_sound_backend() -> None:
    """Let lhotse read through `SoundBackend`, unless a user chose a backend of lhotse's by name, and resample in bounded memory."""
    lhotse_resampling.get_or_create_resampler = _bounded_resampler
    if isinstance(lhotse_backends.get_current_audio_backend(), lhotse_backends.CompositeAudioBackend):
        lhotse_backends.set_current_audio_backend(_BACKEND)
