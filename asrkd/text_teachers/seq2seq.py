"""Text teachers of `transformers`: every encoder-decoder by `AutoModelForSpeechSeq2Seq` and `AutoProcessor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrkd import fingerprint
from asrkd.errors import ModelError
from asrkd.extras import import_optional
from asrkd.hub import model_folder
from asrkd.text_teachers.numerals import numeral_tokens
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import Samples, TextTeacher, Transcription, WrittenText, failure
from asrkd.text_teachers.whisper import WhisperPrompt, whisper_prompt

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
# Of a text, where neither the settings nor the model say.
_MOST_TOKENS = 448


def load_transformers(spec: str, name: str, device: str, settings: TextSettings) -> TextTeacher:
    """A speech-to-text model of `transformers`.

    Models whose processor makes windows of one length (Whisper) are run in batches. Others would see the padding, so they are given one
    utterance at a time.

    Raises:
        DependencyError: transformers is not installed.
        ModelError: the model cannot be loaded, or is not an encoder-decoder for speech; or it does not know the language.
    """
    model, processor = _loaded(spec, name, settings)
    model.eval().to(device)
    extractor = getattr(processor, "feature_extractor", processor)
    rate = int(getattr(extractor, "sampling_rate", 0))
    if rate < 1:
        raise ModelError(
            f"text teacher {spec!r}: its {type(extractor).__name__} names no sampling_rate; correct preprocessor_config.json"
        )
    window = _window(processor, rate)
    tokenizer = processor.tokenizer
    added = tokenizer.added_tokens_decoder
    special = frozenset({*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)})
    if settings.suppress_numerals:
        # Times of Whisper (`<|0.02|>`) are added tokens, too.
        texts = sorted({*tokenizer.get_vocab().values()} - special - {*added})
        before = model.generation_config.suppress_tokens or []
        model.generation_config.suppress_tokens = [*before, *numeral_tokens(texts, tokenizer.decode)]
    try:
        prompt = whisper_prompt(model, processor, settings, rate, special)
    except Exception as error:  # transformers says which languages there are
        raise failure(spec, error, f"language {settings.language!r} or task {settings.task!r} cannot be used") from None
    if prompt is None and (settings.language or settings.task != "transcribe"):
        raise ModelError(
            f"text teacher {spec!r}: language and task are settings of Whisper, and {type(model).__name__} takes none; leave them out"
        )
    writer = _Writer(model, processor, rate, settings, prompt, special)
    identity = [
        type(model).__name__,
        {
            key: value
            for key, value in model.config.to_dict().items()
            if key not in ("_name_or_path", "transformers_version")
        },
        {
            key: value
            for key, value in model.generation_config.to_dict().items()
            if key not in ("transformers_version", "_from_model_config")
        },
        {key: value for key, value in extractor.to_dict().items() if isinstance(value, (str, int, float, bool))},
        sorted(tokenizer.get_vocab().items(), key=lambda one: one[1]),
        fingerprint.of_state_dict(model.state_dict()),
    ]
    return TextTeacher(
        writer,
        fingerprint.of_json(identity),
        rate,
        max_seconds=window or float("inf"),
        batch_size=settings.batch_size if window else 1,
    )


def _loaded(spec: str, name: str, settings: TextSettings) -> tuple[Any, Any]:
    """Model and processor."""
    transformers = import_optional("transformers", f"text teacher {spec!r} needs transformers")
    folder = model_folder(
        f"text teacher {spec!r}", name, lambda files: _PATTERNS, "a model of transformers that writes text"
    )
    kind = {"default": torch.float32}.get(settings.compute_type) or getattr(torch, settings.compute_type, None)
    if kind not in (torch.float32, torch.float16, torch.bfloat16):
        raise ModelError(
            f"text teacher {spec!r}: compute_type is {settings.compute_type!r}, but transformers takes float32, float16 or bfloat16"
        )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        if type(config) not in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING or not config.is_encoder_decoder:
            raise ValueError(
                f"it is a {config.model_type}, which is not an encoder-decoder that writes text; wrap it in a text:python: factory, or, if it has "
                "a CTC head, name it transformers:"
            )
        model, report = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(
            folder, dtype=kind, output_loading_info=True
        )
        processor = transformers.AutoProcessor.from_pretrained(folder)
        if not hasattr(processor, "tokenizer"):
            raise ValueError(
                f"it has a {type(processor).__name__} and no processor with a tokenizer; give tokenizer.json and preprocessor_config.json"
            )
    except Exception as error:  # whatever transformers raises is the user's to see in one line
        raise failure(spec, error, f"{name!r} cannot be loaded as a speech-to-text model of transformers") from None
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"text teacher {spec!r}: the weights of {name!r} have no {missing[0]!r}{f' and {len(missing) - 1} more' if missing[1:] else ''}, which "
            "transformers would make up at random; give the whole model"
        )
    if not (folder / "generation_config.json").exists():
        raise ModelError(
            f"text teacher {spec!r}: {name!r} has no generation_config.json, which says how its text begins and ends; save it with the model "
            "(model.generation_config.save_pretrained)"
        )
    return model, processor


def _window(processor: Any, rate: int) -> float:
    """Seconds of the windows that a processor makes of any audio; 0 if they are as long as the audio."""
    shapes = [_inputs(processor, [np.zeros(int(rate * seconds), np.float32)], rate) for seconds in (0.5, 1.0)]
    if any(shapes[0][name].shape != shapes[1][name].shape for name in shapes[0]):
        return 0.0
    return float(processor.feature_extractor.chunk_length)


def _inputs(processor: Any, samples: Sequence[Samples], rate: int) -> dict[str, Tensor]:
    found = processor(audio=list(samples), sampling_rate=rate, return_tensors="pt")
    return dict(found)


@dataclass
class _Writer:
    """Samples of a batch to transcriptions."""

    model: Any
    processor: Any
    rate: int
    settings: TextSettings
    prompt: WhisperPrompt | None
    special: frozenset[int]

    @torch.no_grad()
    def __call__(self, samples: Sequence[Samples]) -> list[Transcription]:
        settings, prompt, device = self.settings, self.prompt, self.model.device
        inputs = {
            name: value.to(device, self.model.dtype if value.is_floating_point() else None)
            for name, value in _inputs(self.processor, samples, self.rate).items()
        }
        generate, first = self.model.generate, 1
        before: dict[str, Any] = {}
        if prompt is not None:
            generate, before = prompt.generate, prompt.begin(inputs)
            first = before["decoder_input_ids"].shape[1]
        output = generate(
            **(inputs | before),
            num_beams=settings.num_beams,
            num_return_sequences=settings.n_best,
            do_sample=False,
            max_new_tokens=self._most_tokens(first),
            return_dict_in_generate=True,
            output_scores=True,
        )
        written = output.sequences[:, first:]
        log_probs = _log_probs(written, output.scores, getattr(output, "beam_indices", None)).cpu()
        hypotheses = [
            self._hypothesis(tokens, values)
            for tokens, values in zip(written.tolist(), log_probs.tolist(), strict=True)
        ]
        each = [hypotheses[start : start + settings.n_best] for start in range(0, len(hypotheses), settings.n_best)]
        facts: list[dict[str, Any]] = (
            prompt.facts(samples, inputs, [one[0] for one in each]) if prompt else [{} for _ in each]
        )
        return [Transcription(some, **fact) for some, fact in zip(each, facts, strict=True)]

    def _most_tokens(self, first: int) -> int:
        config = self.model.config
        limit = getattr(config, "max_target_positions", None) or self.model.generation_config.max_length or _MOST_TOKENS
        limit = max(int(limit) - first, 1)
        return min(self.settings.max_tokens or limit, limit)

    def _hypothesis(self, tokens: list[int], log_probs: list[float]) -> WrittenText:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        kept = [place for place in range(length) if tokens[place] not in self.special]
        finished = length < len(tokens)
        return WrittenText(
            self.processor.tokenizer.decode([tokens[place] for place in kept]).strip(),
            [tokens[place] for place in kept],
            [log_probs[place] for place in kept],
            # Tokens that are not text, such as that of no timestamps, are not what is said.
            sum(log_probs[place] for place in kept) + (log_probs[length] if finished else 0.0),
            finished,
        )


def _log_probs(written: Tensor, scores: Sequence[Tensor], beams: Tensor | None) -> Tensor:
    """(R, L) log-probability of each token of the sequences, step by step: all steps at once would take twice the memory of the scores.

    Args:
        written: (R, L) tokens.
        scores: of each step (N x beams, V).
        beams: (R, L) the row of each token, -1 after the end; None without beams.
    """
    found = torch.zeros(written.shape)
    rows = torch.arange(len(written), device=written.device)
    for step in range(written.shape[1]):
        if step < len(scores):
            at = rows if beams is None else beams[:, step].clamp(min=0)
            step_scores = scores[step].float()
            values = step_scores[at, written[:, step]] - step_scores.logsumexp(-1)[at]
            found[:, step] = values.clamp(max=0.0).cpu()
    return found
