"""The identity: what binds a store's data to the teacher, inventory, front end and codec that made it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrkd import fingerprint
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store.embedding import Embedding, parse_embedding
from asrkd.targets.codecs import Codec, parse_codec
from asrkd.targets.layer_codec import LayerCodec, parse_layer_codec

FORMAT = "asrkd/v1"
AUTOCASTS = ("", "bfloat16", "float16")


@dataclass(frozen=True)
class Identity:
    """What a store's targets and features mean.

    A store of transcripts only has no teacher, codec and inventory.

    Attributes:
        teacher: spec of the teacher, for people.
        teacher_fingerprint: hash of its weights, code identity, front end and inventory.
        codec: how the targets are stored.
        inventory: the classes that they are over.
        front_end: that the teacher, or a student of the features, was made for.
        subsampling_factor: of the teacher.
        embed: what a row carries besides targets, a spec (`asrkd.store.embedding`).
        autocast, compile: how the teacher computes, which changes the last digits: type of torch's autocast, and torch.compile.
        layer, layer_codec: name of the teacher's layer whose output stands in the column `layer`, and how (`asrkd.targets.layer_codec`).
        codebooks_fingerprint: of the codebooks that its indexes are of.
    """

    teacher: str = ""
    teacher_fingerprint: str = ""
    codec: Codec | None = None
    inventory: Inventory | None = None
    front_end: AnyFrontEnd = field(default_factory=FrontEnd)
    subsampling_factor: int = 1
    embed: str = "none"
    autocast: str = ""
    compile: bool = False
    layer: str = ""
    layer_codec: LayerCodec | None = None
    codebooks_fingerprint: str = ""

    def __post_init__(self) -> None:
        self.embedding.check(self.front_end)
        if self.autocast not in AUTOCASTS:
            raise ConfigError(
                f"autocast is {self.autocast!r}, but must be one of {', '.join(filter(None, AUTOCASTS))}, or empty"
            )
        if bool(self.layer) != (self.layer_codec is not None):
            raise ConfigError("a store has a layer and its codec together, or neither")
        if (self.codec is None) != (self.inventory is None):
            raise ConfigError("a store has a codec and an inventory together (targets), or neither (transcripts only)")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. The units are named by their number and fingerprint: `inventory.txt` holds them, once."""
        return copy.deepcopy(self._values)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        # Once: it is compared with every shard, and there are thousands of units and shards.
        inventory = self.inventory
        values: dict[str, Any] = {
            "format": FORMAT,
            "teacher": self.teacher,
            "teacher_fingerprint": self.teacher_fingerprint,
            "codec": self.codec.spec if self.codec else "",
            "topology": inventory.topology_name if inventory else "",
            "states_per_phone": inventory.states_per_phone if inventory else 1,
            "front_end": self.front_end.to_dict(),
            **{name: getattr(self, name) for name in ("subsampling_factor", "embed", "autocast", "compile")},
        }
        if self.layer_codec:  # else as stores are that know of no layers
            values |= {"layer": self.layer, "layer_codec": self.layer_codec.spec}
            values["codebooks_fingerprint"] = self.codebooks_fingerprint
        return values | {
            "num_units": len(self.units),
            "inventory_fingerprint": inventory.fingerprint if inventory else "",
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], units: Sequence[str]) -> Identity:
        """The inverse of `to_dict`, given the units of `inventory.txt`.

        Raises:
            StoreError: another format or missing fields.
            MismatchError: the units are others.
        """
        given = dict(values)
        if given.pop("format", None) != FORMAT:
            raise StoreError(f"the store's format is {values.get('format')!r}, but this reader reads {FORMAT!r}")
        try:
            count, expected = given.pop("num_units"), given.pop("inventory_fingerprint")
            topology, states = given.pop("topology"), given.pop("states_per_phone")
            codec, layer_codec = given.pop("codec"), given.pop("layer_codec", "")
            found = cls(
                codec=parse_codec(codec) if codec else None,
                inventory=Inventory(tuple(units), topology, states) if units else None,
                front_end=front_end_from_dict(given.pop("front_end")),
                layer_codec=parse_layer_codec(layer_codec) if layer_codec else None,
                **given,
            )
        except (TypeError, KeyError, ConfigError) as error:
            raise StoreError(
                f"the store's identity cannot be read ({error}); it is damaged or of a later version"
            ) from None
        if found.to_dict()["inventory_fingerprint"] != expected:
            raise MismatchError(
                f"inventory.txt ({len(units)} units) is not the inventory of the manifest ({count} units, fingerprint "
                f"{expected[:12]}), so class ids would be given other names; restore the file"
            )
        return found

    @property
    def fingerprint(self) -> str:
        return fingerprint.of_json(self.to_dict())

    @property
    def units(self) -> tuple[str, ...]:
        """The classes of the targets, none for transcripts only."""
        return self.inventory.units if self.inventory else ()

    @property
    def target_codec(self) -> Codec:
        """The codec, of a store that must have one.

        Raises:
            StoreError: it holds transcripts only.
        """
        if self.codec is None:
            raise StoreError(
                "a store of transcripts holds no targets to encode or decode; label it with a teacher first"
            )
        return self.codec

    @functools.cached_property
    def embedding(self) -> Embedding:
        return parse_embedding(self.embed)

    @functools.cached_property
    def frame_law(self) -> FrameLaw:
        return self.front_end.frame_law(self.subsampling_factor)

    def check(self, other: Identity, *, what: str) -> None:
        """Raise `MismatchError` naming the first field in which `other` (called `what`) differs."""
        self.check_dict(other.to_dict(), what=what)

    def check_dict(self, theirs: Mapping[str, Any], *, what: str) -> None:
        """The same for what `to_dict` returned, as it stands in a shard."""
        for name, value in self._values.items():
            # The spec is a name for people: the same teacher may be named by another path.
            if name != "teacher" and theirs.get(name) != value:
                raise MismatchError(
                    f"{what} has {name} {_short(theirs.get(name))}, the store has {_short(value)}; targets of the two must not be "
                    "mixed. Use a new store, or the teacher, front end, inventory and codec that this one was made with"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (fingerprint {fingerprint.of_json(value)[:8]})"
