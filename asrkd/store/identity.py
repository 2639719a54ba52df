"""The identity: what binds a store's data to the teacher, inventory, front end and codec that made it."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asrkd import fingerprint
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.errors import ConfigError, MismatchError, StoreError

FORMAT = "asrkd/v1"
EMBEDS = ("none", "audio", "features")
AUTOCASTS = ("", "bfloat16", "float16")


@dataclass(frozen=True)
class Identity:
    """What a store's targets and features mean.

    A store of transcripts only has no teacher, codec and units.

    Attributes:
        teacher: spec of the teacher, for people.
        teacher_fingerprint: hash of its weights, code identity, front end and inventory.
        codec: codec spec.
        topology, units, states_per_phone: the inventory.
        front_end: settings of the front end.
        subsampling_factor: of the teacher.
        embed: what a row carries besides targets.
        autocast, compile: how the teacher computes, which changes the last digits: type of torch's autocast, and torch.compile.
        layer, layer_codec: name of the teacher's layer whose output stands in the column `layer`, and how (`asrkd.targets.layer_codec`).
        codebooks_fingerprint: of the codebooks that its indexes are of.
    """

    teacher: str = ""
    teacher_fingerprint: str = ""
    codec: str = ""
    topology: str = ""
    units: tuple[str, ...] = ()
    states_per_phone: int = 1
    front_end: Mapping[str, Any] = field(default_factory=dict)
    subsampling_factor: int = 1
    embed: str = "none"
    autocast: str = ""
    compile: bool = False
    layer: str = ""
    layer_codec: str = ""
    codebooks_fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.embed not in EMBEDS:
            raise ConfigError(f"embed is {self.embed!r}, but must be one of {', '.join(EMBEDS)}")
        if self.autocast not in AUTOCASTS:
            raise ConfigError(
                f"autocast is {self.autocast!r}, but must be one of {', '.join(filter(None, AUTOCASTS))}, or empty"
            )
        if bool(self.layer) != bool(self.layer_codec):
            raise ConfigError("a store has a layer and its codec together, or neither")
        if bool(self.codec) != bool(self.units):
            raise ConfigError("a store has a codec and units together (targets), or neither (transcripts only)")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. The units are named by their number and fingerprint: `inventory.txt` holds them, once."""
        return copy.deepcopy(self._values)

    @functools.cached_property
    def _values(self) -> dict[str, Any]:
        # Once: it is compared with every shard, and there are thousands of units and shards.
        values = dataclasses.asdict(self)
        del values["units"]
        if not self.layer:
            # As stores are that know of no layers.
            for name in ("layer", "layer_codec", "codebooks_fingerprint"):
                del values[name]
        inventory = self.inventory.fingerprint if self.inventory else ""
        return {"format": FORMAT} | values | {"num_units": len(self.units), "inventory_fingerprint": inventory}

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
            found = cls(**(given | {"units": tuple(units)}))
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
    def inventory(self) -> Inventory | None:
        """The inventory of the targets, None for transcripts only."""
        return Inventory(self.units, self.topology, self.states_per_phone) if self.units else None

    @functools.cached_property
    def frame_law(self) -> FrameLaw:
        return front_end_from_dict(self.front_end).frame_law(self.subsampling_factor)

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
