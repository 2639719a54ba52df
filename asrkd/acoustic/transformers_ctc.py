"""CTC models of `transformers`, whatever their family: each with its own feature extractor, masks and frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd import fingerprint
from asrkd.acoustic.extractor import Extractor
from asrkd.acoustic.hub import ctc_folder, split_name
from asrkd.acoustic.kinds import Request, kind
from asrkd.acoustic.measured_frames import NoFrameLaw, measured_law
from asrkd.acoustic.model import AcousticModel, identity
from asrkd.acoustic.token_classes import classes_of
from asrkd.acoustic.transformers_text import text_tokenizer
from asrkd.corpus.waveform import Waveform
from asrkd.errors import AsrkdError, ModelError, one_line
from asrkd.extras import import_optional

_OF_HEADS = "A model without a CTC head becomes a teacher once it is fine-tuned with one, by asrkd train (asrkd.models:Pretrained) or in transformers"


@kind(
    "transformers:PATH_OR_NAME",
    "A CTC model of transformers (Wav2Vec2, HuBERT, Parakeet, ...): a folder that save_pretrained wrote, or a name on the hub; ?language=fra for an adapter.",
)
def transformers(request: Request) -> AcousticModel:
    """A CTC model of `transformers`.

    Its frame law is measured, and the law, its feature extractor and its weights are in its fingerprint.

    Raises:
        DependencyError: transformers is not installed.
        ModelError: the model cannot be loaded, is not a CTC model, or its frames follow no frame law.
    """
    spec, device = request.spec, request.device
    model, made, tokenizer = _loaded(spec, request.argument)
    model.float().eval().to(device)
    config = model.config
    try:
        extractor = Extractor(made, model)
        runner = _Model(model, extractor, device)
        law = measured_law(runner.num_frames, extractor.sampling_rate)
    except NoFrameLaw as error:
        raise ModelError(
            f"model {spec!r}: the frames of {type(model).__name__} follow no frame law ({error}); give a model that takes utterances of any length, since padding to "
            "a window (Whisper's 30 s) would be labeled as speech"
        ) from None
    except AsrkdError:
        raise
    except Exception as error:  # whatever an extractor or a model raises
        raise _unusable(
            spec,
            f"{type(model).__name__} cannot read what its feature extractor {type(made).__name__} makes of noise",
            error,
        ) from None
    front_end = Waveform(
        extractor.sampling_rate, law.window, law.shift, bool(extractor.normalize), law.begin, law.needed
    )
    labels, blank = _labels(spec, config, tokenizer), _blank(spec, config, tokenizer)
    inventory, order = classes_of(spec, labels, blank)
    settings = {
        key: value for key, value in config.to_dict().items() if key not in ("_name_or_path", "transformers_version")
    }
    code: list[Any] = [type(model).__name__, settings]
    if extractor.normalize is None:
        code.append(extractor.settings())
    identified = identity(fingerprint.of_state_dict(model.state_dict()), code, front_end, inventory, 1)
    # A group norm over time sees the padding, and these models were trained without a mask. Of all others the probe tells.
    one_by_one = getattr(config, "feat_extract_norm", "") == "group"
    run = _Samples(runner, front_end, order)
    return AcousticModel(
        run,
        front_end,
        inventory,
        1,
        spec,
        identified,
        device,
        one_by_one=one_by_one,
        tokenizer=text_tokenizer(tokenizer, labels, blank),
    )


class _Samples:
    """(N, S, 1) samples, (N,) -> (N, T, V) logits in the order of the inventory, (N,)."""

    def __init__(self, model: _Model, front_end: Waveform, order: Sequence[int]) -> None:
        self._model = model
        self._law = front_end.frame_law()
        self._order = torch.tensor(order, device=model.device)

    def __call__(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        samples = [row[:length, 0] for row, length in zip(features, lengths.tolist(), strict=True)]
        rows = [self._model.extractor.arguments(one) for one in samples]
        frames = [self._law.num_frames(len(one)) for one in samples]
        ends = [self._model.masks_its_end(row, count) for row, count in zip(rows, frames, strict=True)]
        batch = [number for number, end in enumerate(ends) if not end]
        groups = [*([batch] if batch else []), *([number] for number, end in enumerate(ends) if end)]
        logits: list[Tensor] = [torch.empty(0)] * len(rows)
        for numbers in groups:
            made = self._model.logits([rows[number] for number in numbers])
            for number, one in zip(numbers, made, strict=True):
                if len(one) < frames[number] or (len(numbers) == 1 and len(one) != frames[number]):
                    raise ValueError(
                        f"{len(one)} frames of {len(samples[number])} samples, where its frame law, measured on other lengths, makes {frames[number]}"
                    )
                logits[number] = one[: frames[number]]
        return pad_sequence(logits, batch_first=True).index_select(-1, self._order), torch.tensor(
            frames, device=lengths.device
        )


class _Model:
    """A model with its feature extractor, on a device."""

    def __init__(self, model: Any, extractor: Extractor, device: str) -> None:
        self._model, self.extractor, self.device = model, extractor, device
        self._output_mask = getattr(model, "_get_output_attention_mask", None)

    def logits(self, rows: Sequence[dict[str, Tensor]]) -> Tensor:
        """(N, T, V) of what the extractor made of N utterances."""
        arguments = self.extractor.joined(rows)
        logits: Tensor = self._model(**{key: value.to(self.device) for key, value in arguments.items()}).logits
        return logits

    def masks_its_end(self, row: dict[str, Tensor], num_frames: int) -> bool:
        """Whether the last frames of an utterance come from features that its own mask leaves out: in a batch they would see the padding, so it runs alone."""
        mask = self.extractor.mask(row)
        if self._output_mask is None or mask is None:
            return False
        return int(self._output_mask(mask, target_length=num_frames).sum()) < num_frames

    @torch.no_grad()
    def num_frames(self, num_samples: int) -> int:
        """Frames that the model outputs for `num_samples` samples of noise."""
        noise = 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))
        return int(self.logits([self.extractor.arguments(noise)]).shape[1])


def _loaded(spec: str, argument: str) -> tuple[Any, Any, Any]:
    """Model, feature extractor and tokenizer."""
    transformers = import_optional("transformers", f"model {spec!r} needs transformers")
    name, chosen = split_name(spec, argument, ("language",))
    language = chosen.get("language", "")
    folder = ctc_folder(spec, name, language)
    transformers.utils.logging.disable_progress_bar()
    # Nothing of a model is run but what transformers has: code that a folder brings is refused.
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
    except Exception as error:  # whatever transformers raises is the user's to see in one line
        raise _unusable(spec, f"{name!r} cannot be loaded as a CTC model of transformers", error) from None
    if type(config) not in transformers.MODEL_FOR_CTC_MAPPING:
        raise ModelError(f"model {spec!r}: {name!r} is a {config.model_type}, {_of_another_family(config)}")
    if language:
        _check_adapter(spec, config, folder, language)
    try:
        model, report = transformers.AutoModelForCTC.from_pretrained(
            folder,
            output_loading_info=True,
            **options,
            **({"target_lang": language, "ignore_mismatched_sizes": True} if language else {}),
        )
    except Exception as error:
        raise _unusable(spec, f"{name!r} cannot be loaded as a CTC model of transformers", error) from None
    # transformers fills what is missing with random numbers; the mask of training is never used here.
    missing = sorted(key for key in report["missing_keys"] if not key.endswith("masked_spec_embed"))
    if language:  # the head and the adapters come with the language, which transformers checks
        missing = [key for key in missing if "adapter" not in key and not key.startswith("lm_head.")]
    if missing:
        raise ModelError(
            f"model {spec!r}: the weights of {name!r} have no {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which "
            f"transformers would make up at random; give a model that was fine-tuned with a CTC head. {_OF_HEADS}"
        )
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **options)
    except Exception as error:
        raise ModelError(
            f"model {spec!r}: {name!r} has no feature extractor that can be loaded ({one_line(error)[:200]}), so how samples become its input is not known; put the "
            "preprocessor_config.json (or processor_config.json) of the model that it was fine-tuned from into the folder"
        ) from None
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, **options, **({"target_lang": language} if language else {})
        )
    except Exception as error:
        raise ModelError(
            f"model {spec!r}: {name!r} has no tokenizer that can be loaded ({one_line(error)[:200]}), so its classes have no names; put the files of its tokenizer "
            "(vocab.json and tokenizer_config.json, or tokenizer.json) into the folder"
        ) from None
    return model, extractor, tokenizer


def _of_another_family(config: Any) -> str:
    """What a model without a CTC head is good for."""
    import transformers

    if type(config) in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
        return (
            "for which transformers has no CTC head: it writes text and has no posteriors for frames; name it as a text teacher "
            "(text:transformers:NAME)"
        )
    return f"for which transformers has no CTC head; give a model that was fine-tuned with one. {_OF_HEADS}"


def _check_adapter(spec: str, config: Any, folder: Path, language: str) -> None:
    """Raise `ModelError` unless there is an adapter of that language."""
    if getattr(config, "adapter_attn_dim", None) is None:
        raise ModelError(
            f"model {spec!r}: its model has no adapters for languages (adapter_attn_dim in config.json); leave out ?language={language}"
        )
    present = sorted({file.name.split(".")[1] for file in folder.glob("adapter.*.*")})
    if language not in present:
        raise ModelError(
            f"model {spec!r}: there is no adapter for the language {language!r} (adapter.{language}.safetensors); "
            + (
                f"there are {', '.join(present[:10])}{' and others' if present[10:] else ''}"
                if present
                else "there is none at all"
            )
        )


def _blank(spec: str, config: Any, tokenizer: Any) -> int:
    """The class of the blank: what the config calls so, or its padding, on which the tokenizer (which decodes) agrees."""
    named = getattr(config, "blank_token_id", None)
    if named is not None:
        return int(named)
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


def _unusable(spec: str, what: str, error: Exception) -> ModelError:
    return ModelError(f"model {spec!r}: {what} ({one_line(error)[:400]})")
