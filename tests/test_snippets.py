"""The configs in README and docs are read by the readers that users' files go through; the Python of the README is run."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from helpers import make_cuts
from omegaconf import OmegaConf

from asrkd import config
from asrkd.acoustic.ensemble import EnsembleSettings
from asrkd.acoustic.lattice import LatticeSettings
from asrkd.cli import cli
from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# Where a page shows keys that are set on top of another config, that config.
TRAINING: dict[str, Any] = {
    "run": "r",
    "inventory": {"lexicon": "l"},
    "sources": {"labeled": {"store": "s"}},
    "schedule": [{"steps": 1, "mixture": {"labeled": 1}}],
    "dev": "d",
    "augment": {"time_masks": 1},
}
STUDY = {"work": "w", "data": "d"}


def blocks() -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, content) of every block of YAML."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```ya?ml\n(.*?)^```$", text, re.S | re.M):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{page.name}:{line}", OmegaConf.to_container(OmegaConf.create(found[1]))  # type: ignore[misc]


def inline() -> Iterator[tuple[str, str]]:
    """(place, code) of what is set within a sentence: `key: {...}`, or key.of.section=value after a command."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for code in re.findall(
                r"`([a-z_]+: \{[^`]*\})`|(?<![\w.-])((?:[a-z_]+\.)+[a-z_]+=[^\s`,;]*[^\s`,;.])", line
            ):
                if not code[1].startswith("custom."):  # a condition on a field of cuts
                    yield f"{page.name}:{number}", code[0] or code[1]


def code(page: Path) -> list[str]:
    """Every block of Python."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def read(content: Mapping[str, Any]) -> Any:
    """A config by the keys that it has."""
    if "student" in content:
        return config.from_dict(StudyConfig, STUDY | content)
    if "teachers" in content and "run" not in content:
        return config.from_dict(EnsembleSettings, content)
    if "teacher" in content:
        return config.from_dict(LatticeSettings, content)
    return config.from_dict(TrainConfig, content if "run" in content else TRAINING | content)


def check_holds(made: Any, content: Any) -> None:
    """Every value of a mapping is in the config that was made of it."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            check_holds(made[name] if isinstance(made, Mapping) else getattr(made, name), value)
    elif isinstance(content, list):
        assert len(made) == len(content)
        for one, value in zip(made, content, strict=True):
            check_holds(one, value)
    else:
        assert made == content


BLOCKS, INLINE = list(blocks()), list(inline())


@pytest.mark.parametrize(("place", "content"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_a_config_on_a_page_can_be_used(place: str, content: dict[str, Any]) -> None:
    # A study's may refer to where it works: ${data}.
    resolved = (
        OmegaConf.to_container(OmegaConf.create(STUDY | content), resolve=True) if "student" in content else content
    )
    check_holds(read(content), resolved)


@pytest.mark.parametrize(
    ("place", "code"), INLINE, ids=[f"{place}:{code.split('=')[0][:20]}" for place, code in INLINE]
)
def test_keys_within_a_sentence_can_be_used(place: str, code: str) -> None:
    if ": {" in code:
        content = OmegaConf.to_container(OmegaConf.create(code))
        assert isinstance(content, dict)
        check_holds(read(content), content)
        return
    # A study has keys of a training, but for the sections that it has twice, as teacher.batch.
    of_training = code.partition(".")[0] in {declared.name for declared in fields(TrainConfig)}
    cls, base = (TrainConfig, TRAINING) if of_training else (StudyConfig, STUDY)
    config.from_dict(cls, base, [code])


def test_the_pages_have_configs() -> None:
    assert len(BLOCKS) >= 4 and len(INLINE) >= 5


@pytest.mark.parametrize("content", [{"run": "r"}, {"sources": {"a": {}}}, {"optimiser": {}}, {"teacher": "t"}])
def test_a_config_that_cannot_be_used_is_found(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read(content)


@pytest.mark.parametrize("page", [page for page in PAGES if code(page)], ids=lambda page: page.name)
def test_what_python_on_a_page_imports_is_there(page: Path) -> None:
    names = [
        (node.module, alias.name)
        for block in code(page)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asrkd"
        for alias in node.names
    ]
    for module, name in names:
        assert hasattr(importlib.import_module(module or ""), name), f"from {module} import {name}"


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A teacher as on the page of teachers labels a corpus; the README's loop trains on that store."""
    (own_model,), (own_loop,) = code(ROOT / "docs/teachers.md"), code(ROOT / "README.md")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "readme_teacher.py").write_text(own_model)
    cuts = make_cuts(tmp_path, "speech", 5, text=False)
    for arguments in (
        ["plan", str(cuts), "exp/soft", "--teacher", "python:readme_teacher:my_teacher", "--codec", "topk:2"],
        ["run", "exp/soft"],
    ):
        run = CliRunner().invoke(cli, ["label", *arguments])
        assert run.exit_code == 0, run.output
    names: dict[str, Any] = {"__name__": "readme"}
    exec(own_model, names)
    names["model"] = names["my_teacher"]().network.train()
    # The snippet's loop has no end.
    exec(
        own_loop.replace(
            'for step in loader.steps({"soft": 1}):', 'for step in itertools.islice(loader.steps({"soft": 1}), 2):'
        ),
        names | {"itertools": itertools},
    )
    gradients = [parameter.grad for parameter in names["model"].parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert json.loads(json.dumps(state["loader"])) == state["loader"]
