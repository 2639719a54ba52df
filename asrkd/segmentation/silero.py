"""Silero VAD: the model that comes with the package silero-vad, run by onnxruntime over blocks of frames."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import ConfigError

SAMPLING_RATE = 16000
FRAME = 512
# Samples of the frame before that the model sees with each frame.
_CONTEXT = 64
_STATE = (1, 1, 128)
# Frames of a window, 4.1 s, and those between the beginnings of two.
WINDOW, SHIFT = 128, 96


def version() -> str:
    """The version of silero-vad.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.metadata.version("silero-vad")
    except importlib.metadata.PackageNotFoundError:
        raise _missing("the package silero-vad is not installed") from None


def _missing(why: str) -> ConfigError:
    return ConfigError(
        f"vad is 'silero', but {why}; pip install 'asrkd[segment]', or take --vad energy, for which noise and music count as speech"
    )


@functools.lru_cache(maxsize=1)
def _session() -> Any:
    version()
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(f"onnxruntime cannot be imported ({error})") from None
    # Not by importing the package, which sets torch's threads.
    spec = importlib.util.find_spec("silero_vad")
    path = Path(spec.origin).parent / "data/silero_vad_16k_sequence.onnx" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise _missing(f"silero-vad {version()} does not hold the model of whole sequences, which 6.2.3 and later have")
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SileroScores:
    """The probability of speech of each frame of `FRAME` samples at `SAMPLING_RATE`, block by block of a recording.

    The model is recurrent, and after some seconds of noise or music it misses whole sentences that it finds when it starts afresh. So it
    starts afresh in windows of `WINDOW` frames, one every `SHIFT`; where two windows overlap, a frame has the higher of both probabilities.

    Raises:
        ConfigError: silero-vad or onnxruntime is missing.
    """

    def __init__(self) -> None:
        self._session = _session()
        self._held = np.zeros(0, np.float32)
        # Frames of the window that begins next, each with the end of the frame before, and the scores that the last window gave them.
        self._frames = np.zeros((0, _CONTEXT + FRAME), np.float32)
        self._known = np.zeros(0, np.float32)
        self._last = np.zeros(_CONTEXT, np.float32)

    def accept(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores that these further samples decide."""
        held = np.concatenate([self._held, samples])
        whole = len(held) // FRAME * FRAME
        self._held = held[whole:]
        if whole:
            frames = held[:whole].reshape(-1, FRAME)
            contexts = np.concatenate([self._last[None], frames[:-1, -_CONTEXT:]])
            self._last = frames[-1, -_CONTEXT:].copy()
            self._frames = np.concatenate([self._frames, np.concatenate([contexts, frames], axis=1)])
        decided = []
        begin = 0
        while len(self._frames) - begin >= WINDOW:
            scores = self._scores(self._frames[begin : begin + WINDOW])
            decided.append(scores[:SHIFT])
            self._known = scores[SHIFT:]
            begin += SHIFT
        self._frames = self._frames[begin:]
        return np.concatenate(decided) if decided else np.zeros(0, np.float32)

    def finish(self) -> NDArray[np.float32]:
        """The scores of the frames that are left; the last one is completed by silence."""
        decided = self.accept(np.zeros(FRAME - len(self._held), np.float32)) if len(self._held) else self._held
        rest = self._scores(self._frames) if len(self._frames) > len(self._known) else self._known
        return np.concatenate([decided, rest])

    def _scores(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of a window."""
        zeros = np.zeros(_STATE, np.float32)
        scores: NDArray[np.float32] = self._session.run(["speech_probs"], {"input": frames, "h": zeros, "c": zeros})[0]
        scores = scores.reshape(-1)
        scores[: len(self._known)] = np.maximum(scores[: len(self._known)], self._known)
        return scores
