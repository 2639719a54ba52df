"""The sources of a training, opened and compared with the student."""

from __future__ import annotations

from asrkd.corpus.inventory import Inventory
from asrkd.errors import MismatchError
from asrkd.store.reader import Store
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.source import Filter, Source
from asrkd.targets.frame_rate_map import FrameRateMap
from asrkd.targets.vocabulary_map import VocabularyMap
from asrkd.training.config import TrainConfig


def open_sources(config: TrainConfig, inventory: Inventory) -> dict[str, Source]:
    """The sources of a config, for a student with this inventory.

    Raises:
        ConfigError: no utterance of a store is left.
        MismatchError: a source without soft targets, or with targets over other units than the student's.
    """
    sources = {}
    settings = config.loader
    disk_cache = DiskCache(settings.disk_cache, settings.disk_cache_gb) if settings.disk_cache else None
    for name, given in config.sources.items():
        store = Store.open(given.store, given.snapshot)
        mapped = None
        if given.kind == "soft":
            stored = store.identity.inventory
            if stored is None:
                raise MismatchError(
                    f"sources.{name} is {given.store!r}, a store of transcripts without soft targets, but its kind "
                    "is 'soft'; label it with a teacher first (asrkd label plan --teacher) or set the kind to 'labeled'"
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
        rate = FrameRateMap(given.frame_rate_map) if given.frame_rate_map else None
        sources[name] = Source(
            name,
            store,
            filter=Filter(
                {column: (low, high) for column, (low, high) in given.bounds.items()},
                speakers=frozenset(given.speakers) or None,
            ),
            vocabulary_map=mapped,
            frame_rate_map=rate,
            audio=given.audio,
            disk_cache=disk_cache,
            layer=bool(config.layer_loss.layer) and given.kind == "soft",
        )
    return sources
