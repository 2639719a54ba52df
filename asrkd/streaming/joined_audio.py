"""Audio for a store that embeds none: from lhotse cuts, joined to its rows by id."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd import fingerprint, text
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.windows import owned_seconds
from asrkd.errors import CorpusError


class JoinedAudio:
    """The cuts of a JSON Lines manifest, or of a Shar folder, by id.

    The manifest stays on disk; memory holds sixteen bytes a cut (a hash of the id and where the line begins), from a file that
    reader processes share. A compressed manifest is unpacked into a temporary folder, and the cuts of a Shar folder are written there,
    with the places of their audio.

    Raises:
        CorpusError: the manifest cannot be read, or a line is not a cut.
    """

    def __init__(self, manifest: str | Path) -> None:
        self.manifest = Path(manifest)
        folder = tempfile.mkdtemp(prefix="asrkd-cuts-")
        self._cleanup = weakref.finalize(self, _remove, folder, os.getpid())
        self._lines = self._unpacked(Path(folder))
        keys, starts = self._scan()
        order = np.argsort(keys, kind="stable")
        self._check_ids(keys[order], starts[order])
        self._table = Path(folder) / "index.npy"
        np.save(self._table, np.stack([keys[order], starts[order].astype(np.uint64)]))
        self.fingerprint = fingerprint.of_bytes(np.sort(keys).tobytes())
        self._open()

    def _open(self) -> None:
        self._keys, self._starts = np.load(self._table, mmap_mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_keys", "_starts", "_cleanup")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def samples(self, utterance_id: str, sampling_rate: int, num_samples: int | None = None) -> NDArray[np.float32]:
        """(num_samples,) float32 of a cut, resampled at need; of a window as many as are asked for from where it owns them.

        Raises:
            CorpusError: there is no cut of this id, or its audio cannot be read.
        """
        key = _hash(utterance_id)
        first = int(np.searchsorted(self._keys, key))
        # Two ids may share a hash: the line says which it is.
        for place in range(first, len(self._keys)):
            if self._keys[place] != key:
                break
            with open(self._lines, "rb") as stream:
                stream.seek(int(self._starts[place]))
                (cut,) = text.json_lines(stream.readline(), what=str(self.manifest))
            if cut["id"] == utterance_id:
                samples, owned = read_audio(to_cut(cut), sampling_rate), owned_seconds(cut)
                first = round(owned[0] * sampling_rate) if owned else 0
                return samples[first:][:num_samples] if owned else samples
        raise CorpusError(
            f"{str(self.manifest)!r} has no cut {utterance_id!r}, but the store that it is joined to has; give the manifest "
            "from which the store was labeled"
        )

    def _unpacked(self, folder: Path) -> Path:
        if self.manifest.is_dir():
            with open(folder / "cuts.jsonl", "w", encoding="utf-8") as lines:
                for cut in iterate_json(self.manifest):
                    lines.write(json.dumps(cut, ensure_ascii=False) + "\n")
            return folder / "cuts.jsonl"
        if self.manifest.suffix != ".gz":
            return self.manifest
        try:
            with gzip.open(self.manifest, "rb") as packed, open(folder / "cuts.jsonl", "wb") as plain:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError, zlib.error) as error:
            raise CorpusError(f"cuts {str(self.manifest)!r} cannot be read: {error}") from None
        return folder / "cuts.jsonl"

    def _scan(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        keys, starts, position = [], [], 0
        try:
            with open(self._lines, "rb") as stream:
                for number, line in enumerate(stream, start=1):
                    if line.strip(b" \t\r\n"):
                        keys.append(_hash(self._id_of(line, number)))
                        starts.append(position)
                    position += len(line)
        except OSError as error:
            raise CorpusError(f"cuts {str(self.manifest)!r} cannot be read: {error.strerror}") from None
        if not keys:
            raise CorpusError(f"cuts {str(self.manifest)!r} are empty")
        return np.array(keys, np.uint64), np.array(starts, np.int64)

    def _check_ids(self, keys: NDArray[np.uint64], starts: NDArray[np.int64]) -> None:
        """Refuse two cuts of one id: it would not be clear whose audio is meant."""
        same = np.flatnonzero(keys[1:] == keys[:-1])
        with open(self._lines, "rb") as stream:
            for first in same.tolist():
                pair = []
                for start in starts[first : first + 2].tolist():
                    stream.seek(start)
                    pair.append(json.loads(stream.readline().decode("utf-8-sig"))["id"])
                if pair[0] == pair[1]:
                    raise CorpusError(
                        f"{str(self.manifest)!r} has the cut {pair[0]!r} more than once, so it is not clear whose audio is meant; "
                        "make the ids unique (lhotse: cuts.modify_ids)"
                    )

    def _id_of(self, line: bytes, number: int) -> str:
        try:
            # A byte order mark is of the file, not of the line.
            key = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))["id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            key = None
        if not isinstance(key, str):
            raise CorpusError(
                f"line {number} of {str(self.manifest)!r} is not a lhotse cut; give a manifest of cuts in JSON Lines"
            )
        return key


def _hash(utterance_id: str) -> np.uint64:
    return np.uint64(int(fingerprint.of_bytes(utterance_id.encode("utf-8", "surrogatepass"))[:16], 16))


def _remove(folder: str, pid: int) -> None:
    # A forked child must not take away what its parent uses.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
