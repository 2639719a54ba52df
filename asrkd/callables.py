"""Functions and classes of a user's own, named in a config as `package.module:name`."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
from collections.abc import Callable
from typing import Any

from asrkd.errors import ConfigError

_SPEC = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_spec(spec: str) -> None:
    """Raise `ConfigError` for what is not of the form `package.module:name`; nothing is imported."""
    if not _SPEC.fullmatch(spec):
        raise ConfigError(f"must be of the form 'package.module:name', not {spec!r}")


def find_callable(spec: str, *, what: str) -> Callable[..., Any]:
    """What `package.module:name` names.

    Args:
        spec: the name.
        what: what it is for, as an error calls it.

    Raises:
        ConfigError: the spec is of another form, or names nothing that can be called; with what may have been meant.
    """
    module_name, _, name = spec.partition(":")
    if not _SPEC.fullmatch(spec):
        raise ConfigError(f"{what} {spec!r} is not of the form 'package.module:{what.split()[-1]}'")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{what} {spec!r}: module {module_name!r} cannot be imported ({error}){_near_module(module_name)}"
        ) from None
    except Exception as error:  # it is the user's code
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(f"{what} {spec!r}: module {module_name!r} cannot be imported ({why}); correct it") from error
    found = getattr(module, name, None)
    if not callable(found):
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{what} {spec!r}: {module_name!r} has no callable {name!r}{hint}")
    return found


def _near_module(name: str) -> str:
    """A hint at the module that `name` may be a misspelling of: the first part of it that is not there is compared."""
    found: Any = None
    parts = name.split(".")
    for number, part in enumerate(parts):
        paths = None if found is None else list(getattr(found, "__path__", []))
        names = [module.name for module in pkgutil.iter_modules(paths)]
        if found is None:  # An editable install's packages are in no folder of sys.path, but those in use are imported.
            names += [name for name in sys.modules if "." not in name]
        if part not in names:
            near = difflib.get_close_matches(part, names, n=1)
            return f"; did you mean {'.'.join([*parts[:number], *near])!r}?" if near else ""
        try:
            found = importlib.import_module(".".join(parts[: number + 1]))
        except ImportError:
            return ""
    return ""
