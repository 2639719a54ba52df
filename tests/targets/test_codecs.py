from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError, MismatchError, StoreError, TeacherError
from asrkd.targets.codecs import LOG_PROB_FLOOR, LOG_PROB_STEP, Dense, TopK, parse_codec, statistics
from asrkd.targets.soft_targets import SoftTargets


@st.composite
def posteriors(draw: st.DrawFn) -> torch.Tensor:
    """(T, V) log-posteriors: random, one-hot (with -inf) and uniform frames."""
    frames, classes = draw(st.integers(0, 6)), draw(st.sampled_from([2, 3, 17, 1000, 100_000]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(frames, classes, generator=generator) * draw(st.sampled_from([0.1, 3.0, 30.0]))
    for t in range(frames):
        kind = draw(st.sampled_from(["random", "one-hot", "uniform", "some -inf"]))
        if kind == "one-hot":
            logits[t] = -torch.inf
            logits[t, draw(st.integers(0, classes - 1))] = 0.0
        elif kind == "uniform":
            logits[t] = 0.0
        elif kind == "some -inf":
            logits[t, 1::2] = -torch.inf
    return logits.log_softmax(1) if frames else logits


@settings(max_examples=60, deadline=None)
@given(posteriors())
def test_dense_is_exact(log_probs: torch.Tensor) -> None:
    codec = Dense()
    stored = codec.unpack(codec.pack(codec.encode(log_probs)), *log_probs.shape)
    np.testing.assert_array_equal(stored.to_dense(), log_probs.numpy())
    assert not stored.missing.any()


@settings(max_examples=60, deadline=None)
@given(posteriors(), st.sampled_from([1, 2, 20, 50]))
def test_topk_keeps_the_largest_within_the_stated_error(log_probs: torch.Tensor, k: int) -> None:
    codec = TopK(k)
    frames, classes = log_probs.shape
    stored = codec.unpack(codec.pack(codec.encode(log_probs)), frames, classes)
    assert stored.num_frames == frames and len(stored.ids) == frames * min(k, classes)
    for t in range(frames):
        part = slice(stored.row_splits[t], stored.row_splits[t + 1])
        ids, found = stored.ids[part], stored.log_probs[part]
        truth = log_probs[t].numpy()
        assert (np.diff(ids) > 0).all()
        np.testing.assert_allclose(np.sort(truth[ids])[::-1], np.sort(truth)[::-1][: len(ids)])
        np.testing.assert_allclose(found, np.maximum(truth[ids], LOG_PROB_FLOOR), atol=LOG_PROB_STEP / 2 * 1.01)
        kept = np.exp(truth.astype(np.float64))[ids].sum()
        assert stored.missing[t] == pytest.approx(max(0.0, 1 - kept), abs=LOG_PROB_STEP)


def test_k_of_all_classes_has_nothing_missing() -> None:
    targets = TopK(20).encode(torch.randn(4, 7).log_softmax(1))
    assert len(targets.ids) == 28 and not targets.missing.any()


@pytest.mark.parametrize("codec", [Dense(), TopK(2)])
def test_nan_is_refused_with_its_frame(codec: Dense | TopK) -> None:
    log_probs = torch.randn(5, 3).log_softmax(1)
    log_probs[3, 1] = torch.nan
    with pytest.raises(TeacherError, match="1 of 5 frames .*frame 3"):
        codec.encode(log_probs)


def test_damaged_columns_are_refused() -> None:
    codec = TopK(2)
    packed = codec.pack(codec.encode(torch.randn(5, 3).log_softmax(1)))
    with pytest.raises(StoreError, match="10 items where 12 belong"):
        codec.unpack(packed, 6, 3)
    packed["target_ids"] = packed["target_ids"] + 7
    with pytest.raises(StoreError, match="outside the 3 classes"):
        codec.unpack(packed, 5, 3)
    with pytest.raises(StoreError, match="'target_ids' is not among target_log_probs; .*another codec"):
        codec.unpack({"target_log_probs": packed["target_log_probs"]}, 5, 3)
    wrapped = {"target_ids": np.full(10, 2**32 - 1, np.uint32), "target_log_probs": packed["target_log_probs"]}
    with pytest.raises(StoreError, match="4294967295 is outside"):
        codec.unpack(wrapped, 5, 3)
    with pytest.raises(StoreError, match="0 items where 15 belong"):
        Dense().unpack({"target_log_probs": np.zeros(0, np.float32)}, 5, 3)
    with pytest.raises(MismatchError, match="row_splits"):
        SoftTargets(np.array([0, 2]), np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.float32), 3)


def test_ids_widen_above_65536_classes_and_survive() -> None:
    codec = TopK(2)
    for classes, width in ((65_536, np.uint16), (65_537, np.uint32)):
        logits = torch.zeros(1, classes)
        logits[0, [7, classes - 1]] = 5.0
        packed = codec.pack(codec.encode(logits.log_softmax(1)))
        assert {name: column.dtype for name, column in packed.items()} == codec.columns(classes)
        assert packed["target_ids"].dtype == width
        assert codec.unpack(packed, 1, classes).ids.tolist() == [7, classes - 1]


@pytest.mark.parametrize("codec", [Dense(), TopK(3)])
def test_packing_again_gives_the_same_columns(codec: Dense | TopK) -> None:
    packed = codec.pack(codec.encode((torch.randn(20, 30) * 4).log_softmax(1)))
    again = codec.pack(codec.unpack(packed, 20, 30))
    for name, column in packed.items():
        np.testing.assert_array_equal(again[name], column)


def test_specs_round_trip_and_wrong_ones_are_refused() -> None:
    for spec in ("dense", "topk:20", "topk:1"):
        assert parse_codec(spec).spec == spec
    for spec in ("", "topk", "topk:0", "topk:-3", "topk:x", "dense:4", "zip"):
        with pytest.raises(ConfigError, match="topk:K"):
            parse_codec(spec)
    with pytest.raises(ConfigError, match="'topk:0' would keep no class"):
        TopK(0)


def test_statistics_equal_a_plain_loop() -> None:
    log_probs = torch.randn(9, 6).log_softmax(1)
    log_probs[4] = torch.tensor([0.0] + [-torch.inf] * 5)
    found = statistics(log_probs, TopK(2).encode(log_probs))
    p = log_probs.exp().numpy().astype(np.float64)
    entropy = [-sum(x * np.log(x) for x in row if x > 0) for row in p]
    assert found.entropy == pytest.approx(np.mean(entropy), abs=1e-5)
    assert found.confidence == pytest.approx(p.max(axis=1).mean(), abs=1e-5)
    assert found.kept_mass == pytest.approx(np.sort(p, axis=1)[:, -2:].sum(axis=1).mean(), abs=1e-5)
    assert statistics(log_probs[:0], TopK(2).encode(log_probs[:0])).entropy == 0.0
