"""From a row of a store to an utterance with features: decode, augment, front end, with a cache of clean data."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.cache import FillCache
from asrkd.corpus.augment import Augment, utterance_rng
from asrkd.corpus.front_end import FrontEnd, check_samples
from asrkd.corpus.waveform import AnyFrontEnd, Waveform
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store.embedding import decode_audio
from asrkd.streaming.batch import Utterance, soft_targets
from asrkd.streaming.pending import INT16, FeatureChanges, PendingSamples
from asrkd.streaming.rows import Place, SourceRows
from asrkd.streaming.selection import Frames
from asrkd.streaming.source import Source
from asrkd.targets.frame_rates import FrameRates
from asrkd.targets.streams import POSTERIORS


class UtteranceReader:
    """Reads utterances of sources as a student with one front end sees them.

    Args:
        front_end: the student's.
        subsampling_factor: the student's.
        augment: transforms of samples (none for sources that embed features) and of features.
        seed: of the augmentation.
        cache_mb: memory for clean data: decoded samples where `augment` changes samples, features otherwise.
        unpack: whether batches have unpacked targets; otherwise they have them as stored, and nothing may change them.
        filterbank: whether features are computed here; otherwise utterances have samples (`asrkd.streaming.pending`).

    Raises:
        ConfigError: changes of features, or features to be computed later, where the student reads samples.
    """

    def __init__(
        self,
        *,
        front_end: AnyFrontEnd,
        subsampling_factor: int,
        augment: Augment,
        seed: int,
        cache_mb: float,
        unpack: bool = True,
        filterbank: bool = True,
    ) -> None:
        stack = 1 if isinstance(front_end, Waveform) else front_end.stack
        self.front_end, self._filterbank = front_end, filterbank
        self._law = front_end.frame_law(subsampling_factor)
        self._augment = augment.samples
        self.changes = FeatureChanges(augment.time_warp, augment.features, augment.views, stack)
        if isinstance(front_end, Waveform):
            _check_of_samples(augment, filterbank)
        self._time_warp = augment.time_warp
        self.unpack = unpack
        self._augments = bool(augment.samples or augment.features or augment.time_warp or augment.views)
        self._seed = seed
        self._cache: FillCache[NDArray[Any]] = FillCache(int(cache_mb * 1e6))

    def check(self, source: Source) -> None:
        """Refuse a source whose frames are not this student's (`MismatchError`), or that holds no input for it."""
        rows, identity, what = source.rows, source.store.identity, f"source {source.name!r}"
        # Transcripts alone have no frames of their own: only the front end's must fit.
        law = self._law if POSTERIORS in identity.streams else self.front_end.frame_law(identity.subsampling_factor)
        if rows.frame_rate_map:
            try:
                rows.frame_rate_map.check(self._rates(rows))
            except (ConfigError, MismatchError) as error:
                raise type(error)(f"sources.{source.name}.frame_rate_map: {error}") from None
        elif identity.frame_law != law:
            raise MismatchError(
                f"{what} was made with the frame law {identity.frame_law}, but the student's front end and subsampling "
                f"factor give {law}; its targets would not fit the student's frames. Use the same frame "
                f"length, shift, stacking and subsampling factor, set sources.{source.name}.frame_rate_map, or label the "
                "corpus again"
            )
        if not self.unpack and identity.streams:
            changed = {
                "a vocabulary map": rows.vocabulary_map is not None,
                "a frame-rate map": rows.frame_rate_map is not None,
                "a time warp": self._time_warp is not None,
            }
            for found in (name for name, given in changed.items() if given):
                raise ConfigError(f"{what} has {found}, which unpack_on_device cannot do; leave unpack_on_device out")
        stored = identity.front_end
        if stored.sampling_rate != self.front_end.sampling_rate:
            raise MismatchError(
                f"{what} holds audio at {stored.sampling_rate} Hz, but the student's front end takes "
                f"{self.front_end.sampling_rate} Hz"
            )
        if identity.embedding.column == "features":
            if stored != self.front_end:
                raise MismatchError(
                    f"{what} holds features of the front end {stored}, but the student's is {self.front_end}; use the "
                    "stored one, or label the corpus again with --embed audio"
                )
            if not self._filterbank:
                raise ConfigError(
                    f"{what} holds features, so features_on_device has no samples to compute them from; leave features_on_device out, or "
                    "label the corpus again with --embed audio"
                )
            if self._augment:
                raise ConfigError(
                    f"{what} holds features, which noise and gain cannot be applied to; leave out the augmentation of "
                    "samples, or label the corpus again with --embed audio"
                )
        elif identity.embedding.column != "audio" and rows.joined_audio is None:
            raise ConfigError(
                f"{what} embeds {identity.embed!r}, so there is nothing to feed a student with; name the cuts that it was labeled "
                f"from (sources.{source.name}.audio), or label the corpus again with --embed audio or --embed features"
            )

    def num_features(self, source: Source) -> Frames:
        """(U,) frames of each utterance at the front end's rate, rounded up to whole output frames."""
        if not source.rows.frame_rate_map:
            factor = source.store.identity.subsampling_factor
            return source.num_frames.map(lambda frames: frames * factor)
        teacher, student = source.store.identity.frame_law.frame_shift, self._law.frame_shift
        factor = self._law.subsampling_factor
        return source.num_frames.map(lambda frames: -(-frames.astype(np.int64) * teacher // student) * factor)

    def num_frames(self, source: Source) -> Frames:
        """(U,) frames of the student's output for each utterance."""
        factor = self._law.subsampling_factor
        return self.num_features(source).map(lambda frames: -(-frames // factor))

    def read(self, rows: SourceRows, place: Place, *, epoch: int, augment: bool = True) -> Utterance:
        """The utterance at a place of a source, augmented as a function of (seed, epoch, id).

        Raises:
            MismatchError: the stored number of frames is not what the frame law gives.
            StoreError: the embedded audio or features are missing or damaged.
        """
        facts = rows.facts(place)
        what = f"utterance {facts['id']!r} of source {rows.name!r}"
        rows.store.identity.frame_law.check(facts["num_samples"], facts["num_frames"], what=what)
        rng = utterance_rng(self._seed, epoch, facts["id"]) if augment and self._augments else None
        samples, features = None, torch.empty(self.front_end.frame_law().num_features(facts["num_samples"]), 0)
        if self._filterbank:
            features = self._features(rows, place, facts, rng, what)
        else:
            samples = PendingSamples(self._samples(rows, place, facts, rng, what), rng)
        num_frames = self._law.num_frames(facts["num_samples"])
        # Where their frames stay as they are, targets are left packed: a batch's are unpacked at once.
        packed = self._time_warp is None and rows.frame_rate_map is None
        streams, alignment = {} if packed else rows.targets(facts), facts["alignment"]
        if rows.frame_rate_map:
            # Hard labels at another frame rate are nobody's.
            alignment = None
            if (soft := soft_targets(streams)) is not None:
                streams[POSTERIORS] = rows.frame_rate_map(soft, self._rates(rows), num_frames)
        elif alignment is not None:
            # Hard labels of a store of transcripts are at the front end's rate.
            alignment = alignment[:: self._law.subsampling_factor // rows.store.identity.subsampling_factor]
        utterance = Utterance(
            id=facts["id"],
            source=rows.name,
            features=features,
            num_frames=num_frames,
            seconds=facts["duration"],
            streams=streams,
            alignment=alignment,
            text=facts["text"],
            speaker=facts["speaker"],
            custom=facts["custom"],
            packed=rows.packed(facts) if packed else {},
            pending=samples,
        )
        return utterance if rng is None else self._changed(utterance, rng)

    def _changed(self, utterance: Utterance, rng: np.random.Generator) -> Utterance:
        """After the augmentation of features; a time warp moves targets and labels with them."""
        streams, alignment, places = utterance.streams, utterance.alignment, None
        if self._time_warp and (places := self._time_warp.draw(len(utterance.features), rng)) is not None:
            moved = self._time_warp.frames(places, self._law.subsampling_factor, utterance.num_frames)
            streams = {name: targets.frames(torch.from_numpy(moved)) for name, targets in streams.items()}
            alignment = None if alignment is None else alignment[moved]
        utterance = dataclasses.replace(utterance, streams=streams, alignment=alignment)
        if utterance.pending:
            return dataclasses.replace(utterance, pending=dataclasses.replace(utterance.pending, places=places))
        features, second = self.changes(utterance.features, rng, places)
        return dataclasses.replace(utterance, features=features, second_view=second)

    def _rates(self, rows: SourceRows) -> FrameRates:
        return FrameRates(rows.store.identity.frame_law, self._law)

    def _features(
        self, rows: SourceRows, place: Place, facts: Mapping[str, Any], rng: np.random.Generator | None, what: str
    ) -> Tensor:
        key = (rows.name, place)
        embedding = rows.store.identity.embedding
        if embedding.column == "features":
            data = rows.payload(place, "features")
            return _unwritten(embedding.features(data, facts["num_samples"], cast(FrontEnd, self.front_end), what))

        if not self._augment:
            # Nothing changes the samples, so the front end needs to run only once.
            def make() -> NDArray[Any]:
                return self.front_end(torch.from_numpy(self._clean(rows, place, facts, what, exact=False))).numpy()

            return torch.from_numpy(self._cached(key, make))
        return self.front_end(torch.from_numpy(self._samples(rows, place, facts, rng, what)))

    def _samples(
        self, rows: SourceRows, place: Place, facts: Mapping[str, Any], rng: np.random.Generator | None, what: str
    ) -> NDArray[Any]:
        """(num_samples,) finite and augmented: float32, or int16 where they are stored so and nothing changes them; not to be written to."""
        stored = self._cached((rows.name, place), lambda: self._clean(rows, place, facts, what, exact=True))
        if not self._augment:
            if stored.dtype != np.int16:
                check_samples(torch.from_numpy(stored))
            return stored
        samples = _as_float(stored)
        for transform in self._augment if rng is not None else ():
            samples = transform(samples, rng)  # type: ignore[arg-type]
            if len(samples) != facts["num_samples"]:
                raise MismatchError(
                    f"{what}: the augmentation {transform!r} turned {facts['num_samples']} samples into {len(samples)}; "
                    "targets would not fit any more"
                )
        check_samples(torch.from_numpy(samples))
        return samples

    def _clean(
        self, rows: SourceRows, place: Place, facts: Mapping[str, Any], what: str, *, exact: bool
    ) -> NDArray[Any]:
        return samples_of(rows, place, facts, self.front_end.sampling_rate, exact=exact, what=what)

    def _cached(self, key: tuple[str, Place], make: Any) -> NDArray[Any]:
        return self._cache.get(key, make, lambda array: array.nbytes)


def _check_of_samples(augment: Augment, filterbank: bool) -> None:
    """Raise `ConfigError` for what cannot be done where the student reads samples."""
    if augment.features or augment.views or augment.time_warp:
        raise ConfigError(
            "augment: time_masks, frequency_masks, frequency_warp and time_warp change frames of features, but the front end is kind: waveform, samples as they "
            "are; leave them out, and let a pretrained encoder mask its own frames (model.args.settings: {mask_time_prob: 0.05})"
        )
    if not filterbank:
        raise ConfigError(
            "loader.features_on_device: is set, but the front end is kind: waveform, which computes no features; leave it out"
        )


def samples_of(
    rows: SourceRows, place: Place, facts: Mapping[str, Any], sampling_rate: int, *, exact: bool, what: str
) -> NDArray[Any]:
    """The audio of an utterance: (num_samples,) float32; if `exact`, int16 for embedded 16-bit audio of one channel.

    Raises:
        StoreError, CorpusError: the audio is missing, damaged, or has another length than its row says.
        MismatchError: the audio has another sampling rate.
    """
    if rows.joined_audio is not None:
        samples: NDArray[Any] = rows.joined_audio.samples(facts["id"], sampling_rate, facts["num_samples"])
    else:
        samples = decode_audio(rows.payload(place, "audio"), sampling_rate, exact, what)
    if len(samples) != facts["num_samples"]:
        raise StoreError(
            f"{what} has {len(samples)} samples of audio, but its row says {facts['num_samples']}; label it again"
        )
    return samples


def _unwritten(array: NDArray[Any]) -> Tensor:
    """A tensor over memory that nobody writes to: batches are padded copies, and no transform works in place."""
    _warn_once()
    return torch.from_numpy(array)


@functools.cache
def _warn_once() -> None:
    """Torch says once in a process that an array is not writable, which is known here; to catch it each time costs more than reading."""
    array = np.zeros(1, np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


def _as_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy in -1..1, so that no transform can write into the cache."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * np.float32(INT16)
    return np.array(samples, dtype=np.float32)
