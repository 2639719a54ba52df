"""The sources of a training, opened and compared with the student."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from asrkd.config import BY_CONTENT, setting
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.text_flags import FLAGS
from asrkd.errors import ConfigError, MismatchError
from asrkd.store.reader import Store
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.loader import LoaderConfig
from asrkd.streaming.selection import BOUNDED, Filter
from asrkd.streaming.source import Source
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.streams import POSTERIORS, TOKENS
from asrkd.targets.token_codec import TokenLists
from asrkd.targets.vocabulary_map import VocabularyMap

KINDS = ("labeled", "soft")


@dataclass
class SourceConfig:
    """A store to train from, by name."""

    store: str = setting(resume=BY_CONTENT)
    """Folder or URI of the store."""
    kind: str = setting("labeled", one_of=KINDS)
    """`labeled` (CTC on the text, a transcript or a text teacher's, or cross-entropy with the alignment) or `soft` (cross-entropy with the stored targets)."""
    n_best: int = setting(1, at_least=1)
    """With `ctc`, train on this many of the texts that a text teacher stored, each weighted by its probability among them."""
    weight: float = setting(1.0, at_least=0)
    """Factor of this source's loss."""
    vocabulary_map: str = setting("", resume=BY_CONTENT)
    """File that maps the units of a teacher with another inventory: a teacher unit, a tab and a student unit per line."""
    lossy_map: bool = False
    """Allow the vocabulary map to leave out teacher units."""
    frame_rate_map: str = setting("", form=FrameRateMap)
    """For a teacher of other frames, by time: `pool` (mean), `nearest`, `peak` (`ctc`: the least blank) or, of whole groups, `pick` and `pick:OFFSET`."""
    snapshot: str = ""
    """Train only from the work units pinned by `asrkd store snapshot` under this name."""
    bounds: dict[str, list[float | None]] = setting(dict, infinite=True, pair=True)
    """Keep only utterances within a lowest and a highest value of `duration`, `num_frames`, `kept_mass`, `entropy` or `confidence`, of a text teacher of `text_confidence`, `text_rate`, `text_compression`, `text_repetition` or `text_no_speech`, e.g. `{confidence: [0.6, null]}`."""
    without_flags: list[str] = setting(list, one_of=FLAGS)
    """Leave out utterances whose text a text teacher's store flags with one of these (docs/teachers.md), e.g. `[repetition, long]`."""
    speakers: list[str] = setting(list)
    """Keep only utterances of these speakers; an empty list keeps all."""
    audio: str = setting("", resume=BY_CONTENT)
    """Manifest of lhotse with the audio of a store that embeds none."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for column in self.bounds:
            if column not in BOUNDED:
                yield f"bounds.{column}", f"there is no such column to filter by; choose from {', '.join(BOUNDED)}"
        if self.n_best > 1 and self.kind != "labeled":
            yield "n_best", f"is {self.n_best}, but kind 'soft' trains on posteriors of frames; set kind to 'labeled'"


def open_sources(
    settings: Mapping[str, SourceConfig],
    inventory: Inventory,
    loader: LoaderConfig,
    *,
    streams: Sequence[str] = (),
    max_seconds: float = math.inf,
) -> dict[str, Source]:
    """The sources of a config, for a student with this inventory.

    Args:
        loader: how they are read.
        streams: of targets that soft sources give in addition to posteriors.
        max_seconds: the longest utterance that the student takes.

    Raises:
        ConfigError: no utterance of a store is left.
        MismatchError: a source without soft targets, or with targets over other units than the student's.
    """
    sources = {}
    disk_cache = DiskCache(loader.disk_cache, loader.disk_cache_gb) if loader.disk_cache else None
    for name, given in settings.items():
        store = Store.open(given.store, given.snapshot)
        mapped = None
        if given.kind == "soft":
            stored = store.identity.inventory
            if stored is None:
                what = "the text of a text teacher" if TOKENS in store.identity.streams else "transcripts"
                raise MismatchError(
                    f"sources.{name} is {given.store!r}, a store of {what} without soft targets, but its kind "
                    "is 'soft'; label it with a teacher of frames first (asrkd label plan --teacher) or set the kind to 'labeled'"
                )
            if given.vocabulary_map and inventory.topology.maps_from(stored.topology):
                mapped = VocabularyMap.read(given.vocabulary_map, stored.units, inventory.units, lossy=given.lossy_map)
            elif stored != inventory:
                raise MismatchError(
                    f"sources.{name}: the store {given.store!r} has targets over {len(stored)} units of "
                    f"topology {stored.topology_name!r}, the student's inventory has {len(inventory)} units of "
                    f"topology {inventory.topology_name!r} or other names; their classes would be mixed up. Use the "
                    f"lexicon, topology and states_per_phone of the teacher, or, for one topology, set sources.{name}.vocabulary_map"
                )
        if given.n_best > 1:
            _check_n_best(name, given, store, inventory)
        rate = FrameRateMap(given.frame_rate_map) if given.frame_rate_map else None
        if rate and rate.needs_blank and not inventory.topology.has_blank:
            raise ConfigError(
                f"sources.{name}.frame_rate_map: is {rate.spec!r}, but topology {inventory.topology_name!r} has no blank; give pool or nearest"
            )
        sources[name] = Source(
            name,
            store,
            filter=Filter(
                {column: (low, high) for column, (low, high) in given.bounds.items()},
                speakers=frozenset(given.speakers) or None,
                without_flags=frozenset(given.without_flags),
            ),
            vocabulary_map=mapped,
            frame_rate_map=rate,
            audio=given.audio,
            disk_cache=disk_cache,
            streams=(POSTERIORS, *(streams if given.kind == "soft" else [TOKENS] if given.n_best > 1 else [])),
            max_seconds=max_seconds,
        )
    return sources


def _check_n_best(name: str, given: SourceConfig, store: Store, inventory: Inventory) -> None:
    """Refuse more texts of an utterance than a store has, or than a topology can learn from, by `ConfigError`."""
    codec = store.identity.streams.get(TOKENS)
    most = codec.most if isinstance(codec, TokenLists) else 1
    if given.n_best > most:
        raise ConfigError(
            f"sources.{name}.n_best: is {given.n_best}, but the store {given.store!r} has {'one text' if most == 1 else f'{most} texts'} of an "
            "utterance; lower it, or label with a text teacher whose n_best is higher"
        )
    if inventory.topology.needs_alignment:
        raise ConfigError(
            f"sources.{name}.n_best: is {given.n_best}, but topology {inventory.topology_name!r} learns from alignments, which are of one text; leave it out"
        )
