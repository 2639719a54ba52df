"""The identity: what binds a store's data to the teacher, inventory, front end and codec that made it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from asrkd import fingerprint
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd, front_end_from_dict
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store.embedding import Embedding, parse_embedding
from asrkd.store.row_groups import DEFAULT, RowGroups, parse_row_groups
from asrkd.targets.codecs import PosteriorCodec, stream_codec
from asrkd.targets.streams import HIDDEN, POSTERIORS, Codec, Layout

FORMAT = "asrkd/v1"
AUTOCASTS = ("", "bfloat16", "float16")


@dataclass(frozen=True)
class Identity:
    """What a store's targets and features mean.

    A store of transcripts only has no teacher, streams and inventory.

    Attributes:
        teacher: spec of the teacher, for people.
        teacher_fingerprint: hash of its weights, code identity, front end and inventory.
        streams: the codec of each stream of targets, by its name (`asrkd.targets.streams`).
        inventory: the classes that posteriors are over.
        front_end: that the teacher, or a student of the features, was made for.
        subsampling_factor: of the teacher.
        embed: what a row carries besides targets, a spec (`asrkd.store.embedding`).
        autocast, compile: how the teacher computes, which changes the last digits: type of torch's autocast, and torch.compile.
        layer: name of the teacher's layer that the stream `hidden` is the output of.
        codebooks_fingerprint: of the codebooks that its indexes are of.
        row_groups: how shards are cut into row groups.
    """

    teacher: str = ""
    teacher_fingerprint: str = ""
    streams: Mapping[str, Codec] = field(default_factory=dict)
    inventory: Inventory | None = None
    front_end: AnyFrontEnd = field(default_factory=FrontEnd)
    subsampling_factor: int = 1
    embed: str = "none"
    autocast: str = ""
    compile: bool = False
    layer: str = ""
    codebooks_fingerprint: str = ""
    row_groups: RowGroups = DEFAULT

    def __post_init__(self) -> None:
        self.embedding.check(self.front_end)
        if self.autocast not in AUTOCASTS:
            raise ConfigError(
                f"autocast is {self.autocast!r}, but must be one of {', '.join(filter(None, AUTOCASTS))}, or empty"
            )
        for name, codec in self.streams.items():
            if codec.stream != name:
                raise ConfigError(f"targets {name!r} are given the codec {codec.spec!r}, which is for {codec.stream!r}")
        if bool(self.layer) != (HIDDEN in self.streams):
            raise ConfigError("a store has a layer and its codec together, or neither")
        if (POSTERIORS in self.streams) != (self.inventory is not None):
            raise ConfigError("a store has a codec and an inventory together (targets), or neither (transcripts only)")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. The units are named by their number and fingerprint: `inventory.txt` holds them, once."""
        return copy.deepcopy(self._values)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        # Once: it is compared with every shard, and there are thousands of units and shards.
        inventory = self.inventory
        specs = {name: codec.spec for name, codec in self.streams.items()}
        values: dict[str, Any] = {
            "format": FORMAT,
            "teacher": self.teacher,
            "teacher_fingerprint": self.teacher_fingerprint,
            "codec": specs.pop(POSTERIORS, ""),
            "topology": inventory.topology_name if inventory else "",
            "states_per_phone": inventory.states_per_phone if inventory else 1,
            "front_end": self.front_end.to_dict(),
            **{name: getattr(self, name) for name in ("subsampling_factor", "embed", "autocast", "compile")},
        }
        if self.layer:  # else as stores are that know of no layers
            values |= {"layer": self.layer, "layer_codec": specs.pop(HIDDEN)}
            values["codebooks_fingerprint"] = self.codebooks_fingerprint
        if specs:  # likewise
            values["streams"] = dict(sorted(specs.items()))
        if self.row_groups.spec:  # likewise
            values["row_groups"] = self.row_groups.spec
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
            specs = {POSTERIORS: given.pop("codec"), HIDDEN: given.pop("layer_codec", ""), **given.pop("streams", {})}
            found = cls(
                streams={name: stream_codec(name, spec) for name, spec in specs.items() if spec},
                inventory=Inventory(tuple(units), topology, states) if units else None,
                front_end=front_end_from_dict(given.pop("front_end")),
                row_groups=parse_row_groups(given.pop("row_groups", "")),
                **given,
            )
        except (TypeError, AttributeError, KeyError, ConfigError) as error:
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
    def posterior_codec(self) -> PosteriorCodec:
        """The codec of the posteriors, of a store that must have them.

        Raises:
            StoreError: it holds transcripts only.
        """
        if POSTERIORS not in self.streams:
            raise StoreError(
                f"the store holds {', '.join(self.streams) or 'transcripts'} and no posteriors of frames; label the corpus with a teacher of frames first"
            )
        return cast(PosteriorCodec, self.streams[POSTERIORS])

    @functools.cached_property
    def layouts(self) -> dict[str, Layout]:
        """The columns of each stream, in the order of a shard's."""
        order = dict.fromkeys([POSTERIORS, HIDDEN, *sorted(self.streams)])
        return {name: self.streams[name].layout(len(self.units)) for name in order if name in self.streams}

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
        """The same for what `to_dict` returned, as it is in a shard."""
        for name in dict.fromkeys([*self._values, *theirs]):  # theirs may have a stream more
            value = self._values.get(name)
            # The spec is a name for people: the same teacher may be named by another path.
            if name != "teacher" and theirs.get(name) != value:
                raise MismatchError(
                    f"{what} has {name} {_short(theirs.get(name))}, the store has {_short(value)}; targets of the two must not be "
                    "mixed. Use a new store, or the teacher, front end, inventory and codec that this one was made with"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... (fingerprint {fingerprint.of_json(value)[:8]})"
