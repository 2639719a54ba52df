"""What a training reads besides its config, by content: a lexicon that was edited changes results, one that was moved does not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from asrkd import fingerprint, text
from asrkd.corpus.augment import Augment, NoiseAugment, Reverb
from asrkd.corpus.tokenizer import tokenizer_fingerprint, tokenizer_to_dict
from asrkd.errors import ConfigError
from asrkd.store.reader import Store
from asrkd.training.spelling import inventory_of_store, tokenizer_of_store

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig


def inputs(
    config: TrainConfig, stores: Mapping[str, Store] = MappingProxyType({}), augment: Augment | None = None
) -> dict[str, str]:
    """Fingerprints of the files and stores that a config names, by key.

    Args:
        config: of the training.
        stores: of the sources, by name, that are open already.
        augment: its augmentation, whose noises and impulse responses are read already; without it they are left out.

    Raises:
        AsrkdError: one of them cannot be read.
    """
    found = {}
    if config.inventory.lexicon:
        found["inventory.lexicon"] = tokenizer_fingerprint(config.inventory.lexicon)
    if config.inventory.store:
        units = inventory_of_store(config.inventory.store).fingerprint
        brought = None if config.inventory.lexicon else tokenizer_of_store(config.inventory.store)
        found["inventory.store"] = fingerprint.of_json([units, tokenizer_to_dict(brought)]) if brought else units
    for name, source in config.sources.items():
        found[f"sources.{name}.store"] = of_store(stores.get(name) or Store.open(source.store, source.snapshot))
        if source.vocabulary_map:
            found[f"sources.{name}.vocabulary_map"] = text.fingerprint(source.vocabulary_map)
    if config.sequence.grammar:
        found["sequence.grammar"] = text.fingerprint(config.sequence.grammar)
    for key, root in (("dev", config.dev), ("prior", config.prior)):
        if root:
            found[key] = of_store(Store.open(root))
    if config.init:
        try:
            found["init"] = fingerprint.of_file(config.init)
        except OSError as error:
            raise ConfigError(
                f"init: {config.init!r} cannot be read ({error.strerror or error}); correct the path"
            ) from None
    for transform in augment.samples if augment else ():
        if isinstance(transform, NoiseAugment):
            found["augment.noise"] = transform.fingerprint
        if isinstance(transform, Reverb) and config.augment.reverb:
            found["augment.reverb"] = transform.fingerprint
    return found


def of_store(store: Store) -> str:
    """Of a store's identity and its shards' footers, which another content would change."""
    return fingerprint.of_json(
        [store.identity.fingerprint, [[unit, store.footer_fingerprint(unit)] for unit in store.units()]]
    )
