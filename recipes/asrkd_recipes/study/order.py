"""In what order the students and variants of a study are trained: a variant may learn from others, or start where they ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from asrkd.errors import ConfigError
from asrkd_recipes.study.config import StudyConfig, VariantConfig


def teachers_by_generation(config: StudyConfig) -> list[list[str]]:
    """The runs of a study's own teachers: those of the first generation, then the one of each later generation."""
    later = range(2, 2 + len(config.generations))
    return [[f"teacher-{n}" for n in range(1, config.teachers + 1)], *([f"generation-{n}"] for n in later)]


def training_order(config: StudyConfig, folder: Callable[[str], Path]) -> list[list[str]]:
    """Names of the students and variants, those of a list waiting for nothing but the lists before it and the study's own teachers.

    Args:
        folder: of a run, by its name.

    Raises:
        ConfigError: a variant waits for a run that there is not, or variants wait for each other.
    """
    needed = _needed(config, folder)
    known, order = set(_own_teachers(config)), []
    left = {name: set(runs) for name, runs in needed.items()}
    while left:
        ready = [name for name, runs in left.items() if not runs - known]
        if not ready:
            name, runs = next(iter(left.items()))
            raise ConfigError(
                f"variants.{name} waits for {min(runs - known)!r}, which is not a run of this study or waits for it in turn; the runs are "
                f"{', '.join(sorted(known | set(needed)))}"
            )
        order.append(ready)
        known |= set(ready)
        left = {name: runs for name, runs in left.items() if name not in known}
    return order


def without_teacher(config: StudyConfig, folder: Callable[[str], Path]) -> list[str]:
    """The students and variants that can be trained next to the teacher: they learn from transcripts alone, and wait for no other run."""
    learners = [name for name in config.students if name != "distilled"]
    for name, given in config.variants.items():
        if given.of in ("labeled", "upper") and not given.text_teacher and not given.untranscribed:
            learners.append(name)
    needed = _needed(config, folder)
    return [name for name in learners if not needed[name]]


def _own_teachers(config: StudyConfig) -> list[str]:
    return [run for runs in teachers_by_generation(config) for run in runs]


def _needed(config: StudyConfig, folder: Callable[[str], Path]) -> dict[str, list[str]]:
    """For each student and variant, the runs that it waits for; a student waits for none but the study's own teachers."""
    folders = {run: folder(run) for run in (*_own_teachers(config), *config.students, *config.variants)}
    students: dict[str, list[str]] = {name: [] for name in config.students}
    return students | {name: _runs_before(given, folders) for name, given in config.variants.items()}


def _runs_before(given: VariantConfig, folders: Mapping[str, Path]) -> list[str]:
    """Names of the runs that a variant learns from, starts from, or names in its `train`: a model may begin with the layers of another.

    Args:
        folders: of runs, by name.
    """
    paths = [Path(os.path.abspath(value)) for value in _texts(given.train)]
    homes = {name: Path(os.path.abspath(folder)) for name, folder in folders.items()}
    named = [name for name, home in homes.items() if any(home in (path, *path.parents) for path in paths)]
    return [*given.teachers, *([given.init] if given.init else []), *named]


def _texts(value: object) -> list[str]:
    """The texts in a part of a config."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []
