"""A Hugging Face dataset as `save_to_disk` writes it, as a corpus: Arrow files, in which the bytes of each audio file are as they are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asrkd import text
from asrkd.corpus.audio import Unreadable
from asrkd.corpus.dataset_columns import DatasetColumns
from asrkd.corpus.places import inside, placed_recording
from asrkd.corpus.utterances import cut_json, file_recording
from asrkd.errors import CorpusError

_DICT, _STATE = "dataset_dict.json", "state.json"


def is_arrow(path: Path) -> bool:
    """Whether a path is an Arrow file, or a folder of `save_to_disk`."""
    return (
        path.suffix == ".arrow" or (path / _DICT).is_file() or ((path / _STATE).is_file() and any(path.glob("*.arrow")))
    )


def arrow_files(path: Path) -> list[Path]:
    """The files of a dataset, in order.

    Raises:
        CorpusError: a folder with several splits, or whose list of files is damaged.
    """
    if not path.is_dir():
        return [path]
    try:
        if (path / _DICT).is_file():
            splits = json.loads(text.read(path / _DICT, what="dataset"))["splits"]
            if len(splits) != 1:
                raise CorpusError(
                    f"folder {str(path)!r} holds the splits {', '.join(splits)}, which are rarely one corpus; give one: {str(path / splits[0])!r}"
                )
            return arrow_files(path / splits[0])
        listed = json.loads(text.read(path / _STATE, what="dataset"))["_data_files"]
        return [path / one["filename"] for one in listed]
    except (ValueError, KeyError, TypeError, IndexError):
        raise CorpusError(
            f"folder {str(path)!r} is not a dataset of datasets.save_to_disk; it is damaged, so save it again"
        ) from None


def arrow_cuts(files: list[Path], options: Mapping[str, str]) -> Iterator[dict[str, Any] | Unreadable]:
    """The rows of Arrow files.

    Args:
        files: in order.
        options: column by meaning (`asrkd.corpus.dataset_columns`).

    Raises:
        CorpusError: a file is not Arrow, is compressed, or has no audio.
    """
    for file in files:
        what = f"dataset {str(file)!r}"
        try:
            yield from _file_cuts(Path(os.path.abspath(file)), options, what)
        except (pa.ArrowException, OSError) as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise CorpusError(
                f"{what} cannot be read as Arrow ({why}); it is damaged or cut off, so restore it"
            ) from None


def _file_cuts(file: Path, options: Mapping[str, str], what: str) -> Iterator[dict[str, Any] | Unreadable]:
    with pa.memory_map(str(file)) as source, open(file, "rb") as stream:
        base, size = source.read_buffer().address, source.size()
        source.seek(0)
        is_file = stream.read(6) == b"ARROW1"
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        columns = DatasetColumns(reader.schema, options, what)
        batches = (reader.get_batch(one) for one in range(reader.num_record_batches)) if is_file else iter(reader)
        number = -1
        for batch in batches:
            audio = batch.column(columns.audio)
            content = audio.field("bytes") if columns.is_struct else pa.nulls(len(audio), pa.binary())
            begins, ends = _places(content, base, size, what)
            facts = batch.select([name for name in columns.names if name != columns.audio]).to_pylist()
            paths = _paths(audio) if columns.is_struct else audio.to_pylist()
            for row, (values, path) in enumerate(zip(facts or [{}] * len(audio), paths, strict=True)):
                number += 1
                said, where = columns.utterance(values, path, f"{file.stem}-{number}"), f"{what} row {number}"
                if content[row].is_valid:
                    place = inside(file, int(begins[row]), int(ends[row] - begins[row]))
                    yield cut_json(said, placed_recording(said.id, place, stream, f"the audio of {where}"), where)
                elif path:
                    yield cut_json(said, file_recording(file.parent / path, said.id), where)
                else:
                    yield Unreadable(said.id, f"{where} has no audio; leave it out")


def _paths(audio: pa.StructArray) -> list[str | None]:
    has_path = audio.type.get_field_index("path") >= 0
    return audio.field("path").to_pylist() if has_path else [None] * len(audio)


def _places(values: pa.Array, base: int, size: int, what: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The first byte of each value in its file, and the byte behind it."""
    if values.null_count == len(values):
        return np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    _, offsets, data = values.buffers()
    kind = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    edges = np.frombuffer(offsets, kind)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    begin = 0 if data is None else data.address - base
    if not 0 <= begin <= size or (len(edges) and begin + int(edges[-1]) > size):
        raise CorpusError(
            f"{what} is compressed, so the audio of one row cannot be found in it; save it again without compression"
        )
    return begin + edges[:-1], begin + edges[1:]
