from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from asrkd import config as configs
from asrkd.errors import ConfigError
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.order import training_order, without_teacher

LONGER = {"train": {"schedule": [{"steps": 5, "mixture": {"labeled": 1}}]}}


def folder(name: str) -> Path:
    return Path("work/runs") / name


def study(variants: dict[str, Any], **changes: Any) -> StudyConfig:
    system = {"model": {"factory": "asrkd.models:LSTMStudent"}, "steps": 3}
    values = {"work": "work", "data": "data", "tests": {"test": "test"}, "teacher": system, "student": system}
    phases = [{"steps": 3, "mixture": {"soft": 2, "labeled": 1}}]
    return configs.from_dict(StudyConfig, values | {"distilled": phases, "variants": variants} | changes)


@pytest.mark.parametrize("seed", range(20))
def test_everything_comes_after_what_it_waits_for(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"v{n}" for n in range(draw.randrange(1, 9))]
    waits: dict[str, set[str]] = {}
    variants: dict[str, Any] = {}
    for number, name in enumerate(names):
        before = ["labeled", "distilled", "teacher-1", *names[:number]]
        taught, begun, named = (draw.sample(before, draw.randrange(2)) for _ in range(3))
        # The layers of the first model are those of another run.
        train = {"model": {"args": {"layers": [{"of": f"work/runs/../runs/{one}/final.pt"} for one in named]}}}
        variants[name] = {**LONGER, "teachers": taught, "init": "".join(begun)}
        variants[name]["train"] = LONGER["train"] | train
        waits[name] = {*taught, *begun, *named} - {"teacher-1"}
    shuffled = dict(draw.sample(sorted(variants.items()), len(variants)))
    order = training_order(study(shuffled), folder)
    place = {name: number for number, wave in enumerate(order) for name in wave}
    assert set(place) == {"labeled", "distilled", "upper", *names}
    for name in names:
        # As early as it can be, and no earlier.
        assert place[name] == max((place[one] + 1 for one in waits[name]), default=0)


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"one": {"teachers": ["two"]}, "two": {"init": "one", **LONGER}}, "^variants.one waits for 'two', which is"),
        ({"one": {"train": {"model": {"args": {"name": "work/runs/one"}}}}}, "^variants.one waits for 'one', which is"),
        (
            {"one": {"teachers": ["teacher-2"]}},
            "^variants.one waits for 'teacher-2', .* the runs are distilled, labeled",
        ),
    ],
)
def test_what_would_wait_for_ever_is_refused(variants: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_order(study(variants), folder)


def test_what_learns_from_transcripts_alone_needs_no_teacher() -> None:
    text = {"text_teacher": "text:python:none:none"}
    variants = {
        "longer": {"of": "labeled", **LONGER},
        "more-transcripts": {"of": "upper", **LONGER},
        "soft": {},
        "written": {"of": "labeled", **text},
        "first-layers": {"of": "labeled", "train": {"model": {"args": {"name": "work/runs/teacher-1"}}}},
        "on": {"of": "labeled", "init": "labeled", **LONGER},
    }
    assert without_teacher(study(variants), folder) == ["labeled", "upper", "longer", "more-transcripts"]
    variants.pop("more-transcripts")
    assert without_teacher(study(variants, upper=False), folder) == ["labeled", "longer"]


def test_a_teacher_that_is_there_already_is_one_of_the_study() -> None:
    there = {"model": {"factory": "asrkd.models:LSTMStudent"}, "init": "elsewhere/run", "steps": 0}
    variants = {"of-it": {"teachers": ["teacher-1"]}, "on": {"of": "teacher", "init": "teacher-1", **LONGER}}
    order = training_order(study(variants, teacher=there), lambda name: Path("elsewhere/run"))
    assert order == [["labeled", "distilled", "upper", "of-it", "on"]]
