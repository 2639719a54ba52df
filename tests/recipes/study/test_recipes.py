"""The configs of the recipes can be read, and their variants are trainings of the same length."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asrkd import config as configs
from asrkd.cli.recipe import _config
from asrkd.corpus.inventory import InventoryConfig
from asrkd.errors import ConfigError
from asrkd.training.config import TrainConfig
from asrkd.training.sources import SourceConfig
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.order import training_order
from asrkd_recipes.study.run import Study
from asrkd_recipes.study.stores import Stores

RECIPES = Path(__file__).parents[3] / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_config_of_a_recipe(path: Path) -> None:
    config = configs.load(StudyConfig, path, ["work=work", "data=data"])
    assert config.topology == path.stem


@pytest.mark.parametrize(
    "path",
    sorted(RECIPES.glob("*/settings/*.yaml")),
    ids=lambda path: f"{path.parents[1].name}/{path.stem}",
)
def test_a_setting_of_a_recipe(path: Path, tmp_path: Path) -> None:
    here, overrides = path.parents[1], ("teacher.steps=7",)
    plain = _config(here, tmp_path, "ctc", 1, ())
    changed = _config(here, tmp_path, "ctc", 1, overrides, setting=path.stem, untranscribed=["more.jsonl.gz"])
    given = configs.read_yaml(path)
    assert changed.student.steps == given["student"]["steps"] != plain.student.steps
    assert changed.student.front_end == plain.student.front_end
    assert changed.teacher.steps == 7 and changed.untranscribed == ["more.jsonl.gz"] and not plain.untranscribed


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/tried.md")), ids=lambda path: path.parent.name)
def test_results_end_with_what_was_tried(path: Path) -> None:
    # The stage `results` puts it there; who edits tried.md alone leaves readers of RESULTS.md with the old text.
    assert (path.parent / "RESULTS.md").read_text().endswith(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/variants/*.yaml")), ids=lambda path: path.stem)
def test_variants_of_a_recipe(path: Path, tmp_path: Path) -> None:
    # Variants are of the recipe's first topology.
    topology = re.findall(r'\("(hmm|ctc)",', (path.parents[1] / "run.py").read_text())[0]
    config = _config(path.parents[1], tmp_path, topology, 1, (), [path])
    assert config.variants
    check_variants(config)


CONFIGS = sorted(path for topology in ("ctc", "hmm") for path in RECIPES.glob(f"*/{topology}.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_variants_of_a_config(path: Path, tmp_path: Path) -> None:
    check_variants(_config(path.parent, tmp_path, path.stem, 1, ()))


def check_variants(config: StudyConfig) -> None:
    """They can be trained one after another, each with as many updates as what it is compared with."""
    order = training_order(config, Study(config).run_folder)
    assert {name for names in order for name in names} == {*config.students, *config.variants}
    kinds = {"soft": "soft", "labeled": "labeled", "text": "labeled", "further": "soft"}
    sources = {name: SourceConfig(name, kind) for name, kind in kinds.items()}
    for given in config.variants.values():
        train = configs.changed(
            TrainConfig(
                run="run", inventory=InventoryConfig("lexicon.txt"), sources=sources, schedule=config.distilled
            ),
            given.train,
        )
        steps = config.student.steps
        own = config.variants[given.labeled].train.get("schedule") if given.labeled in config.variants else None
        if own:
            steps = sum(phase["steps"] for phase in own)
        if given.of == "distilled" and not given.init:
            # As many updates as what it is compared with.
            assert sum(phase.steps for phase in train.schedule) == steps


def test_topologies_of_one_folder_share_no_stores(tmp_path: Path) -> None:
    """coffee's teachers of `ctc` and of `hmm` read frames of other lengths, and a store of transcripts counts those of one."""
    configs_of = {name: _config(RECIPES / "coffee", tmp_path, name, 1, ()) for name in ("ctc", "hmm")}
    assert configs_of["ctc"].teacher.front_end != configs_of["hmm"].teacher.front_end
    assert {name: Path(one.stores).relative_to(tmp_path) for name, one in configs_of.items()} == {
        "ctc": Path("ctc/stores"),
        "hmm": Path("hmm/stores"),
    }
    # What variants call ${work}/../shared.
    assert Stores(configs_of["ctc"], 1, lambda *_, **__: None).teacher_home == tmp_path / "ctc/shared"


def test_variants_of_several_files_come_beside_those_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "ctc.yaml").write_text("variants: {own: {}}\n")
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(f"{name}: {{unlabeled_speakers: 2}}\n")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    assert list(_config(tmp_path, tmp_path, "ctc", 1, (), files).variants) == ["own", "a", "b"]
    (tmp_path / "b.yaml").write_text("a: {unlabeled_speakers: 2}\nb: {}\n")
    assert list(_config(tmp_path, tmp_path, "ctc", 1, (), files).variants) == ["own", "a", "b"]
    (tmp_path / "b.yaml").write_text("a: {unlabeled_speakers: 3}\n")
    with pytest.raises(ConfigError, match="b.yaml' has other settings for the variant 'a' than what was given before"):
        _config(tmp_path, tmp_path, "ctc", 1, (), files)
    (tmp_path / "b.yaml").write_text("b: {unlabeled_speaker: 2}\n")
    with pytest.raises(
        ConfigError, match="^variants.b.unlabeled_speaker: there is no such key; did you mean 'variants.b"
    ):
        _config(tmp_path, tmp_path, "ctc", 1, (), files)
