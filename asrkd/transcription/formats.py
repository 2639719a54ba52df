"""How transcripts are written: text, JSON Lines, CTM and SRT."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from asrkd.corpus.cut_json import CutJson
from asrkd.errors import CorpusError
from asrkd.evaluation.files import check_id
from asrkd.transcription.transcribe import TranscribedUtterance, transcript

# A subtitle holds two lines of this many characters, and no more than some seconds.
_LINE, _SECONDS = 42, 7.0

Writer = Callable[[str, Iterator[TranscribedUtterance]], Iterator[str]]


def text_of_recording(name: str, utterances: Iterator[TranscribedUtterance]) -> Iterator[str]:
    """`name word word ...`, a line for each recording: what `asrkd score` reads."""
    check_id(name)
    yield f"{name} {transcript(utterances)}".rstrip() + "\n"


def json_of_utterances(name: str, utterances: Iterator[TranscribedUtterance]) -> Iterator[str]:
    """A JSON object for each utterance: id of the recording, start, end, text, score, words with times and confidences, and the next best texts."""
    for utterance in utterances:
        found = utterance.decoded
        value = {
            "id": name,
            "start": round(utterance.start, 3),
            "end": round(utterance.end, 3),
            "text": found.text,
            "score": round(found.score, 4),
            "words": [
                {
                    "word": word.word,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                }
                for word in found.words
            ],
        }
        if found.alternatives:
            value["alternatives"] = [{"text": text, "score": round(score, 4)} for text, score in found.alternatives]
        yield json.dumps(value, ensure_ascii=False) + "\n"


def ctm_of_words(name: str, utterances: Iterator[TranscribedUtterance]) -> Iterator[str]:
    """NIST's `recording channel start duration word confidence`."""
    check_id(name)
    for utterance in utterances:
        for word in utterance.decoded.words:
            yield f"{name} 1 {word.start:.3f} {word.end - word.start:.3f} {word.word} {word.confidence:.4f}\n"


def srt_of_words(name: str, utterances: Iterator[TranscribedUtterance]) -> Iterator[str]:
    """Subtitles of SubRip."""
    number = 0
    for utterance in utterances:
        lines: list[str] = []
        begin = end = 0.0
        for word in [*utterance.decoded.words, None]:
            if lines and (word is None or word.end - begin > _SECONDS or not _fits(lines, word.word)):
                number += 1
                yield f"{number}\n{_time(begin)} --> {_time(end)}\n" + "\n".join(lines) + "\n\n"
                lines = []
            if word is None:
                break
            if not lines:
                begin, lines = word.start, [word.word]
            elif len(lines[-1]) + 1 + len(word.word) <= _LINE:
                lines[-1] += f" {word.word}"
            else:
                lines.append(word.word)
            end = word.end


def _fits(lines: list[str], word: str) -> bool:
    return len(lines) < 2 or len(lines[-1]) + 1 + len(word) <= _LINE


def _time(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


FORMATS: dict[str, Writer] = {
    "text": text_of_recording,
    "jsonl": json_of_utterances,
    "ctm": ctm_of_words,
    "srt": srt_of_words,
}


def only_one(cuts: Iterator[CutJson]) -> Iterator[CutJson]:
    """Raise `CorpusError` where there is a second recording, before the first is transcribed: a file of subtitles is of one."""
    first, second = next(cuts, None), next(cuts, None)
    if second is not None:
        raise CorpusError(
            f"srt is for one recording, and {second['id']!r} is a second one; transcribe them one by one, or choose jsonl or ctm"
        )
    if first is not None:
        yield first
