"""What Whisper models of `transformers` have of their own: prompts with a language, the token of no speech, times of words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from asrkd.errors import ModelError
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import Samples, Word, WrittenText

_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
# Of vocabularies of English alone.
_ENGLISH = 51864


@dataclass
class WhisperPrompt:
    """How the text of a Whisper model begins.

    Attributes:
        tokens: the decoder's first tokens; the first is the start of a transcript.
        languages: token by language (`en`), empty for models of English alone.
        language_place: of the language in `tokens`, -1 without one.
        detects: the language is found out for each utterance.
        special: tokens that are not text.
    """

    model: Any
    processor: Any
    settings: TextSettings
    rate: int
    tokens: list[int]
    languages: dict[str, int]
    language_place: int
    detects: bool
    special: frozenset[int]
    _seen: list[Tensor] = field(default_factory=list)

    @property
    def generate(self) -> Callable[..., Any]:
        """That of all models: Whisper's own gives the best hypothesis N times in place of the N best."""
        from transformers import GenerationMixin

        return functools.partial(GenerationMixin.generate, self.model)

    def begin(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """What `generate` is given in addition to the inputs; from here on the decoder's first output is caught."""
        count, device = len(inputs["input_features"]), self.model.device
        prompt = torch.tensor([self.tokens] * count, device=device)
        found: dict[str, Any] = {"decoder_input_ids": prompt}
        if self.detects:
            found["encoder_outputs"] = self.model.get_encoder()(inputs["input_features"])
            start = self.model(encoder_outputs=found["encoder_outputs"], decoder_input_ids=prompt[:, :1]).logits[:, 0]
            ids = torch.tensor(list(self.languages.values()), device=device)
            prompt[:, self.language_place] = ids[start[:, ids].argmax(-1)]
        self._seen.clear()
        hook = self.model.register_forward_hook(self._catch)
        self._remove = hook.remove
        return found

    def _catch(self, model: Any, inputs: Any, output: Any) -> None:
        # At the start of a transcript: probabilities of languages and of no speech, for nothing.
        self._seen.append(output.logits[:, 0].float().log_softmax(-1).cpu())
        self._remove()

    def facts(
        self, samples: Sequence[Samples], inputs: dict[str, Tensor], best: Sequence[WrittenText]
    ) -> list[dict[str, Any]]:
        """Of each utterance what `Transcription` has besides its hypotheses."""
        start = self._seen[0][:: self.settings.num_beams].exp()
        found: list[dict[str, Any]] = [{} for _ in best]
        vocabulary = self.processor.tokenizer.get_vocab()
        silent = next((vocabulary[name] for name in _NO_SPEECH if name in vocabulary), None)
        for number, fact in enumerate(found):
            if silent is not None and silent < start.shape[1]:
                fact["no_speech"] = float(start[number, silent])
            if self.languages:
                probs = {name: float(start[number, token]) for name, token in self.languages.items()}
                language = max(probs, key=probs.__getitem__)
                fact |= {"language": language, "language_probability": min(probs[language] / sum(probs.values()), 1.0)}
        if self.settings.word_times and getattr(self.model.generation_config, "alignment_heads", None):
            for fact, words in zip(found, self._word_times(samples, best), strict=True):
                fact["words"] = words
        return found

    def _word_times(self, samples: Sequence[Samples], best: Sequence[WrittenText]) -> list[list[Word] | None]:
        """Of the best hypotheses by the attention of some heads; None where another run writes another text."""
        inputs = self.processor(
            audio=list(samples), sampling_rate=self.rate, return_tensors="pt", return_attention_mask=True
        )
        features = inputs["input_features"].to(self.model.device, self.model.dtype)
        output = self.model.generate(
            features,
            attention_mask=inputs["attention_mask"].to(self.model.device),
            return_token_timestamps=True,
            max_new_tokens=self.model.config.max_target_positions - len(self.tokens),
            num_beams=self.settings.num_beams,
            do_sample=False,
            **language_arguments(self.languages, self.settings),
        )
        found: list[list[Word] | None] = []
        for tokens, times, one, heard in zip(
            output["sequences"].tolist(), output["token_timestamps"].tolist(), best, samples, strict=True
        ):
            kept = [place for place, token in enumerate(tokens) if token not in self.special]
            if [tokens[place] for place in kept] != list(one.tokens):
                found.append(None)
                continue
            found.append(self._words(list(one.tokens), [times[place] for place in kept], len(heard) / self.rate))
        return found

    def _words(self, tokens: list[int], ends: list[float], seconds: float) -> list[Word]:
        """Tokens joined to words, which begin with a space; `ends` are times of the tokens' ends."""
        words: list[Word] = []
        before = 0.0
        held: list[int] = []
        for token, end in zip(tokens, ends, strict=True):
            text = self.processor.tokenizer.decode([token])
            if held and text.startswith(" "):
                words.append(
                    Word(self.processor.tokenizer.decode(held).strip(), words[-1].end if words else 0.0, before)
                )
                held = []
            held.append(token)
            before = min(end, seconds)
        if held:
            words.append(Word(self.processor.tokenizer.decode(held).strip(), words[-1].end if words else 0.0, before))
        return words


def language_arguments(languages: dict[str, int], settings: TextSettings) -> dict[str, str]:
    """What Whisper's own `generate` is told of the language: nothing for models of English alone."""
    if not languages:
        return {}
    return {"task": settings.task} | ({"language": settings.language} if settings.language else {})


def whisper_prompt(
    model: Any, processor: Any, settings: TextSettings, rate: int, special: frozenset[int]
) -> WhisperPrompt | None:
    """How the text of a model begins, by its own `generate`; None for what is not a Whisper.

    Raises:
        ModelError: a model of English alone is asked for another language.
        ValueError: (of transformers) the language or task is not known.
    """
    from transformers.models.whisper.generation_whisper import WhisperGenerationMixin

    if not isinstance(model, WhisperGenerationMixin):
        return None
    model = cast(Any, model)
    config = model.generation_config
    config.forced_decoder_ids = None  # of earlier versions of transformers, in place of a language and task
    by_token = getattr(config, "lang_to_id", None) or {}
    languages = {token.strip("<|>"): number for token, number in by_token.items()}
    if not getattr(config, "is_multilingual", model.config.vocab_size > _ENGLISH):
        languages = {}
        if settings.language not in ("", "en", "english") or settings.task != "transcribe":
            raise ModelError(
                f"the model is of English alone; leave language {settings.language!r} and task {settings.task!r} out"
            )
    elif not languages:
        raise ModelError(
            "the generation_config.json of this multilingual model has no lang_to_id; take that of the published model"
        )
    features = processor(audio=np.zeros(rate, np.float32), sampling_rate=rate, return_tensors="pt")["input_features"]
    tried = model.generate(
        features.to(model.device, model.dtype),
        max_new_tokens=1,
        return_dict_in_generate=True,
        **language_arguments(languages, settings),
    )
    tokens = tried.sequences[0, :-1].tolist()
    place = next((number for number, token in enumerate(tokens) if token in languages.values()), -1)
    detects = bool(languages) and not settings.language
    return WhisperPrompt(model, processor, settings, rate, tokens, languages, place, detects, special)
