from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd import config
from asrkd.errors import ConfigError


@dataclass
class Layer:
    size: int = 3
    names: list[str] = field(default_factory=list)


@dataclass
class Model:
    seed: int = 1
    rate: float = 0.1
    name: str = "x"
    flag: bool = False
    layer: Layer = field(default_factory=Layer)
    layers: list[Layer] = field(default_factory=list)
    table: dict[str, Layer] = field(default_factory=dict)
    maybe: Layer | None = None


@dataclass
class Needs:
    path: str


def test_file_then_overrides(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("seed: 4\nlayer: {size: 7, names: [a]}\nlayers:\n- size: 1\ntable: {b: {size: 2}}\n")
    found = config.load(Model, path, ["seed=5", "layer.names=[c,d]", "name=a=b", "maybe.size=9"])
    assert found == Model(
        seed=5,
        name="a=b",
        layer=Layer(7, ["c", "d"]),
        layers=[Layer(1)],
        table={"b": Layer(2)},
        maybe=Layer(9),
    )


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert config.load(Model, path) == Model() == config.load(Model)


# Without the two marks of OmegaConf.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="$?")).filter(lambda x: x != "")


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Model,
        seed=st.integers(-(2**40), 2**40),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        name=names,
        flag=st.booleans(),
        layers=st.lists(
            st.builds(Layer, size=st.integers(-(2**63) + 1, 2**63 - 1), names=st.lists(names, max_size=3)), max_size=2
        ),
        table=st.dictionaries(st.sampled_from(["a", "b", "1", "yes"]), st.builds(Layer), max_size=2),
        maybe=st.none() | st.builds(Layer),
    )
)
def test_yaml_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, model: Model) -> None:
    path = tmp_path_factory.mktemp("config") / "model.yaml"
    path.write_text(config.to_yaml(model), encoding="utf-8")
    assert config.load(Model, path) == model


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=2", "^sed: there is no such key; did you mean 'seed'"),
        ("layer.siz=2", "^layer.siz: there is no such key; did you mean 'layer.size'"),
        ("layers=[{size: 1}, {siz: 2}]", r"^layers\[1\].siz: there is no such key; did you mean 'layers\[1\].size'"),
        ("table.b.siz=2", "^table.b.siz: there is no such key; did you mean 'table.b.size'"),
        ("maybe.siz=2", "^maybe.siz: there is no such key; did you mean 'maybe.size'"),
        ("qqq=2", "^qqq: there is no such key; known keys: .*layer.*seed"),
        ("seed=many", "^seed: .*'many'"),
        ("seed=1.5", "^seed: .*1.5"),
        ("seed=null", "^seed: .*None"),
        ("rate=.nan", "^rate: .*nan"),
        ("flag=2", "^flag: .*true or false, not 2"),
        ("name=[a]", "^name: .*a string, not"),
        ("layer=3", "^layer: .*mapping.*3"),
        ("layers.0.size=3", "^layers: must be a list"),
        ("seed=[1", "overrides cannot be read as YAML"),
        ("name=${nothing}", "^name: .*'nothing'"),
        ("seed", "'seed' is not of the form key=value"),
    ],
)
def test_wrong_overrides_are_refused_by_name_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config.from_dict(Model, {}, [override])
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.yaml' does not exist"):
        config.load(Model, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(Model, tmp_path)
    bad = tmp_path / "bad.yaml"
    bad.write_text("seed: [1\n")
    with pytest.raises(ConfigError, match="bad.yaml' is not valid YAML"):
        config.load(Model, bad)
    bad.write_text("- 1\n- 2\n")
    with pytest.raises(ConfigError, match="must be a mapping of keys to values, not .1, 2."):
        config.load(Model, bad)
    bad.write_text("just text\n")
    with pytest.raises(ConfigError, match="^just text: there is no such key"):
        config.load(Model, bad)


def test_an_absent_mandatory_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="^path: is required"):
        config.from_dict(Needs, {})
    assert config.from_dict(Needs, {"path": "a"}).path == "a"


@dataclass
class NeedsAndLayer:
    path: str
    layer: Layer = field(default_factory=Layer)
    layers: list[Layer] = field(default_factory=list)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": {"siz": 1}}, r"^layer\.siz: there is no such key; did you mean 'layer\.size'"),
        ({"layers": [{}, {"siz": 1}]}, r"^layers\[1\]\.siz: there is no such key"),
        ({"layer": {"size": "x"}}, r"^layer\.size: must be a whole number"),
        ({"layer": {"size": 1}}, "^path: is required"),
    ],
)
def test_what_is_set_wrongly_is_told_before_what_is_missing(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.from_dict(NeedsAndLayer, values)
