"""The front end: log-mel as Kaldi, sherpa-onnx or Whisper compute it, mean subtraction, frame stacking at a low frame rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.config import check, section, setting, wrong_value
from asrkd.corpus.filterbank import Filterbank
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.whisper_filterbank import whisper_log_mel
from asrkd.errors import CorpusError

MEAN_NORMS = ("none", "utterance", "causal")
FILTERBANKS = ("kaldi", "whisper")
# The default of icefall and of sherpa-onnx; and what Whisper's encoder reads.
PRESETS: dict[str, dict[str, Any]] = {
    "study": {},
    "sherpa": {
        "num_mels": 80,
        "stack": 4,
        "stride": 4,
        "mean_norm": "none",
        "high_freq": -400.0,
        "snip_edges": False,
        "full_scale": 1.0,
    },
    "whisper": {
        "num_mels": 80,
        "stack": 1,
        "stride": 1,
        "mean_norm": "none",
        "low_freq": 0.0,
        "snip_edges": False,
        "full_scale": 1.0,
        "filterbank": "whisper",
    },
}
# Later than the first stores: left out of `to_dict` at their defaults, so that settings keep their fingerprint.
_LATER = ("snip_edges", "full_scale", "filterbank")


@dataclass(frozen=True)
class FrontEnd:
    """From samples to the features of an acoustic model.

    Kaldi's log-mel filterbank (`asrkd.corpus.filterbank`: Povey window, pre-emphasis 0.97, no
    dither) or Whisper's (`asrkd.corpus.whisper_filterbank`), mean subtraction over the utterance or causally (the
    mean of this and all earlier frames), then `stack` neighboring frames joined into one every `stride` frames.
    The default is the study's: 64 log-mel x 3 frames every 30 ms (Parthasarathi & Ström 2019, section 2).
    `FrontEnd.from_dict({"preset": "sherpa"})` is icefall's and sherpa-onnx's, 80 log-mel x 4 frames every 40 ms, and
    `{"preset": "whisper"}` Whisper's, 80 log-mel every 10 ms; further settings replace those of a preset.
    """

    sampling_rate: int = setting(16000, at_least=1)
    """Hertz."""
    num_mels: int = setting(64, at_least=4)
    """Mel bins."""
    frame_length_ms: float = setting(25.0, above=0)
    """Window, in milliseconds."""
    frame_shift_ms: float = setting(10.0, above=0)
    """From one window to the next, in milliseconds."""
    stack: int = setting(3, at_least=1)
    """Neighboring frames joined into one."""
    stride: int = setting(3, at_least=1)
    """Frames from one joined frame to the next."""
    mean_norm: str = setting("utterance", one_of=MEAN_NORMS)
    """`none`, `utterance` or `causal`. A streaming student needs `causal` or `none`."""
    low_freq: float = setting(20.0, at_least=0)
    """Lower edge of the filterbank in hertz."""
    high_freq: float = 0.0
    """Upper edge of the filterbank in hertz; 0 or less is relative to half the sampling rate."""
    snip_edges: bool = True
    """Keep windows inside the signal. False centers them on the middle of each shift (Kaldi's `snip-edges=false`), or for Whisper on its beginning, and mirrors the signal at its ends."""
    full_scale: float = setting(32768.0, above=0)
    """What a sample of 1.0 counts as before the floor of the logarithm: 32768 (Kaldi) or 1 (icefall, sherpa-onnx)."""
    filterbank: str = setting("kaldi", one_of=FILTERBANKS)
    """`kaldi` or `whisper`."""

    def __post_init__(self) -> None:
        check(self, "front_end")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.filterbank == "whisper" and (self.snip_edges or self.full_scale != 1.0):
            yield (
                "filterbank",
                f"is 'whisper' with snip_edges {self.snip_edges} and full_scale {self.full_scale}, but Whisper centers its windows and takes samples "
                "in -1..1; begin with `preset: whisper`",
            )
        for key, least in (("frame_length_ms", 2), ("frame_shift_ms", 1)):
            if (samples := self._samples(getattr(self, key))) < least:
                yield (
                    key,
                    f"is {getattr(self, key)}, which is {samples} samples at {self.sampling_rate} Hz, but must be at least {least}",
                )
        low, high = self.band
        if not 0 <= low < high <= self.sampling_rate / 2:
            yield (
                "high_freq" if high != self.sampling_rate / 2 else "low_freq",
                f"low_freq {self.low_freq} and high_freq {self.high_freq} make the band {low}..{high} Hz, which must lie within "
                f"0..{self.sampling_rate / 2} Hz, half the sampling rate",
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontEnd:
        """The inverse of `to_dict`, or the settings of a `preset` with others in place of some.

        Raises:
            ConfigError: an unknown key, or a value that cannot be used.
        """
        preset = values.get("preset", "study")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise wrong_value("preset", f"must be one of {', '.join(PRESETS)}, not {preset!r}", "front_end")
        others = {name: value for name, value in values.items() if name != "preset"}
        return section(cls, PRESETS[preset] | others, "front_end")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as written into a store's manifest."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value != _DEFAULTS[name]}

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(self.to_dict())

    @property
    def feature_dim(self) -> int:
        return self.num_mels * self.stack

    @property
    def band(self) -> tuple[float, float]:
        """Edges of the filterbank in hertz."""
        return self.low_freq, self.high_freq if self.high_freq > 0 else self.sampling_rate / 2 + self.high_freq

    def _samples(self, milliseconds: float) -> int:
        return int(self.sampling_rate * milliseconds * 0.001)

    def frame_law(self, subsampling_factor: int = 1) -> FrameLaw:
        """The frame law of this front end before a model with this subsampling factor."""
        window, shift = self._samples(self.frame_length_ms), self._samples(self.frame_shift_ms)
        begin, needed = 0, None
        if self.filterbank == "whisper":
            begin, needed = -(window // 2), 1
        elif not self.snip_edges:
            # As Kaldi's FirstSampleOfFrame and NumFrames: a window for each middle of a shift within the signal.
            begin, needed = shift // 2 - window // 2, shift - shift // 2
        return FrameLaw(window, shift, self.stack, self.stride, subsampling_factor, begin, needed)

    def __call__(self, samples: Tensor) -> Tensor:
        """Features of one utterance.

        Args:
            samples: (num_samples,) float, in -1..1, at `sampling_rate`.

        Returns:
            (T, feature_dim) float32, T = `frame_law().num_features(num_samples)`.

        Raises:
            CorpusError: the samples are not finite or not one channel.
        """
        check_samples(samples)
        return self.batch([samples])[0]

    def batch(self, utterances: Sequence[Tensor]) -> list[Tensor]:
        """Features of several utterances, on their device, the filterbank in one call: what each gives alone, but for float32 rounding.

        Args:
            utterances: (num_samples,) float each, finite (`check_samples`).

        Returns:
            For each as `__call__`.
        """
        law = self.frame_law()
        found = []
        for samples, frames in zip(utterances, log_mels(self, utterances), strict=True):
            if law.num_features(len(samples)) == 0:
                found.append(samples.new_zeros((0, self.feature_dim), dtype=torch.float32))
                continue
            found.append(stack_frames(self, subtract_mean(frames, self.mean_norm)))
            law.check(len(samples), len(found[-1]), what="the front end's output")
        return found


_DEFAULTS = {each.name: each.default for each in fields(FrontEnd)}


def log_mel(front_end: FrontEnd, samples: Tensor) -> Tensor:
    """`log_mels` of one utterance."""
    return log_mels(front_end, [samples])[0]


def log_mels(front_end: FrontEnd, utterances: Sequence[Tensor]) -> list[Tensor]:
    """Of each utterance (num_samples,) the log-mel energies (num_windows, num_mels), before mean subtraction and stacking."""
    law = front_end.frame_law()
    with torch.no_grad():
        if front_end.filterbank == "whisper":
            return [
                whisper_log_mel(
                    samples,
                    sampling_rate=front_end.sampling_rate,
                    window=law.window,
                    shift=law.shift,
                    num_mels=front_end.num_mels,
                    band=front_end.band,
                )
                for samples in utterances
            ]
        counts = [law.num_windows(len(samples)) for samples in utterances]
        framed = [
            samples if front_end.snip_edges or not count else _with_edges(law, samples, count)
            for samples, count in zip(utterances, counts, strict=True)
        ]
        if len(framed) < 2:
            return [log_mel_inside(front_end, samples) for samples in framed]
        # One after another, each from a whole number of shifts on. Windows that reach from one into the next are computed and left out.
        starts = np.cumsum([0, *(-(-len(samples) // law.shift) for samples in framed)])
        joined = torch.zeros(int(starts[-1]) * law.shift + law.window, device=framed[0].device)
        for start, samples in zip(starts, framed, strict=False):
            joined[start * law.shift : start * law.shift + len(samples)] = samples
        energies = log_mel_inside(front_end, joined)
        return [energies[start : start + count] for start, count in zip(starts, counts, strict=False)]


def _with_edges(law: FrameLaw, samples: Tensor, count: int) -> Tensor:
    """The samples, mirrored at both ends so far that `count` windows lie inside."""
    behind = law.begin + (count - 1) * law.shift + law.window - len(samples)
    return mirrored(samples, -law.begin, behind)


def log_mel_inside(front_end: FrontEnd, samples: Tensor) -> Tensor:
    """Kaldi's log-mel energies (num_windows, num_mels) of the windows that lie inside (num_samples,) samples."""
    law = front_end.frame_law()
    return Filterbank(
        front_end.sampling_rate,
        law.window,
        law.shift,
        front_end.num_mels,
        front_end.low_freq,
        front_end.high_freq,
        front_end.full_scale,
    )(samples)


def mirrored(samples: Tensor, before: int, behind: int) -> Tensor:
    """Samples (at least one) with as many mirrored ones before and behind them; a negative number takes as many away.

    The last sample is repeated, and a short signal is mirrored again and again (Kaldi's `ExtractWindow`).
    """
    period = 2 * len(samples)
    places = torch.arange(-before, len(samples) + behind, device=samples.device) % period
    return samples[torch.where(places < len(samples), places, period - 1 - places)]


def stack_frames(front_end: FrontEnd, frames: Tensor) -> Tensor:
    """(num_windows, num_mels) -> (T, feature_dim): neighbors joined, in time order within each joined frame."""
    if len(frames) < front_end.stack:
        return frames.new_zeros(0, front_end.feature_dim)
    joined = frames.unfold(0, front_end.stack, front_end.stride).transpose(1, 2)
    return joined.reshape(-1, front_end.feature_dim).contiguous()


def subtract_mean(features: Tensor, mean_norm: str) -> Tensor:
    """Subtract the mean over time: of all frames, or (`causal`) of this and all earlier frames. (T, F) -> (T, F)."""
    if mean_norm == "utterance":
        return features - features.mean(dim=0, keepdim=True)
    if mean_norm == "causal":
        return subtract_causal_mean(features[None], causal_mean_state(1, features.shape[1], features.device))[0][0]
    return features


def causal_mean_state(batch_size: int, num_bins: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The state of `subtract_causal_mean` before the first frame: sums (N, F) float64 and frames so far (N,) int64."""
    sums = torch.zeros(batch_size, num_bins, dtype=torch.float64, device=device)
    return sums, torch.zeros(batch_size, dtype=torch.int64, device=device)


def subtract_causal_mean(frames: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Subtract the mean of this and all earlier frames. (N, T, F) -> (N, T, F), and the state for the frames that follow.

    The state is tensors alone with the batch first, as that of a streaming model, and any chunking gives the same but for rounding.
    """
    sums, counts = state
    running = frames.to(torch.float64).cumsum(dim=1).add_(sums[:, None])
    after = running[:, -1].clone() if frames.shape[1] else sums
    upto = counts[:, None] + torch.arange(1, frames.shape[1] + 1, device=frames.device)
    # In place: this is computed for every utterance that a student reads as audio.
    return frames - running.div_(upto[..., None]).to(frames.dtype), (after, counts + frames.shape[1])


def check_samples(samples: Tensor) -> None:
    """Raise `CorpusError` if samples are of more than one channel, or not finite."""
    if samples.dim() != 1:
        raise CorpusError(f"the front end takes one channel of samples, not an array of shape {tuple(samples.shape)}")
    # The sum of samples within -1..1 is finite, unless one of them is not.
    if not bool(torch.isfinite(samples.sum())):
        raise CorpusError("the audio holds samples that are NaN or infinite; repair or leave out the recording")
