"""What segments shall be like, and the fingerprint by which two segmentations are distinguished."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from asrkd import fingerprint
from asrkd.corpus.windows import GRID_SECONDS
from asrkd.errors import ConfigError

# Of each detector the score from which on a frame is speech: a probability, and 6 dB above the noise floor.
_THRESHOLDS = {"silero": 0.6, "energy": 0.3, "none": 0.3}
VADS = tuple(_THRESHOLDS)
# Raised where the same settings come to give other segments.
_RULES = 5


@dataclass(frozen=True)
class SegmentSettings:
    """Settings of a segmentation; all times are in seconds.

    Attributes:
        vad: `silero` (Silero VAD, of the package silero-vad), `energy` (louder than the noise floor; noise and music count as
            speech), or `none` (all audio is kept, cut where it is quietest).
        threshold: score from which on a frame is speech, in 0..1; speech ends 0.15 below it. None: 0.6 for `silero`, 0.3 (6 dB) for `energy`.
        min_speech: shorter bursts are not speech.
        merge: speech that lies no further apart becomes one segment.
        pad: audio kept before and after the sound that speech begins and ends with, where it does not belong to the next segment; up to half as much more or less, where it is quietest.
        min_seconds: shorter segments are widened into what surrounds them.
        max_seconds: longer ones are cut, where a speech pause is likeliest.
    """

    vad: str = "silero"
    threshold: float | None = None
    min_speech: float = 0.25
    merge: float = 0.3
    pad: float = 0.1
    min_seconds: float = 0.5
    max_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.vad not in VADS:
            raise ConfigError(f"vad is {self.vad!r}, but must be one of {', '.join(VADS)}")
        if not 0 < self.speech_threshold < 1:
            raise ConfigError(f"threshold is {self.threshold}, but must lie between 0 and 1")
        for name in ("min_speech", "merge", "pad", "min_seconds"):
            if not 0 <= getattr(self, name) < 3600:
                raise ConfigError(f"{name} is {getattr(self, name)}, but must be seconds from 0 to an hour")
        if not self.min_seconds <= self.max_seconds / 2 or not 1 <= self.max_seconds <= 7200:
            raise ConfigError(
                f"max_seconds is {self.max_seconds} and min_seconds {self.min_seconds}, but segments need a greatest length from 1 s to two "
                "hours (7200) that is at least twice the least: a longer one is cut in two"
            )
        if 2 * self.pad > self.max_seconds / 2:
            raise ConfigError(
                f"pad is {self.pad}, but must not be over a quarter of max_seconds, {self.max_seconds / 4:g}"
            )

    @property
    def fingerprint(self) -> str:
        """Of the settings and the detector's version; the first digits go into the ids of segments."""
        return fingerprint.of_json(self.to_dict())

    @property
    def speech_threshold(self) -> float:
        """The threshold, or that of the detector."""
        return _THRESHOLDS[self.vad] if self.threshold is None else self.threshold

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, with the detector's version."""
        values: dict[str, Any] = {"rules": _RULES}
        given = asdict(self) | {"threshold": self.speech_threshold}
        values |= {name: float(value) if name != "vad" else value for name, value in given.items()}
        if self.vad == "silero":
            from asrkd.segmentation.silero import version

            values["silero_vad"] = version()
        return values


@dataclass(frozen=True)
class WindowSettings:
    """Windows of a fixed length over all of a recording, each with what it owns of the audio that it shares (`asrkd.corpus.windows`).

    Attributes:
        seconds: of a window.
        overlap: seconds that a window shares with the next one, at most a quarter of a second (`GRID_SECONDS`) less or more.
    """

    seconds: float = 30.0
    overlap: float = 4.0

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 7200:
            raise ConfigError(f"windows of {self.seconds:g} s: their length must lie between 1 s and two hours (7200)")
        if not 4 * GRID_SECONDS <= self.overlap <= self.seconds / 2:
            raise ConfigError(
                f"windows that overlap by {self.overlap:g} s: the overlap must lie between {4 * GRID_SECONDS:g} s, for frames that see some of what follows, and "
                f"half of the length, {self.seconds / 2:g} s"
            )

    @property
    def fingerprint(self) -> str:
        """Of the settings; the first digits go into the ids of windows."""
        return fingerprint.of_json(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return {"windows": float(self.seconds), "overlap": float(self.overlap)}
