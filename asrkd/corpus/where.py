"""Conditions on cuts: `duration>=1`, `speaker!=anna`, `id~^2020-`, `custom.language=ar`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    "~": lambda value, pattern: re.search(pattern, str(value)) is not None,
}
_FORM = re.compile(r"\s*([\w.-]+)\s*(<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Where:
    """One condition on a cut, as lhotse writes it to JSON.

    Attributes:
        field: `duration`, `start` (seconds), `sampling_rate`, `id`, `recording_id`, `speaker`, `text`, or `custom.KEY`.
        comparison: `=`, `!=`, `<`, `<=`, `>`, `>=`, or `~` (a regular expression that matches somewhere).
        value: what is compared with; numbers as numbers.
    """

    field: str
    comparison: str
    value: str | float

    def __call__(self, cut: Mapping[str, Any]) -> bool:
        """Whether the cut meets the condition; one without a value meets only `!=`."""
        found = field_of(cut, self.field)
        if found is None:
            return self.comparison == "!="
        if isinstance(self.value, float):
            try:
                found = float(found)
            except (TypeError, ValueError):
                return self.comparison == "!="
        elif self.comparison != "~":
            found = str(found)
        return _COMPARE[self.comparison](found, self.value)


def parse_where(text: str) -> Where:
    """The condition that a text names.

    Raises:
        ConfigError: it has another form, an unknown field, or a value that cannot be compared.
    """
    match = _FORM.fullmatch(text)
    if not match:
        raise ConfigError(f"condition {text!r} is not of the form FIELD=VALUE, FIELD>=NUMBER or FIELD~PATTERN")
    name, comparison, given = match[1], match[2], match[3].strip()
    if name not in (*NUMBERS, *TEXTS) and not name.startswith("custom."):
        raise ConfigError(
            f"condition {text!r}: there is no field {name!r}; choose from {', '.join((*NUMBERS, *TEXTS))} and custom.KEY"
        )
    if comparison == "~":
        try:
            re.compile(given)
        except re.error as error:
            raise ConfigError(f"condition {text!r}: {given!r} is not a regular expression ({error})") from None
        return Where(name, comparison, given)
    if name in TEXTS:
        if comparison not in ("=", "!="):
            raise ConfigError(f"condition {text!r}: {name} is text, which can be compared by =, != and ~ only")
        return Where(name, comparison, given)
    try:
        return Where(name, comparison, float(given))
    except ValueError:
        if name in NUMBERS or comparison not in ("=", "!="):
            raise ConfigError(
                f"condition {text!r}: {given!r} is not a number, which {name}{comparison} needs"
            ) from None
        return Where(name, comparison, given)


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
        return (custom_of(cut) or {}).get(name[len("custom.") :])
    if name == "start":
        return cut.get("start", 0.0)
    return cut.get(name)
