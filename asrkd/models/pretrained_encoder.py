"""Encoders of `transformers`: from a folder or the hub with their weights, or empty from a config of plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from asrkd.config import check, section, setting
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import AnyFrontEnd, Waveform, law_of_convolutions
from asrkd.errors import ConfigError, DependencyError, ModelError, one_line
from asrkd.extras import import_optional
from asrkd.hub import model_folder, transformers_files

_WHISPER = "whisper"
# Nothing of a model is run but what transformers has: code that a folder brings is refused.
_OPTIONS: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


@dataclass
class EncoderSettings:
    """What of an encoder's config may be another than the one that it was trained with; None leaves it."""

    dropout: float | None = setting(None, at_least=0, below=1)
    """Of Whisper's layers."""
    hidden_dropout: float | None = setting(None, at_least=0, below=1)
    """Of the layers of the others."""
    attention_dropout: float | None = setting(None, at_least=0, below=1)
    """Of attention weights."""
    activation_dropout: float | None = setting(None, at_least=0, below=1)
    """Inside the feed-forward parts."""
    feat_proj_dropout: float | None = setting(None, at_least=0, below=1)
    """Of what the convolutions output."""
    apply_spec_augment: bool | None = None
    """Whether frames are masked in training."""
    mask_time_prob: float | None = setting(None, at_least=0, below=1)
    """Share of frames that are masked, about."""
    mask_time_length: int | None = setting(None, at_least=1)
    """Frames of a mask."""
    mask_time_min_masks: int | None = setting(None, at_least=0)
    """Fewest masks of an utterance."""
    mask_feature_prob: float | None = setting(None, at_least=0, below=1)
    """Share of dimensions that are masked, about."""
    mask_feature_length: int | None = setting(None, at_least=1)
    """Dimensions of a mask."""
    mask_feature_min_masks: int | None = setting(None, at_least=0)
    """Fewest masks of dimensions of an utterance."""

    def __post_init__(self) -> None:
        check(self, "model.args.settings")

    def apply(self, config: Any, name: str) -> None:
        """Set them in a config of transformers.

        Raises:
            ConfigError: the encoder has no such thing.
        """
        for key, value in ((each.name, getattr(self, each.name)) for each in fields(self)):
            if value is None:
                continue
            # Whisper's masks are not in its encoder.
            if not hasattr(config, key) or (config.model_type == _WHISPER and "dropout" not in key):
                why = "; mask its features (augment.time_masks, augment.frequency_masks)" if "mask" in key else ""
                raise ConfigError(
                    f"model.args.settings.{key}: is {value!r}, but the encoder of {name!r} ({config.model_type}) has none{why}"
                )
            setattr(config, key, value)
        if getattr(config, "mask_feature_prob", 0) and config.mask_feature_length > config.hidden_size:
            raise ConfigError(
                f"model.args.settings.mask_feature_length: is {config.mask_feature_length}, but the frames of {name!r} have {config.hidden_size} dimensions; lower it"
            )


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder, and what it reads.

    Attributes:
        module: of `transformers`.
        config: plain values that build it again.
        kind: for errors.
        front_end: that it was trained with.
        hidden_dim: of its output.
        num_layers: that it has.
        norm_last: whether the norm named `layer_norm` is behind its layers.
        max_features: frames of the front end that it takes at most; None for any number.
    """

    module: Any
    config: dict[str, Any]
    kind: str
    front_end: AnyFrontEnd
    hidden_dim: int
    num_layers: int
    norm_last: bool
    max_features: int | None

    @property
    def wants(self) -> str:
        """What it reads, in words."""
        if isinstance(self.front_end, Waveform):
            return "samples"
        return f"Whisper's log-mel of {self.front_end.num_mels} bins every 10 ms"

    @property
    def front_end_line(self) -> str:
        """The key `front_end` of a config."""
        front_end = self.front_end
        if isinstance(front_end, FrontEnd):
            mels = "" if front_end.num_mels == 80 else f", num_mels: {front_end.num_mels}"
            return f"{{preset: whisper{mels}}}"
        plain = Waveform(front_end.sampling_rate)
        parts = [f"kind: waveform, sampling_rate: {front_end.sampling_rate}"]
        parts += [
            f"{key}: {getattr(front_end, key)}"
            for key in ("window", "shift")
            if getattr(front_end, key) != getattr(plain, key)
        ]
        return f"{{{', '.join(parts)}{', normalize: true' if front_end.normalize else ''}}}"


def loaded_encoder(name: str, *, layers: int | None, settings: Mapping[str, Any]) -> LoadedEncoder:
    """The encoder of a folder that `save_pretrained` wrote, or of a model on the hub, with its weights.

    Args:
        layers: the first of its layers that are kept; None for all.
        settings: of `EncoderSettings`.

    Raises:
        ModelError: there is none that can be used.
        ConfigError: an argument that does not fit it.
        DependencyError: transformers is not installed.
    """
    changes = section(EncoderSettings, settings, "model.args.settings")
    transformers = _transformers()
    folder = model_folder("model.args.name", name, transformers_files, "a pretrained encoder of transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **_OPTIONS)
    except Exception as error:  # whatever transformers raises is the user's to see in one line
        raise _unusable(name, error) from None
    kind = _kind(config, name)
    changes.apply(config, name)
    _adapt(config, name, layers)
    try:
        model, report = transformers.AutoModel.from_pretrained(
            folder, config=config, output_loading_info=True, **_OPTIONS
        )
    except Exception as error:
        raise _unusable(name, error) from None
    is_whisper = config.model_type == _WHISPER
    module = model.get_encoder() if is_whisper else model
    used = {f"encoder.{key}" if is_whisper else key for key, _ in module.named_parameters()}
    missing = sorted(key for key in report["missing_keys"] if key in used and not key.endswith("masked_spec_embed"))
    if missing:
        raise ModelError(
            f"model.args.name: the weights of {name!r} have no {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which transformers would "
            "make up at random; give the folder or name of a model with the weights of its encoder"
        )
    front_end = _whisper_front_end(config) if is_whisper else _samples(transformers, folder, config, name)
    return _described(module, config, kind, front_end)


def built_encoder(config: Mapping[str, Any], front_end: Mapping[str, Any]) -> LoadedEncoder:
    """The encoder of `LoadedEncoder.config`, with random weights: those of a checkpoint follow.

    Args:
        front_end: the keys of a `Waveform` that `LoadedEncoder.front_end` has; not looked at for Whisper.

    Raises:
        ModelError: the config is damaged or of a version of transformers that is not this one's.
        DependencyError: transformers is not installed.
    """
    transformers = _transformers()
    try:
        values = {key: value for key, value in config.items() if key != "model_type"}
        made = transformers.AutoConfig.for_model(config["model_type"], **values)
        kind = _kind(made, "the checkpoint")
        if made.model_type == _WHISPER:
            module = transformers.models.whisper.modeling_whisper.WhisperEncoder(made)
            return _described(module, made, kind, _whisper_front_end(made))
        module = transformers.AutoModel.from_config(made, trust_remote_code=False)
        return _described(module, made, kind, section(Waveform, dict(front_end), "front_end"))
    except Exception as error:
        raise ModelError(
            f"the encoder {config.get('model_type')!r} of a checkpoint cannot be built by transformers {transformers.__version__} ({one_line(error)[:240]}); install "
            "the version that trained it"
        ) from None


def with_lora(encoder: Any, settings: Mapping[str, Any]) -> None:
    """Put low-rank adapters (Hu et al. 2022) into an encoder, whose own weights are no longer trained.

    Raises:
        ConfigError: settings that peft refuses, such as modules that the encoder does not have.
        DependencyError: peft is not installed.
    """
    try:
        import peft
    except ImportError:
        raise DependencyError("model.args.lora needs peft: pip install peft, or leave lora out") from None
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(**{"target_modules": ["q_proj", "v_proj"], **settings}), encoder)
    except Exception as error:  # whatever peft raises is the user's to see in one line
        raise ConfigError(
            f"model.args.lora: peft refuses {dict(settings)!r} ({one_line(error)[:300]}); correct it"
        ) from None


def _transformers() -> Any:
    transformers = import_optional("transformers", "the model factory asrkd.models:Pretrained needs transformers")
    transformers.utils.logging.disable_progress_bar()
    # Weights of decoders and heads, which are left out here, are listed as unexpected.
    transformers.utils.logging.set_verbosity_error()
    return transformers


def _kind(config: Any, name: str) -> str:
    """What an encoder is called in errors.

    Raises:
        ModelError: it is of a family that is not read here.
    """
    family = getattr(config, "model_type", "?")
    if family == _WHISPER:
        return "Whisper's encoder"
    wanted = ("conv_kernel", "conv_stride", "hidden_size", "feat_extract_activation")
    if all(getattr(config, key, None) for key in wanted) and not getattr(config, "is_encoder_decoder", False):
        return f"the encoder {family}"
    raise ModelError(
        f"model.args.name: {name!r} is a {family!r}, which is not an encoder that is known here; give one that reads samples by convolutions (wav2vec2, hubert, "
        "wavlm, unispeech, data2vec-audio, ...) or a Whisper model; a model with a CTC head is a teacher as it is (transformers:PATH_OR_NAME)"
    )


def _adapt(config: Any, name: str, layers: int | None) -> None:
    # Layers left out at random would leave gradients out that processes wait for.
    for key in ("layerdrop", "encoder_layerdrop"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    if getattr(config, "add_adapter", False):
        config.add_adapter = False  # it is for a decoder that reads the encoder
    if layers is not None:
        depth = config.num_hidden_layers
        if isinstance(layers, bool) or not isinstance(layers, int) or not 1 <= layers <= depth:
            raise ConfigError(
                f"model.args.layers: is {layers!r}, but the encoder of {name!r} has {depth} layers; give 1 to {depth}, or leave it out for all"
            )
        config.num_hidden_layers = layers


def _samples(transformers: Any, folder: Any, config: Any, name: str) -> Waveform:
    """The front end of an encoder that reads samples: the law of its convolutions, and what its feature extractor does.

    Raises:
        ModelError: it has no feature extractor of samples.
    """
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **_OPTIONS)
        rate, normalize = int(extractor.sampling_rate), bool(extractor.do_normalize)
    except Exception as error:
        raise ModelError(
            f"model.args.name: {name!r} has no feature extractor of samples that can be loaded ({one_line(error)[:200]}), so how samples become its input is not "
            "known; put the preprocessor_config.json of the model that it comes from into the folder"
        ) from None
    window, shift = law_of_convolutions(list(config.conv_kernel), list(config.conv_stride))
    return Waveform(rate, window, shift, normalize)


def _whisper_front_end(config: Any) -> FrontEnd:
    return FrontEnd.from_dict({"preset": "whisper", "num_mels": config.num_mel_bins})


def _described(module: Any, config: Any, kind: str, front_end: AnyFrontEnd) -> LoadedEncoder:
    plain = json.loads(config.to_json_string(use_diff=False))
    for key in ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "auto_map"):
        plain.pop(key, None)
    is_whisper = isinstance(front_end, FrontEnd)
    norm_last = getattr(config, "do_stable_layer_norm", False) or "conformer" in config.model_type
    return LoadedEncoder(
        module.float(),
        plain,
        kind,
        front_end,
        config.hidden_size,
        config.num_hidden_layers,
        is_whisper or norm_last,
        2 * config.max_source_positions if is_whisper else None,
    )


def _unusable(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"model.args.name: {name!r} cannot be loaded as a pretrained encoder of transformers ({one_line(error)[:300]}); give what save_pretrained wrote: config.json "
        "and model.safetensors"
    )
