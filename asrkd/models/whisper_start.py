"""What a streaming student takes over from Whisper: the first layers of its encoder, whole or narrowed, its positions, and its mel bins from icefall's."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from asrkd import checkpoint
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import Waveform
from asrkd.errors import ConfigError, ModelError
from asrkd.models.narrow_encoder import narrowed
from asrkd.models.pretrained_encoder import LoadedEncoder, built_encoder, loaded_encoder

_PRETRAINED = "asrkd.models:Pretrained"
# Weights that were stored in half precision, or trained along for a while, differ by less.
_POSITION_TOLERANCE = 0.1
_LOG_SCALE = 10000.0


def whisper_start(name: str, layers: int, feedforward_dim: int | None = None) -> LoadedEncoder:
    """The first layers of a Whisper encoder, with its weights.

    Args:
        name: a folder that `save_pretrained` wrote, a name on the hub, or the run folder or checkpoint of a teacher that asrkd fine-tuned.
        layers: that are kept.
        feedforward_dim: units of their feed-forward networks that are kept (`narrowed`); all of them if not given.

    Raises:
        ModelError: there is none that can be used.
        ConfigError: an argument that does not fit it.
        DependencyError: transformers is not installed.
    """
    path = Path(name)
    final = path / "final.pt" if path.is_dir() else path
    loaded = _of_run(final, layers) if final.is_file() else loaded_encoder(name, layers=layers, settings={})
    if isinstance(loaded.front_end, Waveform):
        raise ConfigError(
            f"model.args.name: {name!r} is {loaded.kind}, whose convolutions read samples and look ahead too far; give a Whisper model, or a run that began with one"
        )
    stored = loaded.module.embed_positions.weight.detach()
    difference = float((stored - sinusoids(torch.arange(len(stored)), loaded.hidden_dim)).abs().max())
    if difference > _POSITION_TOLERANCE:
        raise ModelError(
            f"model.args.name: the positions of {name!r} differ from Whisper's sines by {difference:.2g}, and a stream that is longer than its {len(stored)} "
            "positions has only the sines; give a model whose positions were not trained"
        )
    return loaded if feedforward_dim is None else narrowed(loaded, feedforward_dim, name)


def _of_run(path: Path, layers: int) -> LoadedEncoder:
    content = checkpoint.read(path, error=ModelError)
    args, weights = content.get("model_args"), content.get("model")
    if content.get("model_factory") != _PRETRAINED or not isinstance(args, dict) or not isinstance(weights, dict):
        raise ModelError(
            f"model.args.name: {str(path)!r} holds a model of {content.get('model_factory')!r}, not a finished one of {_PRETRAINED}; give a run that fine-tuned a Whisper encoder"
        )
    if args.get("lora"):
        raise ModelError(
            f"model.args.name: {str(path)!r} was trained with low-rank adapters, which are not part of its layers; give a run that was trained without lora"
        )
    config = dict(args["config"])
    depth = config.get("encoder_layers", config.get("num_hidden_layers"))
    check_layers(layers, depth, str(path))
    if config.get("model_type") == "whisper":
        config |= {"encoder_layers": layers, "num_hidden_layers": layers}
    loaded = built_encoder(config, args.get("samples") or {})
    wanted = loaded.module.state_dict()
    try:
        loaded.module.load_state_dict({key: weights[f"encoder.{key}"] for key in wanted})
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"model.args.name: {str(path)!r} does not hold the encoder that it describes ({' '.join(str(error).split())[:200]}); it is damaged"
        ) from None
    return loaded


def check_layers(layers: object, depth: int | None, name: str) -> None:
    """Raise `ConfigError` for a number of layers that an encoder of `depth` layers does not have."""
    if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= (depth or layers):
        raise ConfigError(
            f"model.args.layers: is {layers!r}, but the encoder of {name!r} has {depth} layers; give 1 to {depth}"
        )


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Whisper's embedding of positions (...,) -> (..., dim) float32, by its formula, so that there is one of every position."""
    half = int(dim) // 2  # a tracing exporter gives sizes as tensors, whose float32 would be in the rates
    # Numbers, also in an exported graph: another runtime's exponential differs in the last bit, which late positions make large.
    rates = torch.tensor(
        [math.exp(-math.log(_LOG_SCALE) / (half - 1) * n) for n in range(half)], device=positions.device
    )
    angles = positions[..., None].to(torch.float32) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def mel_map(front_end: FrontEnd, num_mels: int) -> tuple[Tensor, Tensor]:
    """The affine map from Kaldi's log-mel to Whisper's: (num_mels, front_end.num_mels) and (num_mels,).

    Both are logarithms of sums of power over frequencies. A bin of Whisper's is taken as the mean of those of Kaldi's that its filter overlaps, by their shares,
    which is exact for a spectrum that is flat across them; the constants are what white noise differs by: the filters' sizes, the windows and the pre-emphasis.
    Whisper's floor, 8 decades below the loudest bin of the utterance, is not known before its end.
    """
    from lhotse.features.kaldi.layers import create_frame_window, get_mel_banks
    from torchaudio.functional import melscale_fbanks

    from asrkd.corpus.filterbank import PREEMPHASIS

    # At every hertz.
    rate = front_end.sampling_rate
    half = rate // 2
    whisper = melscale_fbanks(half + 1, 0.0, rate / 2, num_mels, rate, norm="slaney", mel_scale="slaney")[:-1].double()
    filters, _ = get_mel_banks(front_end.num_mels, rate, rate, front_end.low_freq, front_end.high_freq)
    kaldi = filters.double().T[:half]
    shares = whisper.T @ (kaldi / kaldi.sum(dim=0))
    # Above Kaldi's last filter there is none to take.
    shares[shares.sum(dim=1) == 0, -1] = 1.0
    shares /= shares.sum(dim=1, keepdim=True)
    window = front_end.frame_law().window
    padded = 1 << (window - 1).bit_length()
    shape = create_frame_window(window, window_type="povey").double()
    emphasis = 1 + PREEMPHASIS**2 - 2 * PREEMPHASIS * torch.cos(torch.arange(half).double() * 2 * math.pi / rate)
    of_kaldi = (kaldi * emphasis[:, None]).sum(dim=0) * shape.square().sum() * padded / rate
    of_whisper = whisper.sum(dim=0) * torch.hann_window(window).double().square().sum() * window / rate
    # Whisper's scale: the decimal logarithm plus 4, over 4.
    scale = 1 / (4 * math.log(10))
    bias = (of_whisper.log() - shares @ of_kaldi.log()) * scale + 1
    return (shares * scale).float(), bias.float()
