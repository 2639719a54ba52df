"""Conditions on cuts: `duration>=1`, `speaker!=anna`, `id~^2020-`, `custom.language=ar`.

`duration`, `start` and `sampling_rate` are numbers. `id`, `recording_id`, `speaker` and `text` are text, which is compared as it is
written, in Unicode's composed form (NFC): `007` is not `7`, and `nan` is a name like any other. A custom field is what the cut's own
JSON says: a number is compared as a number (`=12`, `=12.0`), text as text, `true` and `false` by these words; `<`, `<=`, `>` and `>=`
are for numbers, and a custom field that is not one does not meet them. A list or an object is compared as its JSON text. A field that is
missing, null or NaN has no value and meets `!=` alone. `FIELD=` without a value is for text that is empty. `custom.A.B` is the field B of
the object A, unless there is a field of the name `A.B`.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asrkd import text
from asrkd.corpus.cut_json import custom_of, main_track
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import ConfigError

NUMBERS = ("duration", "start", "sampling_rate")
TEXTS = ("id", "recording_id", "speaker", "text")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*((?:custom\.)?[^<>=!~]*?)\s*(<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Where:
    """One condition on a cut, as lhotse writes it to JSON.

    Attributes:
        field: `duration`, `start` (seconds), `sampling_rate`, `id`, `recording_id`, `speaker`, `text`, or `custom.KEY`.
        comparison: `=`, `!=`, `<`, `<=`, `>`, `>=`, or `~` (a regular expression that matches somewhere).
        value: what is compared with, as it was written, in the composed form.
    """

    field: str
    comparison: str
    value: str

    def __call__(self, cut: Mapping[str, Any]) -> bool:
        """Whether the cut meets the condition; one without a value meets only `!=`."""
        found = field_of(cut, self.field)
        if found is None or (isinstance(found, float) and math.isnan(found)):
            return self.comparison == "!="
        if self.comparison == "~":
            return re.search(self.value, _as_text(found)) is not None
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            number = _number(self.value)
            # A word is not a number.
            return self.comparison == "!=" if number is None else _COMPARE[self.comparison](found, number)
        return self.comparison in ("=", "!=") and _COMPARE[self.comparison](_as_text(found), self.value)


def parse_where(condition: str) -> Where:
    """The condition that a text names.

    Raises:
        ConfigError: it has another form, an unknown field, or a value that cannot be compared.
    """
    match = _FORM.fullmatch(condition)
    if not match:
        raise ConfigError(f"condition {condition!r} is not of the form FIELD=VALUE, FIELD>=NUMBER or FIELD~PATTERN")
    name, comparison, given = match[1], match[2], text.normal(match[3].strip())
    if name not in (*NUMBERS, *TEXTS) and not (name.startswith("custom.") and name != "custom."):
        raise ConfigError(
            f"condition {condition!r}: there is no field {name!r}; choose from {', '.join((*NUMBERS, *TEXTS))} and custom.KEY"
        )
    if comparison == "~":
        try:
            re.compile(given)
        except re.error as error:
            raise ConfigError(f"condition {condition!r}: {given!r} is not a regular expression ({error})") from None
    elif name in TEXTS and comparison not in ("=", "!="):
        raise ConfigError(f"condition {condition!r}: {name} is text, which can be compared by =, != and ~ only")
    elif (name in NUMBERS or comparison not in ("=", "!=")) and _number(given) is None:
        raise ConfigError(f"condition {condition!r}: {given!r} is not a number, which {name}{comparison} needs")
    return Where(name, comparison, given)


def _number(value: str) -> int | float | None:
    """A number as JSON and people write it; None for others, such as `nan`, `inf` and `1_000`."""
    if not _NUMBER.fullmatch(value) or not value.isascii():
        return None
    # Whole numbers of any length are compared exactly; those beyond Python's limit of digits are not numbers that JSON has.
    try:
        return int(value)
    except ValueError:
        return float(value)


def _as_text(value: Any) -> str:
    return text.normal(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def field_of(cut: Mapping[str, Any], name: str) -> Any:
    """A field of a cut in lhotse's JSON form; None if it has none."""
    if name == "speaker":
        return speaker_of(cut)
    if name == "text":
        return text_of(cut)
    if name in ("recording_id", "sampling_rate"):
        part = main_track(cut)
        recording = part.get("recording") or {}
        return recording.get("id") if name == "recording_id" else recording.get(name, part.get(name))
    if name.startswith("custom."):
        return _nested(custom_of(cut), name[len("custom.") :])
    if name == "start":
        return cut.get("start", 0.0)
    return cut.get(name)


def _nested(fields: Any, name: str) -> Any:
    if not isinstance(fields, Mapping):
        return None
    if name in fields:
        return fields[name]
    key, _, rest = name.partition(".")
    return _nested(fields.get(key), rest) if rest else None
