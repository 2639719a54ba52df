"""A text teacher's part: transcriptions of a batch, and the columns of a row that they become."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from asrkd import text
from asrkd.acoustic import is_out_of_memory
from asrkd.corpus.text_flags import judge
from asrkd.errors import AsrkdError, ModelError, one_line
from asrkd.labeling.reading import CutFeatures
from asrkd.targets.token_codec import TokenLists, WrittenTokens
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import TextTeacher, Transcription, WrittenText


def transcribe(heard: Sequence[CutFeatures], teacher: TextTeacher) -> tuple[list[Transcription | None], dict[str, str]]:
    """Transcriptions of utterances; where the teacher fails on several, each is tried alone.

    Returns:
        For each utterance a transcription, or None where the teacher fails on it, though not on noise; and the reasons for these by id.

    Raises:
        ModelError: the teacher fails on anything, or gives what is not a transcription.
    """
    if not heard:
        return [], {}
    try:
        return list(teacher([one.features for one in heard])), {}
    except AsrkdError:
        raise
    except Exception as error:  # every runtime has its own kinds
        why, is_memory = one_line(error), is_out_of_memory(error)
    # Not in the handler, where the error holds on to the tensors of the failed attempt.
    if len(heard) > 1:
        found: list[Transcription | None] = []
        bad: dict[str, str] = {}
        for one in heard:
            alone, reason = transcribe([one], teacher)
            found, bad = found + alone, bad | reason
        return found, bad
    row = heard[0].row
    if not is_memory and not teacher.works():
        raise ModelError(f"text teacher {teacher.spec!r} fails on {row['id']!r}, and on noise: {why}")
    what = "needs more memory than the device has" if is_memory else f"fails on it, though not on others ({why})"
    return [None], {
        row[
            "id"
        ]: f"cut {row['id']!r} of {row['duration']:.2f} s: text teacher {teacher.spec!r} {what}; split it, or leave it out"
    }


def columns_of_text(found: Transcription, seconds: float, settings: TextSettings) -> dict[str, Any]:
    """The columns of an utterance's text, and of the stream of tokens.

    Args:
        seconds: of its audio.
        settings: what is made of the text.
    """
    best = found.hypotheses[0]
    raw = _utf8(best.text)
    normalized = settings.text(raw)
    written, ambiguous = settings.settled(raw)
    judgment = judge(
        normalized,
        seconds,
        settings.flags,
        raw=raw,
        finished=best.finished,
        no_speech=found.no_speech,
        language=found.language,
        language_probability=found.language_probability,
        expected_language=settings.language,
        ambiguous=ambiguous,
    )
    texts = [written, *(settings.written(_utf8(one.text)) for one in found.hypotheses[1:])]
    words = None
    if found.words is not None:
        words = json.dumps(
            [[_utf8(one.text), round(one.start, 3), round(one.end, 3)] for one in found.words], ensure_ascii=False
        )
    confidence = best.confidence
    return {
        "text": written,
        "text_raw": raw,
        "text_confidence": None if math.isnan(confidence) else confidence,
        "text_rate": judgment.rate,
        "text_compression": judgment.compression,
        "text_repetition": judgment.repetition,
        "text_no_speech": found.no_speech,
        "text_language": found.language,
        "text_flags": list(judgment.flags),
        "text_words": words,
        **TokenLists(settings.n_best).pack(
            [_written(one, normal) for one, normal in zip(found.hypotheses, texts, strict=True)]
        ),
    }


def _written(one: WrittenText, normalized: str) -> WrittenTokens:
    log_probs = one.log_probs if len(one.log_probs) else [math.nan] * len(one.tokens)
    return WrittenTokens(one.tokens, log_probs, one.total, normalized)


def _utf8(written: str) -> str:
    """A text that a file can hold: a token may be a part of a character."""
    return written if text.is_utf8(written) else written.encode("utf-8", "replace").decode()
