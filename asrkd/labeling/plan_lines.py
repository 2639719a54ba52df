"""A cut as a line of the plan; what such a line cannot hold is left out, or is the reason why the cut cannot be labeled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from asrkd.corpus.cut_json import finite
from asrkd.store.plan import to_line


def plan_line(cut: dict[str, Any]) -> tuple[dict[str, Any], bytes, bool]:
    """The cut as it is planned, its line of JSON, and whether fields that are not finite became null.

    Only custom fields may: pandas and others write NaN for a value that is missing. A cut that holds NaN or an infinity
    elsewhere, or text that is not Unicode, becomes `unreadable`, so that labeling puts it into quarantine.
    """
    try:
        return cut, to_line(cut), False
    except UnicodeEncodeError:
        bad = unreadable(cut)
        return bad, to_line(bad), False
    except ValueError:
        pass
    kept = {**_nulled(cut), "id": cut["id"]}
    field = _not_finite(kept)
    if field:
        reason = (
            f"cut {cut['id']!r} has {field}, which is not a finite number; correct the manifest or leave the cut out"
        )
        kept = {"id": cut["id"], "unreadable": reason}
    return kept, to_line(kept), not field


def unreadable(cut: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a cut with text that is not Unicode, such as a file's name of other bytes than UTF-8."""
    field, value = _not_unicode(cut, "") or ("a field", "")
    shown = _escaped(value)
    return {
        "id": _escaped(cut["id"]),
        "unreadable": f"cut {_escaped(cut['id'])!r}: {field} is {shown!r}, which is not UTF-8, so no table, manifest or store can "
        "hold it; rename the file (convmv -f latin1 -t utf8) or correct the manifest",
    }


def _escaped(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _not_unicode(value: Any, path: str) -> tuple[str, str] | None:
    """The first field of a value that is not Unicode, and its text."""
    if isinstance(value, str):
        return (path, value) if _escaped(value) != value else None
    for name, part in _parts(value):
        if _escaped(name) != name:
            return path or "a name of a field", name
        found = _not_unicode(part, f"{path}.{name}" if path else name)
        if found:
            return found
    return None


def _nulled(value: Any) -> Any:
    """A copy with None for what is not finite within `custom`."""
    if isinstance(value, dict):
        return {name: finite(part) if name == "custom" else _nulled(part) for name, part in value.items()}
    return [_nulled(part) for part in value] if isinstance(value, list) else value


def _not_finite(value: Any, path: str = "") -> str:
    """`FIELD=VALUE` of the first number that is not finite; empty without one."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path}={value}"
    return next(
        (found for name, part in _parts(value) if (found := _not_finite(part, f"{path}.{name}".strip(".")))), ""
    )


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    return [(str(number), part) for number, part in enumerate(value)] if isinstance(value, (list, tuple)) else []
