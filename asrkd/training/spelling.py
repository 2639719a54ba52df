"""What a training's units are, and whether they spell its transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from asrkd.corpus.inventory import Inventory, InventoryConfig
from asrkd.corpus.spelling import check_spelling
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer import Tokenizer, read_tokenizer, rules_of, with_rules
from asrkd.corpus.units import tokenizer_of_units
from asrkd.errors import ConfigError
from asrkd.store import Store
from asrkd.streaming.source import Source

if TYPE_CHECKING:
    from asrkd.training.config import TrainConfig


def units_of(settings: InventoryConfig) -> tuple[Tokenizer, Inventory]:
    """The tokenizer and the output units of a config.

    Raises:
        ConfigError: `ctc` units without a blank, or a store without units.
        CorpusError: the tokenizer cannot be read.
        MismatchError: it spells with tokens that the store's units do not have.
    """
    if not settings.store:
        tokenizer = read_tokenizer(settings.lexicon, settings.text)
        return tokenizer, Inventory.from_lexicon(
            tokenizer, settings.topology, states_per_phone=settings.states_per_phone
        )
    inventory = inventory_of_store(settings.store)
    if settings.lexicon:
        tokenizer, what = read_tokenizer(settings.lexicon, settings.text), f"inventory.lexicon: {settings.lexicon!r}"
    else:
        brought, what = tokenizer_of_store(settings.store), f"inventory.store: the tokenizer of {settings.store!r}"
        # Rules that a config does not set are those of the teacher.
        rules = settings.text if settings.text != TextRules() else rules_of(brought)
        tokenizer = with_rules(brought or tokenizer_of_units(inventory), rules)
    inventory.check_tokenizer(tokenizer, what)
    return tokenizer, inventory


def tokenizer_of_store(uri: str) -> Tokenizer | None:
    """What spells text with a store's units; None where its teacher brought nothing.

    Raises:
        AsrkdError: it is damaged.
    """
    return Store.open(uri).tokenizer


def inventory_of_store(uri: str) -> Inventory:
    """The units of a store of soft targets.

    Raises:
        ConfigError: it has none, or its first is not what its topology needs.
    """
    inventory = Store.open(uri).identity.inventory
    if inventory is None:
        raise ConfigError(
            f"inventory.store: {uri!r} is a store of transcripts, which has no units; give a store that a teacher has labeled"
        )
    try:
        inventory.check_first_unit()
    except ConfigError as error:
        raise ConfigError(f"inventory.store: {uri!r}: {error}") from None
    return inventory


def check_transcripts(
    config: TrainConfig, tokenizer: Tokenizer, inventory: Inventory, sources: Mapping[str, Source]
) -> None:
    """Raise `CorpusError` unless the tokenizer spells every transcript that is learned from; utterances without one are passed over.

    Said before the training rather than at the batch that one of them is in.
    """
    if inventory.topology.needs_alignment:  # learns from labels that are made already
        return
    spelled = {
        f"source {name!r}": source
        for name, source in sources.items()
        if config.sources[name].kind == "labeled" or config.soft_loss.alpha < 1
    }
    if config.dev:
        spelled["dev"] = Source("dev", Store.open(config.dev))
    for name, source in spelled.items():
        check_spelling(_transcripts(source), tokenizer.encode, what=f"{name} ({source.store.root!r})")


def _transcripts(source: Source) -> Iterator[tuple[str, str]]:
    """(id, transcript) of the utterances of a source; one row group is held at a time."""
    held, rows = None, []
    for unit, group, row in source.places(np.arange(len(source))):
        if (unit, group) != held:
            held, rows = (unit, group), source.store.read_row_group(unit, group, ["id", "text"]).to_pylist()
        if rows[row]["text"] is not None:
            yield rows[row]["id"], rows[row]["text"]
