from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asrkd
from asrkd.corpus.topology import CTC, HMM, NOTHING, Topology, make_topology
from asrkd.errors import ConfigError

ROOT = Path(asrkd.__file__).parents[1]
NAMES = {"ctc", "hmm"}
TOPOLOGIES = [CTC(), HMM(1), HMM(2), HMM(3)]
PHONES = st.lists(st.text("ab_1", min_size=1, max_size=3), min_size=1, max_size=5, unique=True)


@given(PHONES, st.sampled_from(TOPOLOGIES))
def test_tokens_are_read_back_from_the_units(phones: list[str], topology: Topology) -> None:
    units = topology.units(phones)
    names, states, silence = topology.tokens(units)
    assert units[NOTHING] == topology.nothing
    assert names[0 if silence is None else silence :] == tuple(phones)
    for name, own in zip(names, states, strict=True):
        assert [units[label] for label in own] == topology.spelling(name)
        assert topology.begins_token(own[0])
    # Every class but the blank's is of one token.
    assert [label for own in states for label in own] == list(range(topology.has_blank, len(units)))


@given(st.integers(1, 4), st.integers(0, 5), st.integers(1, 4))
def test_a_token_of_states_may_be_left_after_any_of_them(states: int, token: int, reached: int) -> None:
    topology, first = HMM(states), 1 + token * states
    whole = (0, *range(first, first + min(reached, states)))
    assert topology.early_ends(whole) == [whole[:end] for end in range(len(whole) - 1, 1, -1)]
    assert CTC().early_ends(whole) == [] and topology.early_ends((0,)) == []


def test_a_map_is_for_one_topology() -> None:
    assert HMM(1).maps_from(HMM(3)) and CTC().maps_from(CTC())
    assert not HMM(1).maps_from(CTC()) and not CTC().maps_from(HMM(1))


def test_a_topology_is_named() -> None:
    assert make_topology("hmm", 2) == HMM(2) and make_topology("ctc", 2) == CTC()
    with pytest.raises(ConfigError, match="topology is 'rnnt', but must be one of hmm, ctc"):
        make_topology("rnnt")
    with pytest.raises(ConfigError, match="states_per_phone is 0"):
        make_topology("ctc", 0)


def branches(source: str) -> Iterator[str]:
    """Where a module tells topologies apart by itself."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [
                part
                for side in sides
                for part in (side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side])
            ]
            named = any(getattr(part, "attr", getattr(part, "id", "")).startswith("topology") for part in parts)
            if named or any(_names_one(part) for part in parts):
                yield f"line {node.lineno}: a comparison"
        elif isinstance(node, ast.Dict) and any(key and _names_one(key) for key in node.keys):
            yield f"line {node.lineno}: a table by topology"
        elif isinstance(node, ast.MatchValue) and _names_one(node.value):
            yield f"line {node.value.lineno}: a case"
        elif isinstance(node, (ast.keyword, ast.arg)) and node.arg in {*NAMES, "is_ctc", "is_hmm"}:
            yield f"line {node.lineno}: a flag"
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass", "type"):
            if any(isinstance(one, ast.Name) and one.id.lower() in NAMES for one in ast.walk(node)):
                yield f"line {node.lineno}: a question for the class"


def _names_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in NAMES


def test_topologies_are_told_apart_in_one_place() -> None:
    files = [path for folder in ("asrkd", "recipes", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    apart = ROOT / "asrkd/corpus/topology.py"
    assert apart in files
    found = [
        f"{path.relative_to(ROOT)}, {what}"
        for path in files
        if path != apart
        for what in branches(path.read_text(encoding="utf-8"))
    ]
    assert not found, "ask the topology instead (asrkd/corpus/topology.py):\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("if x.topology == y: pass", 1),
        ("if topology != 'hmm': pass", 1),
        ("if x.topology_name in ('ctc', 'rnnt'): pass", 1),
        ("if 'ctc' == kind: pass", 1),
        ("made = {'ctc': 1}[x.name]", 1),
        ("match name:\n    case 'hmm': pass", 1),
        ("graph(ctc=True)", 1),
        ("def graph(*, hmm: bool): pass", 1),
        ("isinstance(x.topology, HMM)", 1),
        ("if x.topology.needs_prior: pass", 0),
        ("make_topology('ctc')", 0),
    ],
)
def test_the_check_itself(source: str, count: int) -> None:
    assert len(list(branches(source))) == count
