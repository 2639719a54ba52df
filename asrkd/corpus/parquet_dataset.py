"""A Hugging Face dataset in Parquet files as a corpus: the column `audio` holds the bytes of audio files, or their paths."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asrkd.corpus.audio import Unreadable
from asrkd.corpus.dataset_columns import DatasetColumns
from asrkd.corpus.parquet_values import MOST_BYTES, column_place, value_finder
from asrkd.corpus.places import bytes_recording, inside
from asrkd.corpus.utterances import cut_json, file_recording
from asrkd.errors import CorpusError

_SHARD = re.compile(r"(?P<split>.*)-(?P<number>\d+)-of-(?P<count>\d+)\.parquet")
# Rows that are held at a time.
_ROWS = 16


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a dataset's folder, or of `data` in it, in order of name; none where it is something else."""
    return next((found for place in (folder, folder / "data") if (found := sorted(place.glob("*.parquet")))), [])


def split_files(folder: Path) -> list[Path]:
    """The files of the only split in a folder.

    Raises:
        CorpusError: there are several splits, or a file of the split is missing.
    """
    files = parquet_files(folder)
    splits: dict[str, list[tuple[int, int, Path]]] = defaultdict(list)
    for file in files:
        match = _SHARD.fullmatch(file.name)
        splits[match["split"] if match else ""].append(
            (int(match["number"]), int(match["count"]), file) if match else (0, 0, file)
        )
    if len(splits) > 1:
        ways = " or ".join(f"'{files[0].parent}/{name}-*.parquet'" if name else "a file" for name in sorted(splits))
        raise CorpusError(
            f"folder {str(folder)!r} holds {len(splits)} splits ({', '.join(name or 'others' for name in sorted(splits))}), which are rarely "
            f"one corpus; give one: {ways}"
        )
    for name, shards in splits.items():
        missing = set(range(shards[0][1])) - {number for number, _, _ in shards} if name else set()
        if missing:
            raise CorpusError(
                f"folder {str(folder)!r} has {len(shards)} of the {shards[0][1]} files of the split {name!r}, not number {min(missing)}; "
                "restore it, or give the files that are there by a pattern"
            )
    return files


def parquet_cuts(files: list[Path], options: Mapping[str, str]) -> Iterator[dict[str, Any] | Unreadable]:
    """The rows of Parquet files.

    Args:
        files: in order.
        options: column by meaning (`asrkd.corpus.dataset_columns`).

    Raises:
        CorpusError: a file is not Parquet, has no audio, or row groups that are too large to read one.
    """
    for file in files:
        what = f"dataset {str(file)!r}"
        try:
            with pq.ParquetFile(file) as parquet:
                columns = DatasetColumns(parquet.schema_arrow, options, what)
                yield from _file_cuts(Path(os.path.abspath(file)), parquet, columns, what)
        except (pa.ArrowException, OSError) as error:
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            raise CorpusError(
                f"{what} cannot be read as Parquet ({why}); it is damaged or cut off, so restore it"
            ) from None


def _file_cuts(
    file: Path, parquet: pq.ParquetFile, columns: DatasetColumns, what: str
) -> Iterator[dict[str, Any] | Unreadable]:
    number = -1
    for group in range(parquet.num_row_groups):
        chunk = column_place(parquet, group, columns.audio)
        if columns.is_struct and chunk.size > MOST_BYTES:
            raise CorpusError(
                f"{what} has {chunk.size / 2**30:.1f} GiB of audio in its row group {group}, which is read as a whole for any of its rows; write it "
                "again with smaller row groups (datasets: to_parquet(batch_size=100), pyarrow: row_group_size=100)"
            )
        finder = value_finder(file, chunk)
        rows = parquet.iter_batches(_ROWS, row_groups=[group], columns=columns.names)
        for row, values in enumerate(value for batch in rows for value in batch.to_pylist()):
            number += 1
            audio = values[columns.audio]
            data, path = (audio.get("bytes"), audio.get("path")) if isinstance(audio, dict) else (None, audio)
            said = columns.utterance(values, path, f"{file.stem}-{number}")
            where = f"{what} row {number}"
            if data is not None:
                offset = finder(data)
                place = {"file": str(file), "row_group": group, "row": row, "column": columns.audio, "size": len(data)}
                place = place if offset is None else inside(file, offset, len(data))
                yield cut_json(said, bytes_recording(said.id, "inside", place, data, f"the audio of {where}"), where)
            elif path:
                yield cut_json(said, file_recording(file.parent / path, said.id), where)
            else:
                yield Unreadable(said.id, f"{where} has no audio; leave it out")
