from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError, MismatchError
from asrkd.targets.codecs import Dense, TopK
from asrkd.targets.packed import as_stored
from asrkd.targets.vocabulary_map import NOWHERE, VocabularyMap

TEACHER = ("a_0", "a_1", "b_0", "b_1", "SIL")
STUDENT = ("SIL", "a", "b")
PAIRS = {"a_0": "a", "a_1": "a", "b_0": "b", "b_1": "b", "SIL": "SIL"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(2, 30), st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**31))
def test_equals_the_dense_product(frames: int, classes: int, student: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(NOWHERE, student, classes)
    generator = torch.Generator().manual_seed(seed)
    log_probs = (torch.randn(frames, classes, generator=generator) * 3).log_softmax(1)
    before = as_stored(TopK(k), log_probs)
    after = VocabularyMap(table, tuple(map(str, range(student))))(before)
    matrix = np.zeros((classes, student))
    matrix[np.flatnonzero(table >= 0), table[table >= 0]] = 1.0
    kept = before.to_dense().double().exp().numpy()
    np.testing.assert_allclose(after.to_dense().exp(), kept @ matrix, atol=1e-6)
    lost = kept[:, table == NOWHERE].sum(axis=1)
    np.testing.assert_allclose(after.missing, np.clip(before.missing.numpy() + lost, 0, 1), atol=1e-6)
    for a, b in zip(after.row_splits[:-1], after.row_splits[1:], strict=True):
        assert (np.diff(after.ids[a:b]) > 0).all()


def test_a_class_of_probability_0_stays_one() -> None:
    log_probs = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    mapped = VocabularyMap(np.array([0, 1, 1]), ("x", "y"))(as_stored(Dense(), log_probs))
    np.testing.assert_array_equal(mapped.to_dense(), [[0.0, -np.inf]])


def test_maps_by_name(tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    path.write_text("".join(f"{unit}\t{place}\n" for unit, place in PAIRS.items()))
    found = VocabularyMap.read(path, TEACHER, (*STUDENT, "c"))
    assert found.table.tolist() == [1, 1, 2, 2, 0] and found.untouched.tolist() == [3]
    less = {unit: place for unit, place in PAIRS.items() if unit != "b_1"}
    assert VocabularyMap.from_units(less, TEACHER, STUDENT, lossy=True).table.tolist() == [1, 1, 2, NOWHERE, 0]


units = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n"), min_size=1, max_size=5)


@given(st.dictionaries(units | st.sampled_from(["\u2028", "\x85", " ", '"', "\xa0a"]), units, min_size=1, max_size=5))
def test_any_units_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("map") / "map.tsv"
    path.write_bytes("".join(f"{unit}\t{place}\n" for unit, place in pairs.items()).encode())
    teacher, student = tuple(pairs), tuple(dict.fromkeys(pairs.values()))
    if teacher[0].startswith("\ufeff") or any(place.endswith("\r") for place in student):
        return  # which no file can hold
    found = VocabularyMap.read(path, teacher, student)
    assert found.table.tolist() == [student.index(pairs[unit]) for unit in teacher]
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert VocabularyMap.read(path, teacher, student).fingerprint == found.fingerprint


def test_names_in_another_form_of_unicode_are_found(caplog: pytest.LogCaptureFixture) -> None:
    found = VocabularyMap.from_units({"a\u0303": "\xe9", "b": "b"}, ("\xe3", "b"), ("b", "e\u0301"))
    assert found.table.tolist() == [1, 0] and "1 lines name their units in another form of Unicode" in caplog.text
    # Units that the inventory itself tells apart are not mixed up.
    both = ("\xe3", "a\u0303")
    assert VocabularyMap.from_units({"a\u0303": "x", "\xe3": "y"}, both, ("x", "y")).table.tolist() == [1, 0]
    with pytest.raises(ConfigError, match="occurs twice"):
        VocabularyMap.from_units({"a\u0303": "x", "\xe3": "x"}, ("\xe3",), ("x",))


def test_wrong_maps_are_refused(tmp_path: Path) -> None:
    less = {unit: place for unit, place in PAIRS.items() if unit != "b_1"}
    with pytest.raises(MismatchError, match=r"1 of the teacher's 5 units have no place \(first: 'b_1'\).*lossy"):
        VocabularyMap.from_units(less, TEACHER, STUDENT)
    with pytest.raises(MismatchError, match=r"'b_2' \(did you mean 'b_1'\?\) is not among the teacher's 5 units"):
        VocabularyMap.from_units(PAIRS | {"b_2": "b"}, TEACHER, STUDENT)
    with pytest.raises(MismatchError, match=r"'SILL' \(did you mean 'SIL'\?\) is not among the student's 3 units"):
        VocabularyMap.from_units(PAIRS | {"SIL": "SILL"}, TEACHER, STUDENT)
    with pytest.raises(MismatchError, match="of 5 classes, the targets have 4"):
        VocabularyMap.from_units(PAIRS, TEACHER, STUDENT)(as_stored(TopK(2), torch.zeros(1, 4).log_softmax(1)))
    with pytest.raises(ConfigError, match="no.tsv' cannot be read"):
        VocabularyMap.read(tmp_path / "no.tsv", TEACHER, STUDENT)
    for text, message in (("a_0 a\n", "line 1: 'a_0 a' is not"), ("a_0\ta\na_0\tb\n", "line 2: 'a_0' occurs twice")):
        (tmp_path / "map.tsv").write_text(text)
        with pytest.raises(ConfigError, match=message):
            VocabularyMap.read(tmp_path / "map.tsv", TEACHER, STUDENT)
