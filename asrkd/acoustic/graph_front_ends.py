"""Front ends of graphs that other toolkits export: named next to them, or by the metadata that sherpa-onnx reads."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import AsrkdError, ModelError
from asrkd.extras import import_optional

# Features of an utterance: (num_samples,) float in -1..1 -> (T, F) float32.
Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GraphFrontEnd:
    """What makes the features of a graph.

    Attributes:
        features: the function.
        settings: plain values, for a fingerprint.
        sampling_rate: hertz.
        padding: what sherpa-onnx or NeMo fills shorter utterances of a batch with.
    """

    features: Features
    settings: Mapping[str, Any]
    sampling_rate: int
    padding: float = 0.0


@dataclass(frozen=True)
class NemoMel:
    """Log-mel of NeMo's AudioToMelSpectrogramPreprocessor in evaluation mode, whose last frame, after the signal, is left out.

    Attributes:
        sampling_rate: hertz.
        num_mels: mel bins.
        normalize: `per_feature` (each bin to zero mean and unit deviation over the utterance), or empty.
    """

    sampling_rate: int = FrontEnd.sampling_rate
    num_mels: int = 80
    normalize: str = "per_feature"

    def __call__(self, samples: Tensor) -> Tensor:
        """(num_samples,) -> (T, num_mels), T = num_samples // 10 ms."""
        window, shift = self.sampling_rate // 40, self.sampling_rate // 100
        size = 1 << (window - 1).bit_length()
        samples = samples.to(torch.float32)
        emphasized = torch.cat([samples[:1], samples[1:] - 0.97 * samples[:-1]])
        shape, filters = _nemo_constants(self.sampling_rate, window, size, self.num_mels)
        spectrum = torch.stft(emphasized, size, shift, window, shape, pad_mode="constant", return_complex=True)
        mels = torch.log(filters.T @ spectrum.abs().square() + 2**-24).T[: len(samples) // shift]
        if self.normalize == "per_feature":
            mels = (mels - mels.mean(0)) / (mels.std(0) + 1e-5)
        return mels


@functools.lru_cache(maxsize=8)
def _nemo_constants(rate: int, window: int, size: int, num_mels: int) -> tuple[Tensor, Tensor]:
    filters = melscale_fbanks(size // 2 + 1, 0.0, rate / 2, num_mels, rate, norm="slaney", mel_scale="slaney")
    return torch.hann_window(window, periodic=False), filters


def named_front_end(values: Mapping[str, Any], where: str) -> GraphFrontEnd:
    """The front end of a description: the settings of a `FrontEnd`, or `{"preset": "nemo"}` with those of `NemoMel`.

    Raises:
        ModelError: settings that cannot be used.
    """
    try:
        if values.get("preset") == "nemo":
            mel = NemoMel(**{key: value for key, value in values.items() if key != "preset"})
            if mel.normalize not in ("per_feature", ""):
                raise ModelError(f"{where}: normalize is {mel.normalize!r}, but must be 'per_feature' or ''")
            return GraphFrontEnd(mel, {"preset": "nemo"} | asdict(mel), mel.sampling_rate)
        front_end = FrontEnd.from_dict(values)
    except ModelError:
        raise
    except (AsrkdError, TypeError) as error:
        raise ModelError(
            f"{where}: {error}; or give the preset nemo, with sampling_rate, num_mels and normalize"
        ) from None
    return GraphFrontEnd(front_end, front_end.to_dict(), front_end.sampling_rate, float(np.log(1e-10)))


def sherpa_front_end(spec: str, metadata: Mapping[str, str], num_mels: int) -> GraphFrontEnd:
    """What sherpa-onnx computes for an offline model with this metadata, by the library that it uses.

    Raises:
        ModelError: there is no metadata, or of a model that sherpa-onnx treats by rules of its own.
        DependencyError: kaldi-native-fbank is not installed.
    """
    kind = metadata.get("model_type", "")
    nemo = "normalize_type" in metadata or kind.startswith("EncDec")
    if not nemo and kind not in ("zipformer", "zipformer2", "zipformer_ctc", "zipformer2_ctc", "conformer", "tdnn"):
        what = (
            f"the metadata says model_type {kind!r}, whose features are not known here"
            if kind
            else "it has no metadata"
        )
        raise ModelError(
            f"model {spec!r} does not say what its features are: {what}; name them in PATH.json next to it, as in "
            '{"front_end": {"preset": "sherpa", "stack": 1, "stride": 1}} for icefall, or {"front_end": {"preset": "nemo"}} for NeMo'
        )
    normalize = metadata.get("normalize_type", "")
    if normalize not in ("", "per_feature", "NA"):
        raise ModelError(
            f"model {spec!r}: its metadata has normalize_type {normalize!r}, but sherpa-onnx knows per_feature alone; name the front end in PATH.json"
        )
    knf = import_optional(
        "kaldi_native_fbank", f"model {spec!r} has the features of sherpa-onnx, which need kaldi-native-fbank"
    )
    options = knf.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges = 0.0, False
    options.mel_opts.num_bins, options.mel_opts.high_freq = num_mels, -400.0
    if nemo:
        options.frame_opts.remove_dc_offset, options.frame_opts.window_type = False, "hann"
        options.mel_opts.low_freq, options.mel_opts.high_freq, options.mel_opts.is_librosa = 0.0, 0.0, True

    def features(samples: Tensor) -> Tensor:
        bank = knf.OnlineFbank(options)
        bank.accept_waveform(16000, samples.tolist())
        bank.input_finished()
        frames = [bank.get_frame(number) for number in range(bank.num_frames_ready)]
        mels = torch.from_numpy(np.array(frames, dtype=np.float32).reshape(-1, num_mels))
        if normalize == "per_feature":
            mels = (mels - mels.mean(0)) / (mels.std(0, correction=0) + 1e-5)
        return mels

    settings = {"sherpa-onnx": "nemo" if nemo else "icefall", "num_mels": num_mels, "normalize": normalize}
    return GraphFrontEnd(features, settings, 16000, float(np.log(1e-10)))
