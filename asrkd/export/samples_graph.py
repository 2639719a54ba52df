"""Samples in, logits out: a streaming model with its front end as one graph, for runtimes without a filterbank."""

from __future__ import annotations

from typing import Any

import torch
from lhotse.features.kaldi.layers import create_frame_window, get_mel_banks, next_power_of_2
from torch import Tensor, nn
from torch.nn import functional

from asrkd.corpus.filterbank import FLOOR, PREEMPHASIS
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError
from asrkd.export.graphs import exportable, less_causal_mean


class SamplesGraph(nn.Module):
    """A chunk of samples and the state -> logits and the next state.

    samples (N, S), S a multiple of `samples_per_chunk`; real (N, S / frame_shift): 1 for a frame of the utterance, 0 for one after its end,
    which the model reads as zeros, as it does in training; the state -> logits (N, S / frame_shift, V) and the next state.

    The state begins with the samples that the next window shares with this one, (N, window - shift): at the start the first ones of the signal,
    which are mirrored before its beginning where the front end does so (`FrameLaw.begin`). Then the frames of the model's left padding, with
    `mean_norm: causal` the sum of all windows and their number, and the model's own state. All but the samples begin with zeros.

    Logits come late by the model's `output_delay` frames.

    Args:
        model: streams.
        front_end: Kaldi's filterbank; stack and stride are alike, and the mean is not that of the utterance.

    Attributes:
        frame_shift: samples a frame.
        samples_per_chunk: the least samples that the model reads at a time.

    Raises:
        ConfigError: a front end that cannot be in a graph of chunks.
    """

    model: Any

    def __init__(self, model: nn.Module, front_end: FrontEnd) -> None:
        super().__init__()
        _check(front_end)
        self.model = exportable(model)
        law = front_end.frame_law()
        self.shift, self.overlap = law.shift, law.window - law.shift
        self.stack, self.num_mels = front_end.stack, front_end.num_mels
        self.causal_mean = front_end.mean_norm == "causal"
        self.frame_shift = law.frame_shift
        self.samples_per_chunk = law.frame_shift * self.model.chunk_frames
        transform, filters = _constants(front_end)
        self.transform: Tensor
        self.filters: Tensor
        self.register_buffer("transform", transform)
        self.register_buffer("filters", filters)
        names = [f"state_{n}" for n in range(len(self.initial_state(1)))]
        self.inputs = ("samples", "real", *names)
        self.outputs = ("logits", *(f"next_{name}" for name in names))

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """Zeros; the first tensor is for the caller to fill."""
        padding = torch.zeros(batch_size, self.model.left_padding, self.stack * self.num_mels)
        mean = (torch.zeros(batch_size, self.num_mels), torch.zeros(batch_size, dtype=torch.int64))
        own = self.model.initial_state(batch_size)
        return (torch.zeros(batch_size, self.overlap), padding, *(mean if self.causal_mean else ()), *own)

    def forward(
        self, samples: Tensor, real: Tensor, overlap: Tensor, held: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
        samples = torch.cat([overlap, samples], dim=1)
        parts = functional.conv1d(samples[:, None], self.transform, stride=self.shift).square()
        mels = functional.conv1d(parts, self.filters).clamp_min(FLOOR).log().transpose(1, 2)
        mean: tuple[Tensor, ...] = ()
        if self.causal_mean:
            sums, count, *state = state  # type: ignore[assignment]
            mels, *mean = less_causal_mean(mels, sums, count)  # type: ignore[assignment]
        features = mels.reshape(mels.shape[0], -1, self.stack * self.num_mels) * real[..., None]
        num_rows = features.shape[1]
        features = torch.cat([held, features], dim=1)
        logits, after = self.model.stream(features[:, :num_rows], tuple(state))
        return logits, samples[:, samples.shape[1] - self.overlap :], features[:, num_rows:], *mean, *after


def _check(front_end: FrontEnd) -> None:
    if front_end.filterbank != "kaldi":
        raise ConfigError(
            "Whisper's features are scaled by the loudest part of the whole utterance, which a stream does not have; train a student with "
            "`preset: study` or `preset: sherpa`"
        )
    if front_end.mean_norm == "utterance":
        raise ConfigError(
            "the front end subtracts the mean of whole utterances, which a stream does not have; train with mean_norm: causal or none"
        )
    if front_end.stack != front_end.stride:
        raise ConfigError(
            f"the front end joins {front_end.stack} frames every {front_end.stride}, but a graph of samples takes each frame once; train with stack and "
            "stride alike"
        )
    law = front_end.frame_law()
    if law.window <= law.shift:
        raise ConfigError(
            f"the front end's windows of {front_end.frame_length_ms:g} ms are not longer than their shift of {front_end.frame_shift_ms:g} ms, but a graph of samples "
            "carries what they share; train with longer windows"
        )


def _constants(front_end: FrontEnd) -> tuple[Tensor, Tensor]:
    """What Kaldi does to a window, which is linear up to the spectrum: (2 K, 1, window) its mean taken off, pre-emphasis, window shape, Fourier
    transform (real, then imaginary parts of K frequencies); and the mel filters of the squares, (mels, 2 K, 1)."""
    law = front_end.frame_law()
    window, length = law.window, next_power_of_2(law.window)
    eye = torch.eye(window, dtype=torch.float64)
    centered = eye - 1.0 / window
    emphasized = centered.clone()
    emphasized[1:] -= PREEMPHASIS * centered[:-1]
    emphasized[0] *= 1 - PREEMPHASIS
    shape = create_frame_window(window, window_type="povey").to(torch.float64) * front_end.full_scale
    spectrum = torch.fft.rfft(emphasized * shape[:, None], n=length, dim=0)
    filters, _ = get_mel_banks(
        front_end.num_mels, length, front_end.sampling_rate, front_end.low_freq, front_end.high_freq
    )
    # No filter reaches the frequency at Nyquist.
    spectrum = spectrum[: filters.shape[1]]
    transform = torch.cat([spectrum.real, spectrum.imag])[:, None].to(torch.float32)
    return transform, filters.to(torch.float32).repeat(1, 2)[..., None]
