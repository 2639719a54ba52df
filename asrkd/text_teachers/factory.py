"""Text teachers of a user's own code."""

from __future__ import annotations

import inspect

from asrkd.callables import find_callable
from asrkd.errors import ConfigError, ModelError
from asrkd.text_teachers.settings import TextSettings
from asrkd.text_teachers.teacher import TextTeacher, failure


def load_python(spec: str, name: str, device: str, settings: TextSettings) -> TextTeacher:
    """What the factory `package.module:function` returns; it is given `device` and `settings`, if it takes them.

    Raises:
        ModelError: the factory cannot be found, fails, or returns something else.
    """
    try:
        make = find_callable(name, what="factory")
    except ConfigError as error:
        raise ModelError(f"text teacher {spec!r}: {error}") from None
    given = {"device": device, "settings": settings}
    try:
        taken = inspect.signature(make).parameters
        teacher = make(**{key: value for key, value in given.items() if key in taken})
    except Exception as error:  # it is the user's code
        raise failure(spec, error, "the factory fails; correct it") from error
    if not isinstance(teacher, TextTeacher):
        raise ModelError(
            f"text teacher {spec!r}: the factory returns a {type(teacher).__name__}, not an asrkd.text_teachers.TextTeacher"
        )
    if teacher.sampling_rate < 1 or teacher.batch_size < 1 or not teacher.max_seconds > 0 or not teacher.fingerprint:
        raise ModelError(
            f"text teacher {spec!r}: needs a fingerprint, and a sampling_rate, batch_size and max_seconds above 0; correct the factory"
        )
    return teacher
