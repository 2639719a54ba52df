"""Which column of a Hugging Face dataset means what, and the utterance that a row is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from asrkd.corpus.sound import SUFFIXES
from asrkd.corpus.utterances import CorpusUtterance, as_text
from asrkd.errors import CorpusError

# The first of these that is there is taken; datasets of speech have no common names for more than `audio`.
NAMES: dict[str, Sequence[str]] = {
    "audio": ("audio",),
    "id": ("id", "utt_id", "utterance_id", "audio_id", "segment_id"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk_id"),
    "language": ("language", "lang", "locale"),
    "gender": ("gender", "sex"),
}
# What `id=` may name that is not a column: the name of the audio file, and the file of the dataset with the row's number.
AUDIO_PATH, ROW = "audio.path", "row"


class DatasetColumns:
    """The columns of a dataset by their meaning.

    Attributes:
        audio: the name of the audio's column.
        is_struct: whether it is `{bytes, path}`; else it holds paths.
        names: of the columns to read.
    """

    def __init__(self, schema: pa.Schema, options: Mapping[str, str], what: str) -> None:
        """Choose columns.

        Args:
            schema: of the dataset.
            options: column by meaning, where the usual names are not meant.
            what: the dataset as an error names it.

        Raises:
            CorpusError: there is no such column, or the audio's is not of audio.
        """
        there = schema.names
        self._chosen: dict[str, str] = {}
        for meaning, names in NAMES.items():
            given = options.get(meaning)
            if given is not None and given not in there and not (meaning == "id" and given in (AUDIO_PATH, ROW)):
                raise CorpusError(f"{what} has no column {given!r}, only {_listed(there)}; correct {meaning}={given}")
            named = [given] if given else [name for name in names if name in there]
            fits = [
                one
                for one in named
                if one not in there or meaning == "audio" or _can_be(meaning, schema.field(one).type)
            ]
            if named and not fits and (given or meaning == "text"):
                raise CorpusError(
                    f"{what} has a column {named[0]!r} of the type {schema.field(named[0]).type}, which is not {meaning}; name another "
                    f"(FORM:PATH?{meaning}=COLUMN), or cast it"
                )
            if fits:
                self._chosen[meaning] = fits[0]
        if "audio" not in self._chosen:
            hint = next((name for name in there if _holds_audio(schema.field(name).type)), "COLUMN")
            raise CorpusError(
                f"{what} has no column 'audio', only {_listed(there)}; say which it is: FORM:PATH?audio={hint}"
            )
        self.audio = self._chosen.pop("audio")
        kind = schema.field(self.audio).type
        self.is_struct = _holds_audio(kind)
        if not self.is_struct and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise CorpusError(
                f"{what} has a column {self.audio!r} of the type {kind}, but audio is a struct of bytes and path (datasets.Audio), or a path; "
                "cast it: dataset.cast_column('audio', datasets.Audio())"
            )
        taken = {self.audio, *self._chosen.values()}
        self._custom = [name for name in there if name not in taken and _is_plain(schema.field(name).type)]
        self.names = [name for name in there if name in taken or name in self._custom]

    def utterance(self, row: Mapping[str, Any], path: str | None, place: str) -> CorpusUtterance:
        """What a row says.

        Args:
            row: values by column.
            path: of its audio file, if the row has one.
            place: the file of the dataset and the row's number.
        """
        said = {meaning: as_text(row.get(name)) for meaning, name in self._chosen.items()}
        key = said.get("id")
        if key is None:
            key = _stem(path) if path and self._chosen.get("id") != ROW else place
        custom = {name: row[name] for name in self._custom if row[name] is not None}
        text = row.get(self._chosen["text"]) if "text" in self._chosen else None
        return CorpusUtterance(
            key,
            text=None if text is None else str(text),
            speaker=said.get("speaker"),
            language=said.get("language"),
            gender=said.get("gender"),
            custom=custom or None,
        )


def _stem(path: str) -> str:
    stem, suffix = os.path.splitext(PurePosixPath(path).name)
    return stem if suffix.lower() in SUFFIXES else stem + suffix


def _holds_audio(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _can_be(meaning: str, kind: pa.DataType) -> bool:
    """Whether values of a type can say it: text is text, and ids and speakers may be numbers."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return True
    # A gender by number is a class, whose name is elsewhere.
    return meaning in ("id", "speaker") and pa.types.is_integer(kind)


def _is_plain(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return any(test(kind) for test in tests)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "") if names else "none at all"
