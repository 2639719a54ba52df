"""What a study's config must not ask for, said before a stage of hours begins."""

from __future__ import annotations

import re

from asrkd.corpus.topology import make_topology
from asrkd.errors import ConfigError
from asrkd.targets.codecs import parse_codec
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.variants import STUDENTS, TARGETS

# How the names of other runs begin.
_RUNS = ("teacher-", "generation-", *(f"{student}-" for student in STUDENTS))


def check_study(config: StudyConfig) -> None:
    """Check names, targets and codecs.

    Raises:
        ConfigError: no test set; rounds of alignment that cannot be; nothing to choose from on dev; a kind of targets or a codec that does not exist; a variant with a name that another run has, or compared with a
            student that the study does not have.
    """
    if not config.tests:
        raise ConfigError(
            "the study names no test set, so nothing could be scored; set tests, e.g. {clean: test_clean}"
        )
    if config.align_rounds < 0:
        raise ConfigError(f"align_rounds is {config.align_rounds}, but must be at least 0")
    if config.align_rounds and not make_topology(config.topology).needs_alignment:
        raise ConfigError(
            f"align_rounds is {config.align_rounds}, but topology {config.topology!r} trains on transcripts without an alignment; leave it out"
        )
    for name, choices in (
        ("leave_early", config.decoding.leave_early),
        ("insertion_penalties", config.decoding.insertion_penalties),
    ):
        if not choices:
            raise ConfigError(f"decoding.{name} is empty, so there is nothing to choose from on dev; give at least one")
    _check_targets("targets", config.targets)
    parse_codec(config.codec)
    for name, given in config.variants.items():
        if not re.fullmatch(r"[\w.-]+", name) or name in (*STUDENTS, "teacher", "first") or name.startswith(_RUNS):
            raise ConfigError(
                f"variant {name!r} cannot be a folder beside those of {', '.join(STUDENTS)}; give another name of letters, digits, . _ and -"
            )
        for key, other in (("labeled", given.labeled), ("upper", given.upper)):
            if other not in (*STUDENTS, *config.variants):
                raise ConfigError(f"variants.{name}.{key} is {other!r}, which is no student of this study")
        if given.targets:
            _check_targets(f"variants.{name}.targets", given.targets)
        if given.codec:
            parse_codec(given.codec)


def _check_targets(key: str, targets: str) -> None:
    if targets not in TARGETS:
        raise ConfigError(f"{key} is {targets!r}, but must be one of {', '.join(TARGETS)}")
