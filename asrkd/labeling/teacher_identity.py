"""The identity of a store by its teacher: as it is planned, and as the teacher is now."""

from __future__ import annotations

import dataclasses
import logging
from typing import NamedTuple

from asrkd.acoustic import AcousticModel, as_planned, load_model
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import ConfigError, MismatchError
from asrkd.labeling.reading import MAX_SECONDS
from asrkd.labeling.teacher_pass import AnyTeacher
from asrkd.store import Store
from asrkd.store.identity import Identity
from asrkd.targets.codecs import DEFAULT_CODEC, PosteriorCodec, parse_codec
from asrkd.targets.streams import POSTERIORS, TOKENS
from asrkd.targets.token_codec import TokenLists
from asrkd.text_teachers import TextTeacher, is_text_spec, load_text_teacher

_log = logging.getLogger(__name__)


class Planned(NamedTuple):
    """What a store is planned with.

    Attributes:
        max_seconds: the longest cut that the teacher takes.
        tokenizer: what the teacher spells text with; None where it brings nothing.
    """

    identity: Identity
    max_seconds: float = MAX_SECONDS
    tokenizer: Tokenizer | None = None


def planned_identity(
    teacher: str | None, codec: str | None, embed: str, autocast: str, compile: bool, front_end: AnyFrontEnd | None
) -> Planned:
    """The identity of a store, and what else its teacher brings."""
    if teacher is not None and is_text_spec(teacher):
        if codec is not None or autocast or compile:
            what = f"codec {codec!r}, which packs posteriors of frames," if codec is not None else "autocast or compile"
            raise ConfigError(
                f"{what} is given with the text teacher {teacher!r}, which gives text and no posteriors; leave it out (number types: compute_type in "
                "its YAML)"
            )
        writer = load_text_teacher(teacher)
        identity = text_identity(writer, front_end=front_end or FrontEnd(), embed=embed)
        return Planned(identity, min(writer.max_seconds, MAX_SECONDS))
    if teacher is None:
        if autocast or compile:
            raise ConfigError(
                "autocast or compile is given without a teacher; nothing is computed that they would change"
            )
        if codec is not None:
            raise ConfigError(
                f"codec {codec!r} is given without a teacher; a store of transcripts has no targets to pack"
            )
        if embed == "none":
            raise ConfigError("a store of transcripts without audio or features holds nothing to train on; set embed")
        return Planned(Identity(front_end=front_end or FrontEnd(), embed=embed))
    if front_end is not None:
        raise ConfigError("front_end is given with a teacher; the teacher brings its own front end")
    loaded = load_model(teacher)
    identity = teacher_identity(loaded, codec=parse_codec(codec or DEFAULT_CODEC), embed=embed)
    identity = dataclasses.replace(identity, autocast=autocast, compile=compile)
    return Planned(identity, min(loaded.max_seconds, MAX_SECONDS), spelled_by(loaded))


def spelled_by(teacher: AcousticModel) -> Tokenizer | None:
    """What a teacher spells text with, of its own units; None, with a warning, where it is of other ones."""
    if teacher.tokenizer is None:
        return None
    try:
        teacher.inventory.check_tokenizer(teacher.tokenizer, f"the tokenizer of teacher {teacher.spec!r}")
    except MismatchError as error:
        _log.warning("%s; the store holds none", error)
        return None
    return teacher.tokenizer


def text_identity(teacher: TextTeacher, *, front_end: AnyFrontEnd, embed: str) -> Identity:
    """The identity of a store that this text teacher labels, whose frames are those of a student's front end."""
    return Identity(
        teacher=teacher.spec,
        teacher_fingerprint=teacher.fingerprint,
        streams={TOKENS: TokenLists(teacher.settings.n_best)},
        front_end=front_end,
        embed=embed,
    )


def teacher_identity(teacher: AcousticModel, *, codec: PosteriorCodec, embed: str) -> Identity:
    """The identity of a store that this teacher labels."""
    return Identity(
        teacher=teacher.spec,
        teacher_fingerprint=teacher.fingerprint,
        streams={POSTERIORS: codec},
        inventory=teacher.inventory,
        front_end=teacher.front_end,
        subsampling_factor=teacher.subsampling_factor,
        embed=embed,
    )


def check_teacher(store: Store, device: str = "cpu") -> AnyTeacher | None:
    """Load the teacher that a store was planned with onto a device (None for transcripts only).

    Raises:
        MismatchError: the spec now names another teacher.
    """
    identity = store.identity
    if not identity.teacher:
        return None
    teacher: AnyTeacher
    if is_text_spec(identity.teacher):
        teacher = load_text_teacher(identity.teacher, device)
    else:
        loaded = load_model(identity.teacher, device, autocast=identity.autocast, compile=identity.compile, probe=False)
        teacher = as_planned(loaded, identity.teacher_fingerprint)
    if teacher.fingerprint != identity.teacher_fingerprint:
        raise MismatchError(
            f"teacher {identity.teacher!r} now has the fingerprint {teacher.fingerprint[:12]}, the store {store.root!r} was planned "
            f"with {identity.teacher_fingerprint[:12]}; targets of two teachers must not be mixed. Restore the teacher, or "
            "plan a new store"
        )
    if isinstance(teacher, TextTeacher):
        return teacher
    found = teacher_identity(teacher, codec=identity.posterior_codec, embed=identity.embed)
    kept = ("streams", "autocast", "compile", "layer", "codebooks_fingerprint", "row_groups")
    identity.check(
        dataclasses.replace(found, **{name: getattr(identity, name) for name in kept}),
        what=f"teacher {teacher.spec!r}",
    )
    return teacher
