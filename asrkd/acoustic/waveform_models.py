"""Models that read samples: CTC heads of `transformers`, and the CTC pipelines of `torchaudio`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from asrkd import fingerprint
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.model import AcousticModel, identity, one_line
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.topology import BLANK
from asrkd.corpus.waveform import Waveform, law_of_convolutions
from asrkd.errors import AsrkdError, DependencyError, ModelError


@kind(
    "transformers:PATH_OR_NAME",
    "A CTC model of transformers (Wav2Vec2, HuBERT, WavLM, ...): a folder that save_pretrained wrote, or a name on the hub.",
)
def transformers(request: Request) -> AcousticModel:
    """A CTC model of `transformers`.

    Raises:
        DependencyError: transformers is not installed.
        ModelError: the model cannot be loaded, is no CTC model, or its frames do not follow from its convolutions alone.
    """
    spec, device = request.spec, request.device
    model, extractor, tokenizer = _loaded(spec, request.argument)
    model.float().eval().to(device)
    config = model.config
    if getattr(config, "add_adapter", False):
        raise ModelError(
            f"model {spec!r} has an adapter behind its convolutions, whose frames have no frame law here; use a model without one"
        )
    try:
        kernels, strides = list(config.conv_kernel), list(config.conv_stride)
        sampling_rate, normalize = int(extractor.sampling_rate), bool(extractor.do_normalize)
    except (AttributeError, TypeError) as error:
        raise ModelError(
            f"model {spec!r}: {type(model).__name__} with {type(extractor).__name__} does not read samples by convolutions ({error}), so its "
            "frames have no frame law here; use a model of the Wav2Vec2 kind, or wrap it in a python: factory"
        ) from None
    window, shift = law_of_convolutions(kernels, strides)
    front_end = Waveform(sampling_rate, window, shift, normalize)
    inventory, order = _inventory(spec, _labels(spec, config, tokenizer), _blank(spec, config, tokenizer))
    # A group norm over time sees the padding, and these models were trained without a mask.
    one_by_one = getattr(config, "feat_extract_norm", "group") != "layer"

    def masked(samples: Tensor, lengths: Tensor) -> Tensor:
        mask = (torch.arange(samples.shape[1], device=samples.device) < lengths[:, None]).long()
        logits: Tensor = model(samples, attention_mask=mask).logits
        return logits

    def alone(samples: Tensor, _lengths: Tensor) -> Tensor:
        logits: Tensor = model(samples).logits
        return logits

    settings = {
        key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "transformers_version")
    }
    weights = fingerprint.of_state_dict(model.state_dict())
    identified = identity(weights, [type(model).__name__, settings], front_end, inventory, 1)
    run = _Samples(front_end, order, device, alone if one_by_one else masked)
    return AcousticModel(run, front_end, inventory, 1, spec, identified, device, one_by_one=one_by_one)


def _loaded(spec: str, name: str) -> tuple[Any, Any, Any]:
    """Model, feature extractor and tokenizer."""
    try:
        import transformers
    except ImportError:
        raise DependencyError(f"model {spec!r} needs transformers: pip install 'asrkd[teachers]'") from None
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if type(config) not in transformers.MODEL_FOR_CTC_MAPPING:
            raise ValueError(f"it is a {config.model_type}, for which transformers has no CTC head")
        model, report = transformers.AutoModelForCTC.from_pretrained(name, output_loading_info=True)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever transformers raises is the user's to see in one line
        raise _unusable(spec, f"{name!r} cannot be loaded as a CTC model of transformers", error) from None
    # transformers fills what is missing with random numbers; the mask of training is never used here.
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("masked_spec_embed"))
    if missing:
        raise ModelError(
            f"model {spec!r}: the weights of {name!r} have no {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which "
            "transformers would make up at random; give a model that was fine-tuned with a CTC head"
        )
    return model, extractor, tokenizer


def _blank(spec: str, config: Any, tokenizer: Any) -> int:
    """The class of the blank, on which the config (which trained it) and the tokenizer (which decodes) agree."""
    of_config, of_tokenizer = config.pad_token_id, tokenizer.pad_token_id
    if of_config is None or of_config != of_tokenizer:
        raise ModelError(
            f"model {spec!r}: its blank is class {of_config} (pad_token_id) by config.json and {of_tokenizer} ({tokenizer.pad_token!r}) by the "
            "tokenizer; correct the one that is wrong, else another class would be taken for the blank"
        )
    return int(of_config)


def _labels(spec: str, config: Any, tokenizer: Any) -> list[str]:
    """The token of each class, as the tokenizer's vocabulary has it, with tokens that were added."""
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    unnamed = [number for number in range(config.vocab_size) if number not in tokens]
    if unnamed:
        raise ModelError(
            f"model {spec!r} has {config.vocab_size} classes (vocab_size), but its tokenizer has no token for {len(unnamed)} of them, the first "
            f"{unnamed[0]}; give the tokenizer that the model was trained with"
        )
    return [tokens[number] for number in range(config.vocab_size)]


@kind("torchaudio:BUNDLE", "A CTC bundle of torchaudio.pipelines, such as WAV2VEC2_ASR_BASE_960H.")
def torchaudio(request: Request) -> AcousticModel:
    """A CTC bundle, whose weights torchaudio downloads once.

    Raises:
        ModelError: there is no such bundle, or its weights cannot be had.
    """
    from torchaudio import pipelines

    spec, name, device = request.spec, request.argument, request.device
    of_ctc = type(pipelines.WAV2VEC2_ASR_BASE_960H)
    bundles = sorted(key for key, value in vars(pipelines).items() if isinstance(value, of_ctc))
    if name not in bundles:
        raise ModelError(f"model {spec!r}: torchaudio has no CTC bundle {name!r}; it has {', '.join(bundles)}")
    bundle = getattr(pipelines, name)
    try:
        model = bundle.get_model(dl_kwargs={"weights_only": True}).eval().to(device)
    except Exception as error:  # a download can fail in many ways
        raise _unusable(spec, "its weights cannot be loaded", error) from None
    convolutions = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv1d) and layer.padding == (0,) and layer.groups == 1
    ]
    window, shift = law_of_convolutions([c.kernel_size[0] for c in convolutions], [c.stride[0] for c in convolutions])
    front_end = Waveform(int(bundle.sample_rate), window, shift)
    inventory, order = _inventory(spec, bundle.get_labels(), 0)
    weights = fingerprint.of_state_dict(model.state_dict())
    identified = identity(weights, ["torchaudio", name], front_end, inventory, 1)
    # Their group norm over time sees the padding.
    run = _Samples(front_end, order, device, lambda samples, _lengths: model(samples)[0])
    return AcousticModel(run, front_end, inventory, 1, spec, identified, device, one_by_one=True)


class _Samples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits in the order of the inventory, (N,)."""

    def __init__(
        self, front_end: Waveform, order: Sequence[int], device: str, model: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        self._law = front_end.frame_law()
        self._order = torch.tensor(order, device=device)
        self._model = model

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.tensor([self._law.num_frames(int(length)) for length in lengths], device=lengths.device)
        return self._model(features[..., 0], lengths).index_select(-1, self._order), frames


def _inventory(spec: str, labels: Sequence[str], blank: int) -> tuple[Inventory, list[int]]:
    """The inventory with the blank first, and where each of its units stands in the model's output."""
    if not 0 <= blank < len(labels):
        raise ModelError(
            f"model {spec!r} names {blank} as its blank, but has {len(labels)} classes; correct its config"
        )
    order = [blank, *(number for number in range(len(labels)) if number != blank)]
    try:
        return Inventory((BLANK, *(str(labels[number]) for number in order[1:])), "ctc"), order
    except AsrkdError as error:
        raise ModelError(f"model {spec!r}: {error}") from None


def _unusable(spec: str, what: str, error: Exception) -> ModelError:
    return ModelError(f"model {spec!r}: {what} ({one_line(error)})")
