from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asrkd import fingerprint


def test_it_is_the_first_128_bits_of_sha256() -> None:
    assert fingerprint.of_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223"


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), min_size=2))
def test_json_does_not_depend_on_the_order_of_keys(value: dict) -> None:
    turned = dict(reversed(value.items()))
    assert list(turned) != list(value)
    assert fingerprint.of_json(turned) == fingerprint.of_json(value)


def test_json_tells_values_apart() -> None:
    different = [None, 0, "0", "", [], {}, [0], [[0]], {"a": 0}, {"a": "0"}, [0, 1], [1, 0], True, "é", "e"]
    assert len({fingerprint.of_json(value) for value in different}) == len(different)


def test_json_has_no_spaces_and_refuses_nan() -> None:
    assert fingerprint.canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'
    with pytest.raises(ValueError):
        fingerprint.canonical_json([float("nan")])


@pytest.mark.parametrize("size", [0, 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 7])
def test_file_equals_its_bytes(tmp_path: Path, size: int) -> None:
    data = (b"0123456789" * (size // 10 + 1))[:size]
    path = tmp_path / "data"
    path.write_bytes(data)
    assert fingerprint.of_file(path) == hashlib.sha256(data).hexdigest()[:32] == fingerprint.of_bytes(data)


TENSORS = [
    torch.zeros(0, 3),
    torch.zeros(3, 0),
    torch.tensor(1.0),
    torch.ones(1),
    torch.ones(2, dtype=torch.bool),
    torch.ones(2, dtype=torch.uint8),
    torch.ones(2, 2, dtype=torch.bfloat16),
    torch.ones(2, 2, dtype=torch.float16),
    torch.arange(6.0).reshape(2, 3),
    torch.arange(6.0).reshape(3, 2),
    torch.arange(6.0).reshape(3, 2).T,
]


def test_weights_are_told_apart_by_dtype_shape_and_value() -> None:
    found = [fingerprint.of_state_dict({"w": tensor}) for tensor in TENSORS]
    assert len(set(found)) == len(TENSORS)


def test_weights_do_not_depend_on_order_strides_or_gradients() -> None:
    a, b = torch.randn(3, 4), torch.randn(5)
    reference = fingerprint.of_state_dict({"a": a, "b": b})
    assert fingerprint.of_state_dict({"b": b.clone().requires_grad_(), "a": a}) == reference
    assert fingerprint.of_state_dict({"a": a.T.contiguous().T, "b": torch.stack([b, b], 1)[:, 0]}) == reference
    assert fingerprint.of_state_dict({"a": b, "b": a}) != reference


def test_one_bit_of_one_weight_counts() -> None:
    model = torch.nn.Linear(20, 20)
    before = fingerprint.of_state_dict(model.state_dict())
    with torch.no_grad():
        model.weight[7, 3] = torch.nextafter(model.weight[7, 3], torch.tensor(9.0))
    assert fingerprint.of_state_dict(model.state_dict()) != before
