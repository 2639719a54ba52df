"""The page of the config is what the dataclasses declare, and every key has its sentence."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools/config_page.py"
spec = importlib.util.spec_from_file_location("config_page", TOOL)
assert spec and spec.loader
config_page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(config_page)
SECTIONS = [section for config in config_page.CONFIGS.values() for section in config_page.sections(config)]


@pytest.mark.parametrize("section", dict.fromkeys(SECTIONS), ids=lambda section: section.__name__)
def test_every_key_has_a_sentence(section: type) -> None:
    said = config_page.sentences(section)
    for declared in dataclasses.fields(section):
        sentence = said.get(declared.name, "")
        assert re.fullmatch(r"[A-Z`{(0-9].*\.", sentence), f"{section.__name__}.{declared.name}: {sentence!r}"
    assert (section.__doc__ or "").strip() and not (section.__doc__ or "").startswith(f"{section.__name__}(")


def test_the_page_is_as_it_would_be_written_now() -> None:
    assert config_page.PAGE.read_text(encoding="utf-8") == config_page.page(), "run python tools/config_page.py"


def test_a_key_without_a_sentence_is_found() -> None:
    assert config_page.sentences(Bare) == {"said": "This one has."}


@dataclasses.dataclass
class Bare:
    said: int = 0
    """This one has."""
    silent: int = 0
