"""Whisper models for CTranslate2, by faster-whisper's features, tokenizer and prompts, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrkd import fingerprint
from asrkd.errors import ModelError
from asrkd.extras import import_optional
from asrkd.hub import model_folder
from asrkd.text_teachers.numerals import numeral_tokens
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import Samples, TextTeacher, Transcription, Word, WrittenText, failure

_PATTERNS = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
_NEEDED = ("model.bin", "config.json", "tokenizer.json")
# faster-whisper's own.
_MOST_TOKENS = 448
# How texts are made here, for the fingerprint; change it whenever the same model may write other texts.
_METHOD = "features without the last frame"


def load_faster_whisper(spec: str, name: str, device: str, settings: TextSettings) -> TextTeacher:
    """A folder of CTranslate2, a name on the hub, or a size of faster-whisper (`large-v3`).

    On a CPU it runs on one thread, so that its texts do not depend on the machine's cores.

    Raises:
        DependencyError: faster-whisper is not installed.
        ModelError: the model cannot be loaded, or does not know the language.
    """
    faster_whisper = import_optional("faster_whisper", f"text teacher {spec!r} needs faster-whisper")
    import ctranslate2
    from faster_whisper.tokenizer import Tokenizer
    from faster_whisper.transcribe import get_suppressed_tokens
    from faster_whisper.utils import _MODELS

    folder = model_folder(
        f"text teacher {spec!r}", _MODELS.get(name, name), lambda files: _PATTERNS, "a Whisper model of CTranslate2"
    )
    missing = [file for file in _NEEDED if not (folder / file).is_file()]
    if missing:
        raise ModelError(
            f"text teacher {spec!r}: {name!r} has no {missing[0]}, so it is not a Whisper model of CTranslate2; make one with "
            "ct2-transformers-converter --copy_files tokenizer.json preprocessor_config.json"
        )
    place, _, number = device.partition(":")
    try:
        model = faster_whisper.WhisperModel(
            str(folder), place, int(number or 0), settings.compute_type, cpu_threads=1, local_files_only=True
        )
    except Exception as error:  # whatever CTranslate2 raises is the user's to see in one line
        raise failure(spec, error, f"{name!r} cannot be loaded by faster-whisper") from None
    multilingual = bool(model.model.is_multilingual)
    if not multilingual and (settings.language not in ("", "en") or settings.task != "transcribe"):
        raise ModelError(
            f"text teacher {spec!r}: it is of English alone; leave language {settings.language!r} and task {settings.task!r} out"
        )
    if settings.language and settings.language not in model.supported_languages:
        raise ModelError(
            f"text teacher {spec!r}: language {settings.language!r} is not one of its {', '.join(model.supported_languages)}"
        )
    tokenizer = Tokenizer(model.hf_tokenizer, multilingual, task=settings.task, language=settings.language or "en")
    files = sorted(file for pattern in _PATTERNS for file in folder.glob(pattern))
    identity = [
        _METHOD,
        ctranslate2.__version__.split(".")[0],
        *([file.name, fingerprint.of_file(file)] for file in files),
    ]
    detects = multilingual and not settings.language
    suppressed = list(get_suppressed_tokens(tokenizer, [-1]))
    if settings.suppress_numerals:
        suppressed += numeral_tokens(range(tokenizer.eot), tokenizer.decode)
    return TextTeacher(
        _CTranslate(model, tokenizer, settings, detects, suppressed),
        fingerprint.of_json(identity),
        int(model.feature_extractor.sampling_rate),
        max_seconds=float(model.feature_extractor.chunk_length),
        batch_size=settings.batch_size,
    )


@dataclass
class _CTranslate:
    """Samples of a batch to transcriptions."""

    model: Any
    tokenizer: Any
    settings: TextSettings
    detects: bool
    suppressed: list[int]

    def __call__(self, samples: Sequence[Samples]) -> list[Transcription]:
        from faster_whisper.audio import pad_or_trim

        model, settings, tokenizer = self.model, self.settings, self.tokenizer
        # faster-whisper's own runs leave out the last frame, which is of padding.
        features = np.stack([pad_or_trim(model.feature_extractor(one)[..., :-1]) for one in samples])
        encoded = model.encode(features)
        prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
        prompts = [list(prompt) for _ in samples]
        # (language, probability) of each; for models of English alone there is none.
        spoken = [one[0] for one in model.model.detect_language(encoded)] if model.model.is_multilingual else []
        if self.detects:
            place = prompt.index(tokenizer.language)
            for row, (token, _) in zip(prompts, spoken, strict=True):
                row[place] = tokenizer.tokenizer.token_to_id(token)
        # CTranslate2 writes half of its max_length at most.
        wanted = settings.max_tokens or _MOST_TOKENS
        limit = min(_MOST_TOKENS, max(2 * wanted, wanted + len(prompt)))
        room = min(limit // 2, limit - len(prompt))
        results = model.model.generate(
            encoded,
            prompts,
            beam_size=settings.num_beams,
            num_hypotheses=settings.n_best,
            max_length=limit,
            return_scores=True,
            return_logits_vocab=settings.num_beams == 1,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=self.suppressed,
        )
        lengths = [len(one) for one in samples]
        words: Sequence[list[Word] | None] = [None for _ in results]
        if settings.word_times:
            words = self._words(encoded, results, lengths)
        probs = self._probs(encoded, results, lengths)
        found = []
        for number, result in enumerate(results):
            hypotheses = [self._hypothesis(result, rank, room, one) for rank, one in enumerate(probs[number])]
            language, probability = spoken[number] if spoken else (None, None)
            found.append(
                Transcription(
                    hypotheses,
                    words[number],
                    float(result.no_speech_prob),
                    language and language.strip("<|>"),
                    probability,
                )
            )
        return found

    def _hypothesis(self, result: Any, rank: int, room: int, probs: Sequence[float] | None) -> WrittenText:
        """A hypothesis of a result.

        Args:
            room: tokens that there was room for.
            probs: of its tokens; None to take them from the logits, which CTranslate2 keeps in order without a beam.
        """
        tokens = list(result.sequences_ids[rank])
        if probs is None:
            log_probs = [
                _log_prob(np.array(logits), token) for token, logits in zip(tokens, result.logits[rank], strict=False)
            ]
        else:
            log_probs = [float(np.log(max(value, 1e-30))) for value in probs]
        # The score is over the tokens without that of the end, of which it has the probability.
        total = min(float(result.scores[rank]) * max(len(tokens), 1), 0.0)
        return WrittenText(self.tokenizer.decode(tokens).strip(), tokens, log_probs, total, len(tokens) < room)

    def _probs(
        self, encoded: Any, results: Sequence[Any], lengths: Sequence[int]
    ) -> list[list[Sequence[float] | None]]:
        """Probabilities of the tokens of each hypothesis, by another pass of the decoder over it, where there is a beam."""
        found: list[list[Sequence[float] | None]] = [[None for _ in result.sequences_ids] for result in results]
        for rank in range(max(map(len, found)) if self.settings.num_beams > 1 else 0):
            tokens = [result.sequences_ids[rank] if rank < len(result.sequences_ids) else [] for result in results]
            aligned = self.model.model.align(encoded, self.tokenizer.sot_sequence, tokens, self._frames(lengths))
            for some, one, ids in zip(found, aligned, tokens, strict=True):
                if rank < len(some):
                    some[rank] = list(one.text_token_probs)[: len(ids)]
        return found

    def _words(self, encoded: Any, results: Sequence[Any], lengths: Sequence[int]) -> list[list[Word]]:
        """Words of the best hypotheses with times, by faster-whisper."""
        tokens = [result.sequences_ids[0] for result in results]
        return [
            [Word(word["word"].strip(), float(word["start"]), float(word["end"])) for word in words]
            for words in self.model.find_alignment(self.tokenizer, tokens, encoded, self._frames(lengths))
        ]

    def _frames(self, lengths: Sequence[int]) -> list[int]:
        return [max(length // self.model.feature_extractor.hop_length, 1) for length in lengths]


def _log_prob(logits: Any, token: int) -> float:
    logits = logits.astype(np.float32)
    top = float(logits.max())
    return min(float(logits[token]) - top - float(np.log(np.exp(logits - top).sum())), 0.0)
