"""The front end: Kaldi-compatible log-mel, mean subtraction, frame stacking at a low frame rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.corpus.filterbank import Filterbank
from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, CorpusError

MEAN_NORMS = ("none", "utterance", "causal")


@dataclass(frozen=True)
class FrontEnd:
    """From samples to the features of an acoustic model.

    Kaldi's log-mel filterbank (`asrkd.corpus.filterbank`: Povey window, pre-emphasis 0.97, no
    dither), mean subtraction over the utterance or causally (the mean of this and all earlier frames),
    then `stack` neighboring frames joined into one every `stride` frames. The default is the study's:
    64 log-mel x 3 frames every 30 ms (Parthasarathi & Ström 2019, section 2).

    Attributes:
        sampling_rate: hertz.
        num_mels: mel bins.
        frame_length_ms, frame_shift_ms: window and shift, in milliseconds.
        stack, stride: frames joined, and frames from one joined frame to the next.
        mean_norm: `none`, `utterance` or `causal`. A streaming student needs `causal` or `none`.
        low_freq, high_freq: edges of the filterbank in hertz; a `high_freq` of 0 or less is relative to Nyquist.
    """

    sampling_rate: int = 16000
    num_mels: int = 64
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    stack: int = 3
    stride: int = 3
    mean_norm: str = "utterance"
    low_freq: float = 20.0
    high_freq: float = 0.0

    def __post_init__(self) -> None:
        if self.mean_norm not in MEAN_NORMS:
            raise ConfigError(f"mean_norm is {self.mean_norm!r}, but must be one of {', '.join(MEAN_NORMS)}")
        for name in ("sampling_rate", "num_mels", "frame_length_ms", "frame_shift_ms", "stack", "stride"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"front end: {name} is {getattr(self, name)}, but must be above 0")
        # 25 and 25.0 are equal settings and must have one fingerprint.
        for name in ("frame_length_ms", "frame_shift_ms", "low_freq", "high_freq"):
            object.__setattr__(self, name, float(getattr(self, name)))
        law = self.frame_law()
        if law.window < 2:
            raise ConfigError(
                f"front end: frame_length_ms is {self.frame_length_ms}, which is {law.window} samples at "
                f"{self.sampling_rate} Hz; a window needs at least 2"
            )
        if self.num_mels < 4:
            raise ConfigError(f"front end: num_mels is {self.num_mels}, but a filterbank needs at least 4 mel bins")
        low, high = self.band
        if not 0 <= low < high <= self.sampling_rate / 2:
            raise ConfigError(
                f"front end: low_freq {self.low_freq} and high_freq {self.high_freq} make the band {low}..{high} "
                f"Hz, which must lie within 0..{self.sampling_rate / 2} Hz, half the sampling rate"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrontEnd:
        """The inverse of `to_dict`; refuses unknown keys."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"front end {dict(values)!r} cannot be used: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as written into a store's manifest."""
        return asdict(self)

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

    def frame_law(self, subsampling_factor: int = 1) -> FrameLaw:
        """The frame law of this front end before a model with this subsampling factor."""
        return FrameLaw(
            window=int(self.sampling_rate * self.frame_length_ms * 0.001),
            shift=int(self.sampling_rate * self.frame_shift_ms * 0.001),
            stack=self.stack,
            stride=self.stride,
            subsampling_factor=subsampling_factor,
        )

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
        law = self.frame_law()
        if law.num_features(len(samples)) == 0:
            return samples.new_zeros((0, self.feature_dim), dtype=torch.float32)
        stacked = stack_frames(self, subtract_mean(log_mel(self, samples), self.mean_norm))
        law.check(len(samples), len(stacked), what="the front end's output")
        return stacked


def log_mel(front_end: FrontEnd, samples: Tensor) -> Tensor:
    """(num_samples,) -> (num_windows, num_mels) log-mel energies, before mean subtraction and stacking."""
    law = front_end.frame_law()
    filterbank = Filterbank(
        front_end.sampling_rate,
        law.window,
        law.shift,
        front_end.num_mels,
        front_end.low_freq,
        front_end.high_freq,
    )
    with torch.no_grad():
        return filterbank(samples)


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
