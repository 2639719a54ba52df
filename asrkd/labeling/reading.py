"""From cuts to what the teacher receives: batches fixed by the plan, read one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.corpus.audio import read_audio, refuse_silence
from asrkd.corpus.cut_json import CutJson, custom_json, main_track, to_cut
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.resampler import resample
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.corpus.windows import owned_samples
from asrkd.errors import CorpusError
from asrkd.store.embedding import Embedding

# Frames of features in a batch, padding included. Fixed, because a shard's bytes may depend on the batches.
BATCH_FRAMES = 8000
MAX_SECONDS = 7200.0
_NO_FEATURES = np.zeros((0, 1), np.float32)


@dataclass(frozen=True)
class SampleInput:
    """What a text teacher is given in place of features: samples.

    Attributes:
        sampling_rate: of the samples, hertz.
        batch_size: cuts in a batch.
    """

    sampling_rate: int
    batch_size: int


@dataclass(frozen=True)
class LengthLimit:
    """The longest cut that a teacher takes.

    Attributes:
        teacher: for messages.
        seconds: the longest one.
    """

    teacher: str
    seconds: float


# A teacher sees a cut as a whole, so its memory bounds a cut, whatever the teacher.
NO_LIMIT = LengthLimit("a teacher", MAX_SECONDS)


@dataclass(frozen=True)
class CutFeatures:
    """An utterance that was read.

    Attributes:
        row: its columns before there are targets.
        features: (T, F) float32, that the teacher is given; (S,) samples for a text teacher.
        num_samples: that they are made of; of a window more than what the row has.
        first_sample: of these, that the row begins with.
    """

    row: dict[str, Any]
    features: NDArray[np.float32]
    num_samples: int
    first_sample: int = 0

    def own_frames(self, law: FrameLaw) -> slice:
        """Which of the teacher's frames are the row's."""
        first = self.first_sample // law.frame_shift
        return slice(first, first + law.num_frames(self.row["num_samples"]))


@dataclass(frozen=True)
class CutBatch:
    """Utterances that go through the teacher together, and the reasons why other cuts, by id, do not."""

    heard: list[CutFeatures]
    bad: dict[str, str]


def batches(
    cuts: Sequence[CutJson], front_end: AnyFrontEnd, samples: SampleInput | None = None
) -> Iterator[list[CutJson]]:
    """Cuts sorted by duration (then order), in batches of at most BATCH_FRAMES padded frames, or of as many cuts as a text teacher takes."""
    law = front_end.frame_law()
    batch: list[CutJson] = []
    for cut in sorted(cuts, key=lambda one: one["duration"]):
        frames = law.num_features(int(cut["duration"] * front_end.sampling_rate))
        is_full = frames * (len(batch) + 1) > BATCH_FRAMES if samples is None else len(batch) == samples.batch_size
        if batch and is_full:
            yield batch
            batch = []
        batch.append(cut)
    if batch:
        yield batch


def read_batch(
    cuts: Sequence[CutJson],
    front_end: AnyFrontEnd,
    embedding: Embedding,
    samples: SampleInput | None = None,
    limit: LengthLimit = NO_LIMIT,
) -> CutBatch:
    """Read the audio of cuts and make their features; a cut that cannot be used is bad."""
    heard, bad = [], {}
    for cut in cuts:
        try:
            heard.append(_hear(cut, front_end, embedding, samples, limit))
        except CorpusError as error:
            bad[cut["id"]] = str(error)
    return CutBatch(heard, bad)


def _hear(
    cut_json: CutJson,
    front_end: AnyFrontEnd,
    embedding: Embedding,
    sample_input: SampleInput | None,
    limit: LengthLimit,
) -> CutFeatures:
    cut = to_cut(cut_json)
    if cut.duration > limit.seconds and limit is not NO_LIMIT:
        raise CorpusError(
            f"cut {cut.id!r} is {cut.duration:.2f} s long, but {limit.teacher} takes {limit.seconds:g} s at a time. Split it (asrkd segment --max-seconds) "
            "and plan again"
        )
    if cut.duration > MAX_SECONDS:
        raise CorpusError(
            f"cut {cut.id!r} is {cut.duration:.1f} s long; a teacher sees a cut as a whole, for which more than {MAX_SECONDS:.0f} s "
            "need too much memory. Split it (asrkd segment) and plan again"
        )
    rate = front_end.sampling_rate
    # Features are made from 16-bit samples, which FLAC holds, so that a student can make the same.
    samples = np.clip(np.rint(read_audio(cut, rate) * 32768.0), -32768, 32767).astype(np.int16)
    refuse_silence(samples, f"cut {cut.id!r}")
    has_features = sample_input is None or embedding.column == "features"
    features = _features(samples, front_end) if has_features else _NO_FEATURES
    if not front_end.frame_law().num_features(len(samples)):
        raise CorpusError(f"cut {cut.id!r} has {len(samples)} samples, too few for one frame; leave it out")
    heard, num_samples, first, text = features, len(samples), 0, text_of(cut_json)
    window = owned_samples(cut_json, num_samples, front_end.frame_law(), rate)
    if window is not None:
        # Its text would be that of the whole window.
        first, text = window.first, None
        samples = samples[first : first + window.count]
        features = _features(samples, front_end) if embedding.column == "features" else features
    row: dict[str, Any] = {
        "id": cut.id,
        "recording_id": str(main_track(cut_json)["recording"]["id"]),
        "start": float(cut.start) + first / rate,
        "duration": len(samples) / rate,
        "sampling_rate": rate,
        "num_samples": len(samples),
        "speaker": speaker_of(cut_json),
        "text": text,
        "custom": custom_json(cut_json),
    }
    columns = embedding.columns(cut.id, samples, features, front_end)
    if sample_input is not None:
        heard = _signal(samples, rate, sample_input.sampling_rate)
    return CutFeatures(row | columns, heard, num_samples, first)


def _features(samples: NDArray[np.int16], front_end: AnyFrontEnd) -> NDArray[np.float32]:
    features: NDArray[np.float32] = front_end(torch.from_numpy(samples.astype(np.float32) / 32768.0)).numpy()
    return features


def _signal(samples: NDArray[np.int16], rate: int, wanted: int) -> NDArray[np.float32]:
    """(S,) samples in -1..1 at the rate that is wanted."""
    signal = torch.from_numpy(samples.astype(np.float32) / 32768.0)
    resampled: NDArray[np.float32] = resample(signal, rate, wanted).numpy()
    return resampled
