"""Speech from text: a `ctypes` binding to the eSpeak NG library that the `espeakng-loader` wheel brings.

The library holds one voice and one set of parameters for the whole process, so every call sets all of them, under a
lock. C interface: https://github.com/espeak-ng/espeak-ng/blob/1.52.0/src/include/espeak-ng/speak_lib.h
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.errors import ConfigError, DependencyError

ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-scotland",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-029",
)
_VARIANTS = (
    *("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8"),
    *("Alicia", "Andrea", "Andy", "Annie", "Denis", "Marco", "Michael", "anika", "grandma", "grandpa", "linda"),
    *("rob", "steph", "travis", "victor"),
)
# Constants of speak_lib.h.
_SYNCHRONOUS = 2  # samples go to the callback, and espeak_Synth returns when the text is spoken
_DONT_EXIT = 0x8000  # report missing data instead of ending the process
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE, _WORD_GAP = 1, 2, 3, 4, 7
_LIMITS = {"rate": (80, 450), "pitch": (0, 99), "pitch_range": (0, 99), "word_gap": (0, 100)}
# The library seeds its own generator from the clock.
_SEED = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_LOCK = threading.Lock()


class Espeak:
    """The voices of eSpeak NG, a `Synthesizer`: accents of English, each with its variants."""

    name = "espeak"
    voices: Mapping[str, Sequence[str]] = {
        accent: [f"{accent}+{variant}" for variant in _VARIANTS] for accent in ACCENTS
    }

    def unknown_words(self, text: str) -> Sequence[str]:
        return ()

    def speak(
        self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int
    ) -> tuple[NDArray[np.float32], int]:
        samples, native = synthesize(text, voice, rate=rate, pitch=pitch, pitch_range=pitch_range)
        return samples.astype(np.float32) / 32768.0, native


def _open() -> tuple[Any, bytes]:
    """The library, not initialized, and the folder of its data."""
    try:
        import espeakng_loader
    except ImportError:
        raise DependencyError(
            "the package 'espeakng-loader' is not installed, so no speech can be synthesized for the demo; "
            "run: pip install 'asrkd[demo]'"
        ) from None
    path = espeakng_loader.get_library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise DependencyError(
            f"the eSpeak NG library {path!r} cannot be loaded ({error}); run: pip install --force-reinstall 'asrkd[demo]'"
        ) from None
    library.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library, espeakng_loader.get_data_path().encode()


def synthesize(
    text: str, voice: str, *, rate: int = 170, pitch: int = 50, pitch_range: int = 50, word_gap: int = 0
) -> tuple[NDArray[np.int16], int]:
    """Speak `text`; the same arguments always give the same samples.

    Args:
        text: at least one word.
        voice: a voice of eSpeak NG, with or without a variant: `en-us`, `en-gb-scotland+f2` (British English is `en`).
        rate: words a minute, 80..450.
        pitch, pitch_range: base and variation of the fundamental frequency, 0..99, 50 is the voice's own.
        word_gap: pause between words, 0..100 units of 10 ms (at the library's normal rate), on top of the voice's own.

    Returns:
        Samples (num_samples,) int16, and their sampling rate in hertz.

    Raises:
        ConfigError: no such voice or variant, a value out of range, or nothing to say.
        DependencyError: the library is missing or does not start.
    """
    for (name, (low, high)), value in zip(_LIMITS.items(), (rate, pitch, pitch_range, word_gap), strict=True):
        if not low <= value <= high:
            raise ConfigError(f"synthesis: {name} is {value}, but must be within {low}..{high}")
    if not text.strip() or "\0" in text + voice:
        raise ConfigError(f"synthesis: the text {text!r} has nothing to say; give at least one word")
    parameters = ((_RATE, rate), (_VOLUME, 100), (_PITCH, pitch), (_RANGE, pitch_range), (_WORD_GAP, word_gap))
    with _LOCK:
        library, data = _open()
        try:
            _check_variant(data, voice)
            return _speak(library, data, text, voice, parameters)
        finally:
            _close(library)


def _check_variant(data: bytes, voice: str) -> None:
    """The library speaks an unknown variant as the plain voice, so two speakers would quietly be one."""
    _, plus, variant = voice.partition("+")
    variants = Path(data.decode()) / "voices" / "!v"
    if plus and variant not in (file.name for file in variants.iterdir()):
        raise ConfigError(
            f"eSpeak NG has no variant {variant!r}, so {voice!r} would sound like the plain voice; "
            "`f2`, `m3` and `whisper` are examples of variants"
        )


def _close(library: Any) -> None:
    """Unload the library: the phases of its oscillators and filters are C statics that outlive `espeak_Terminate`."""
    close = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary")  # noqa: B009 (absent on the other)
    close(library._handle)


def _speak(
    library: Any, data: bytes, text: str, voice: str, parameters: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.int16], int]:
    sampling_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
    if sampling_rate <= 0:
        raise DependencyError(
            f"eSpeak NG does not start with its data in {data.decode()!r}; if that path has more than 150 characters, "
            "install into a shorter one, else run: pip install --force-reinstall 'asrkd[demo]'"
        )
    chunks: list[NDArray[np.int16]] = []

    def receive(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    callback = _CALLBACK(receive)  # a name of its own: the library keeps only the address
    try:
        library.espeak_ng_SetRandSeed(_SEED)
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ConfigError(
                f"eSpeak NG has no voice {voice!r}; `en-us` and `en-gb-scotland+f2` are examples of voices"
            )
        for parameter, value in parameters:
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode()
        status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        library.espeak_Synchronize()
    finally:
        library.espeak_Terminate()
    if status != 0 or not chunks:
        raise ConfigError(f"eSpeak NG spoke nothing for the text {text!r} (status {status}); give words of the voice")
    return np.concatenate(chunks), sampling_rate
