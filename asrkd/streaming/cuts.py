"""A store as lhotse cuts, and a dataset of them, for recipes that are built on lhotse (icefall)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.array import Array, TemporalArray
from lhotse.audio import AudioSource
from lhotse.dataset import K2SpeechRecognitionDataset
from lhotse.dataset.input_strategies import BatchIO
from lhotse.serialization import deserialize_custom_field
from lhotse.utils import fastcopy
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.audio import read_audio
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError, MismatchError
from asrkd.store.reader import Store
from asrkd.targets.sparse import SparseTargets

# Custom fields of a cut; each is loaded by `cut.load_NAME()`.
TARGET_FIELDS = ("target_ids", "target_log_probs", "target_missing")


def to_cuts(store: Store) -> CutSet:
    """The utterances of a store as a lazy `CutSet`, in the store's order, one row group in memory at a time.

    Each cut has the embedded audio, its transcript ("" where there is none) as a supervision, and the soft targets as temporal arrays, which
    lhotse trims with the cut: `target_ids` (T, K) int32, `target_log_probs` (T, K) float32 and `target_missing` (T,) float32, where K is the
    largest number of entries of a frame of this utterance; unused places hold -1 and -inf.

    Raises:
        ConfigError: it embeds no audio.
    """
    if store.identity.embedding.column != "audio":
        raise ConfigError(
            f"store {store.root!r} embeds {store.identity.embed!r}, but cuts need audio; label the corpus again with --embed audio, or use "
            "the cuts that it was labeled from"
        )
    return CutSet(_Cuts(store))


class _Cuts:
    """An iterable that can be iterated again."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __iter__(self) -> Iterator[MonoCut]:
        shift = self._store.identity.frame_law.frame_shift
        for row in self._store.rows():
            cut = _cut(row)
            if self._store.target_columns and row[self._store.target_columns[0]] is not None:
                targets = _rectangle(self._store.targets(row))
                for name, values in zip(TARGET_FIELDS, targets, strict=True):
                    setattr(cut, name, _temporal(values, shift / row["sampling_rate"]))
            yield cut


def _cut(row: dict[str, Any]) -> MonoCut:
    recording = Recording(
        id=row["recording_id"],
        sources=[AudioSource(type="memory", channels=[0], source=row["audio"]["bytes"])],
        sampling_rate=row["sampling_rate"],
        num_samples=row["num_samples"],
        duration=row["num_samples"] / row["sampling_rate"],
        channel_ids=[0],
    )
    supervision = SupervisionSegment(
        id=row["id"],
        recording_id=row["recording_id"],
        start=0.0,
        duration=recording.duration,
        text=row["text"] or "",
        speaker=row["speaker"],
    )
    custom = _custom(json.loads(row["custom"]), row["start"]) if row["custom"] else None
    return MonoCut(
        id=row["id"],
        start=0.0,
        duration=recording.duration,
        channel=0,
        supervisions=[supervision],
        recording=recording,
        custom=custom,
    )


def _custom(fields: dict[str, Any], start: float) -> dict[str, Any]:
    """Custom fields with lhotse's objects for arrays and recordings, where these can be loaded for a cut that begins at 0.

    A recording that began with another cut's recording would be read from its beginning; it stays as JSON, and so does what lies in
    a Shar folder.
    """
    kept = {}
    for name, value in list(fields.items()):
        if isinstance(value, dict) and ("sources" in value and start or _is_in_shar(value)):
            kept[name] = fields.pop(name)
    found = deserialize_custom_field(fields) or {}
    for name, value in found.items():
        if isinstance(value, TemporalArray):
            found[name] = fastcopy(value, start=value.start - start)
    return found | kept


def _is_in_shar(manifest: dict[str, Any]) -> bool:
    sources = manifest.get("sources")
    if isinstance(sources, list):
        return any(isinstance(one, dict) and one.get("type") == "shar" for one in sources)
    array = manifest.get("array", manifest)
    return isinstance(array, dict) and array.get("storage_type") == "shar"


def _rectangle(targets: SparseTargets) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """CSR as rows of equal width."""
    counts = targets.counts.numpy()
    used = np.arange(int(counts.max(initial=0)))[None] < counts[:, None]
    ids, log_probs = np.full(used.shape, -1, np.int32), np.full(used.shape, -np.inf, np.float32)
    ids[used], log_probs[used] = targets.ids, targets.log_probs
    return ids, log_probs, targets.missing.numpy()


def _temporal(values: NDArray[Any], frame_shift: float) -> TemporalArray:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    array = Array(storage_type="memory_npy", storage_path="", storage_key=stream.getvalue(), shape=list(values.shape))
    return TemporalArray(array=array, temporal_dim=0, frame_shift=frame_shift, start=0.0)


def targets_of(cuts: Sequence[MonoCut], num_frames: Sequence[int]) -> SparseTargets:
    """Soft targets of cuts that `to_cuts` made, also of trimmed ones, one after another.

    Args:
        num_frames: what the student gives for each cut.

    Raises:
        MismatchError: a cut has no targets, or of another number of frames.
    """
    found = []
    for cut, frames in zip(cuts, num_frames, strict=True):
        if not cut.has_custom("target_ids"):
            raise MismatchError(f"cut {cut.id!r} has no soft targets; make cuts by to_cuts from a labeled store")
        ids, log_probs, missing = (np.asarray(cut.load_custom(name)) for name in TARGET_FIELDS)
        if len(ids) != frames:
            raise MismatchError(
                f"cut {cut.id!r} has soft targets of {len(ids)} frames, but the student gives {frames}; use the teacher's front end and "
                "frame rate, and no transform that changes the time of a cut (speed, concatenation, trimming within a frame)"
            )
        used = ids >= 0
        found.append((used.sum(axis=1), ids[used].astype(np.int64), log_probs[used], missing))
    counts, classes, values, rest = (torch.from_numpy(np.concatenate(part)) for part in zip(*found, strict=True))
    # Cuts do not say how many classes there are.
    num_classes = int(classes.max()) + 1 if len(classes) else 1
    return SparseTargets.of_counts(counts, classes, values, rest, num_classes, torch.tensor(num_frames))


class FrontEndFeatures(BatchIO):
    """lhotse's input strategy with asrkd's front end: (N, T, F) features and (N,) lengths from the audio of cuts."""

    def __init__(self, front_end: AnyFrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    def __call__(self, cuts: CutSet) -> tuple[Tensor, Tensor]:
        features = [self.front_end(torch.from_numpy(read_audio(cut, self.front_end.sampling_rate))) for cut in cuts]
        lengths = torch.tensor([len(one) for one in features], dtype=torch.int32)
        return torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths

    def supervision_intervals(self, cuts: CutSet) -> dict[str, Tensor]:
        """Of whole cuts: frames from 0 on."""
        law = self.front_end.frame_law()
        frames = [law.num_features(cut.num_samples) for cut in cuts]
        number = torch.arange(len(frames), dtype=torch.int32)
        return {
            "sequence_idx": number,
            "start_frame": torch.zeros_like(number),
            "num_frames": torch.tensor(frames, dtype=torch.int32),
        }


class SoftTargetDataset(torch.utils.data.Dataset):
    """lhotse's `K2SpeechRecognitionDataset` with soft targets: a batch of cuts (from a lhotse sampler) to a batch of tensors.

    A batch is as lhotse's: `inputs` (N, T, F) and `supervisions` (`text`, `sequence_idx`, `start_frame`, `num_frames`, `cut`); and
    `targets`, `SparseTargets` in the order of the inputs.

    Args:
        front_end: the student's.
        subsampling_factor: the student's.
        cut_transforms, input_transforms: lhotse's; none may change the time of a cut.
    """

    def __init__(
        self,
        front_end: AnyFrontEnd,
        *,
        subsampling_factor: int = 1,
        cut_transforms: Sequence[Any] = (),
        input_transforms: Sequence[Any] = (),
    ) -> None:
        self._law = front_end.frame_law(subsampling_factor)
        self._dataset = K2SpeechRecognitionDataset(
            return_cuts=True,
            cut_transforms=list(cut_transforms),
            input_transforms=list(input_transforms),
            input_strategy=FrontEndFeatures(front_end),
        )

    def __getitem__(self, cuts: CutSet) -> dict[str, Any]:
        """The batch of these cuts.

        Raises:
            MismatchError: see `targets_of`.
        """
        batch = self._dataset[cuts]
        chosen = batch["supervisions"]["cut"]
        batch["targets"] = targets_of(chosen, [self._law.num_frames(cut.num_samples) for cut in chosen])
        return batch
