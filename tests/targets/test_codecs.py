from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from target_helpers import pack, unpack

from asrkd.cli import cli
from asrkd.errors import ConfigError, ModelError, StoreError
from asrkd.targets.codecs import CODECS as REGISTRY
from asrkd.targets.codecs import Codec, Dense, Hybrid, Nucleus, Sampled, TopK, codec_forms, parse_codec
from asrkd.targets.packed import as_stored
from asrkd.targets.random import frame_keys
from asrkd.targets.select import HEAD_GRID, LOG_STEP, MAX_LOG_CODE
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.statistics import frame_statistics, utterance_statistics
from asrkd.targets.streams import POSTERIORS, Columns

CPU = torch.device("cpu")
CODECS = (Dense(), TopK(3), TopK(20), Nucleus(0.9, 8), Nucleus(1.0, 300), Sampled(5), Sampled(256), Hybrid(0, 22))
CODECS += (Hybrid(4, 8), Hybrid(2, 192))


def stored(codec: Codec, log_probs: torch.Tensor, name: str = "u") -> SparseTargets:
    """Through encoding and packing, as a store would give it back."""
    return as_stored(codec, log_probs, frame_keys(name, "teacher", len(log_probs), CPU))


def frames_of(targets: SparseTargets) -> list[tuple[np.ndarray, np.ndarray]]:
    splits, ids, log_probs = (getattr(targets, name).numpy() for name in ("row_splits", "ids", "log_probs"))
    return [(ids[a:b], log_probs[a:b]) for a, b in zip(splits[:-1], splits[1:], strict=True)]


@st.composite
def posteriors(draw: st.DrawFn) -> torch.Tensor:
    """(T, V) log-posteriors: random, one-hot (with -inf) and uniform frames."""
    frames, classes = draw(st.integers(0, 6)), draw(st.sampled_from([2, 3, 17, 256, 257, 1000, 100_000]))
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


@settings(max_examples=150, deadline=None)
@given(posteriors(), st.sampled_from(CODECS))
def test_what_every_codec_promises(log_probs: torch.Tensor, codec: Codec) -> None:
    targets = stored(codec, log_probs)
    assert targets.num_frames == len(log_probs) and targets.num_classes == log_probs.shape[1]
    for (ids, found), missing, truth in zip(
        frames_of(targets), targets.missing.numpy(), log_probs.numpy(), strict=True
    ):
        assert len(ids) and (np.diff(ids) > 0).all() and ids[0] >= 0 and ids[-1] < len(truth)
        assert np.isfinite(found).all() or isinstance(codec, Dense)
        kept = np.exp(found.astype(np.float64)).sum()
        assert kept + missing == pytest.approx(1.0, abs=1e-3)
        if codec.unbiased:
            # The sum of float32 posteriors is not quite 1, and what is dense has it as it is.
            mass = np.exp(truth.astype(np.float64)).sum() if isinstance(codec, Dense) else 1.0
            assert missing == 0.0 and kept == pytest.approx(mass, abs=1e-6)
            # No mass where the teacher has none.
            assert isinstance(codec, Dense) or np.isfinite(truth[ids]).all()


@settings(max_examples=60, deadline=None)
@given(posteriors())
def test_dense_is_exact(log_probs: torch.Tensor) -> None:
    np.testing.assert_array_equal(stored(Dense(), log_probs).to_dense(), log_probs.numpy())


@settings(max_examples=60, deadline=None)
@given(posteriors(), st.sampled_from([1, 2, 20, 300]))
def test_topk_keeps_the_largest_within_the_stated_error(log_probs: torch.Tensor, k: int) -> None:
    targets = stored(TopK(k), log_probs)
    for (ids, found), missing, row in zip(frames_of(targets), targets.missing.numpy(), log_probs.numpy(), strict=True):
        np.testing.assert_allclose(np.sort(row[ids])[::-1], np.sort(row)[::-1][: min(k, len(row))])
        np.testing.assert_allclose(found, np.maximum(row[ids], -MAX_LOG_CODE * LOG_STEP), atol=LOG_STEP / 2 * 1.01)
        kept = np.exp(row.astype(np.float64))[ids].sum()
        assert missing == pytest.approx(max(0.0, 1 - kept), abs=LOG_STEP)


@settings(max_examples=60, deadline=None)
@given(posteriors(), st.sampled_from([0.5, 0.9, 0.999, 1.0]), st.sampled_from([1, 8, 300]))
def test_nucleus_keeps_the_fewest_that_hold_the_mass(log_probs: torch.Tensor, mass: float, k_max: int) -> None:
    for (ids, _), row in zip(frames_of(stored(Nucleus(mass, k_max), log_probs)), log_probs.numpy(), strict=True):
        probs = np.sort(np.exp(row.astype(np.float64)))[::-1]
        kept = np.sort(np.exp(row.astype(np.float64))[ids])[::-1]
        np.testing.assert_allclose(kept, probs[: len(ids)])
        assert len(ids) == min(k_max, len(row)) or kept.sum() >= mass - 1e-9
        assert len(ids) == 1 or kept[:-1].sum() < mass + 1e-9


def test_k_of_all_classes_has_nothing_missing() -> None:
    targets = stored(TopK(20), torch.randn(4, 7).log_softmax(1))
    assert len(targets.ids) == 28 and not targets.missing.any()


@pytest.mark.parametrize("codec", [Sampled(22), Hybrid(0, 22), Hybrid(4, 8), Hybrid(2, 1)], ids=lambda c: c.spec)
def test_the_mean_over_keys_is_the_teachers_distribution(codec: Codec) -> None:
    """10,000 keys; every class within the 99 % interval of its mean, simultaneously (Bonferroni)."""
    draws, classes = 10_000, 30
    log_probs = (torch.randn(1, classes, generator=torch.Generator().manual_seed(3)) * 2).log_softmax(1)
    targets = stored(codec, log_probs.expand(draws, -1))
    probs = targets.to_dense().double().exp().numpy()
    error = probs.std(axis=0) / np.sqrt(draws) + 1e-9
    # Two-sided 0.01 / 30 of a normal distribution.
    assert (np.abs(probs.mean(axis=0) - log_probs.exp()[0].numpy()) < 3.6 * error).all()


def variance(codec: Codec, log_probs: torch.Tensor) -> tuple[float, float]:
    """Summed variance of a frame's probabilities over keys, and entries kept."""
    targets = stored(codec, log_probs.expand(4000, -1))
    return float(targets.to_dense().exp().numpy().var(axis=0).sum()), len(targets.ids) / 4000


@pytest.mark.slow
@pytest.mark.parametrize("flatness", [1.0, 2.0, 4.0])
def test_hybrid_varies_less_than_plain_sampling_with_no_more_entries(flatness: float) -> None:
    log_probs = (torch.randn(1, 400, generator=torch.Generator().manual_seed(5)) * flatness).log_softmax(1)
    plain, plain_entries = variance(Sampled(50), log_probs)
    others = [variance(Hybrid(4, draws), log_probs) for draws in range(24, 64, 8)]
    assert min(less for less, entries in others if entries <= plain_entries) < 0.95 * plain


def test_sampling_depends_on_utterance_frame_and_teacher_alone() -> None:
    log_probs = torch.randn(40, 50, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    codec = Hybrid(2, 10)

    def packed(part: torch.Tensor, keys: torch.Tensor) -> Columns:
        return pack(codec, codec.encode(part, keys))

    keys = frame_keys("u", "t", 40, CPU)
    assert packed(log_probs, keys) == packed(log_probs, frame_keys("u", "t", 40, CPU))
    assert packed(log_probs, keys) != packed(log_probs, frame_keys("v", "t", 40, CPU))
    assert packed(log_probs, keys) != packed(log_probs, frame_keys("u", "s", 40, CPU))
    # Whatever shares its batch.
    others = torch.randn(7, 50).log_softmax(1)
    batch = codec.encode(torch.cat([others, log_probs]), torch.cat([frame_keys("w", "t", 7, CPU), keys]))
    assert pack(codec, batch.split([7, 40])[1]) == packed(log_probs, keys)
    with pytest.raises(ConfigError, match="'hybrid:2:10' samples and was given no keys"):
        codec.encode(log_probs)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.spec)
def test_nan_is_refused_with_its_frame(codec: Codec) -> None:
    log_probs = torch.randn(5, 3).log_softmax(1)
    log_probs[3, 1] = torch.nan
    with pytest.raises(ModelError, match="1 of 5 frames .*frame 3"):
        codec.encode(log_probs, frame_keys("u", "t", 5, CPU))


def test_a_frame_of_hybrid_whose_tail_takes_everything() -> None:
    # One draw, and a tail of nearly all the mass: the head is left with nothing in most frames.
    log_probs = torch.full((2000, 50), 0.02).log()
    targets = stored(Hybrid(1, 1), log_probs)
    sizes = targets.counts
    assert (sizes == 1).all() and (targets.log_probs == 0.0).all()
    assert abs(float((targets.ids == targets.ids.min()).double().mean()) - 0.02) < 0.02


def test_damaged_columns_are_refused() -> None:
    codec = TopK(2)
    packed = pack(codec, codec.encode(torch.randn(5, 3).log_softmax(1)))
    with pytest.raises(StoreError, match="'target_counts' has 5 bytes where 6 belong"):
        unpack(codec, [packed], [6], 3)
    with pytest.raises(StoreError, match="0 items where 15 belong"):
        unpack(Dense(), [{"target_log_probs": np.zeros(0, np.float32)}], [5], 3)


@pytest.mark.parametrize("codec", CODECS, ids=lambda c: c.spec)
def test_columns_are_as_declared(codec: Codec) -> None:
    for classes in (200, 256, 257, 65_536, 65_537):
        log_probs = torch.zeros(1, classes)
        log_probs[0, [7, classes - 1]] = 15.0
        packed = pack(codec, codec.encode(log_probs.log_softmax(1), frame_keys("u", "t", 1, CPU)))
        kinds = {
            name: np.dtype(np.uint8) if isinstance(column, bytes) else column.dtype for name, column in packed.items()
        }
        assert kinds == codec.layout(classes).columns
        targets = unpack(codec, [packed], [1], classes)
        assert {7, classes - 1} <= set(targets.ids.tolist())


def test_every_codec_is_registered_and_named_by_the_help() -> None:
    posteriors = {kind for kind in REGISTRY.values() if kind.stream == POSTERIORS}
    assert {type(codec) for codec in CODECS} == posteriors
    assert codec_forms() == "dense, topk:K, nucleus:P:K_MAX, sampled:N or hybrid:HEAD:N"
    for name, kind in REGISTRY.items():
        assert kind.form.split(":")[0] == name and len(kind.form.split(":")) == 1 + len(kind.arguments)
    found = CliRunner().invoke(cli, ["label", "plan", "--help"])
    assert all(kind.form in found.output for kind in posteriors)
    assert not any(kind.form in found.output for kind in set(REGISTRY.values()) - posteriors)


def test_specs_round_trip_and_wrong_ones_are_refused() -> None:
    for codec in CODECS:
        assert parse_codec(codec.spec) == codec
    for spec in ("", "topk", "topk:x", "topk:3:4", "dense:4", "zip", "nucleus:0.9", "sampled", "hybrid:4", "topk:2.5"):
        with pytest.raises(ConfigError, match="topk:K"):
            parse_codec(spec)
    for spec, message in {
        "topk:0": "K of 'topk:K' is 0, but must be 1 to 65535",
        "sampled:257": "N of 'sampled:N' is 257, but must be 1 to 256",
        "nucleus:1.5:20": "P of .* is 1.5, but must be above 0",
        f"hybrid:4:{257 - HEAD_GRID}": "N of 'hybrid:HEAD:N' is 193",
        "hybrid:-1:8": "HEAD of .* is -1",
    }.items():
        with pytest.raises(ConfigError, match=message):
            parse_codec(spec)


def test_statistics_equal_a_plain_loop() -> None:
    log_probs = torch.randn(9, 6).log_softmax(1)
    log_probs[4] = torch.tensor([0.0] + [-torch.inf] * 5)
    found = utterance_statistics(frame_statistics(log_probs), stored(TopK(2), log_probs))
    p = log_probs.exp().numpy().astype(np.float64)
    entropy = [-sum(x * np.log(x) for x in row if x > 0) for row in p]
    assert found.entropy == pytest.approx(np.mean(entropy), abs=1e-5)
    assert found.confidence == pytest.approx(p.max(axis=1).mean(), abs=1e-5)
    assert found.kept_mass == pytest.approx(np.sort(p, axis=1)[:, -2:].sum(axis=1).mean(), abs=2e-4)
    assert utterance_statistics(frame_statistics(log_probs[:0]), stored(TopK(2), log_probs[:0])).entropy == 0.0
