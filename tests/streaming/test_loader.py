from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from asrkd.corpus.augment import Augment, Gain, NoiseAugment, SpecAugment
from asrkd.corpus.front_end import FrontEnd
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source

MakeStore = Callable[..., str]
FRONT_END = FrontEnd(sampling_rate=8000, num_mels=4, stack=2, stride=2, mean_norm="none")
NOISE = NoiseAugment([np.random.default_rng(0).standard_normal(2000).astype(np.float32)], (0, 20), 0.5)
MIXTURE = {"soft": 3, "labeled": 1}


@pytest.fixture
def roots(make_store: MakeStore) -> dict[str, str]:
    return {"soft": make_store("u", rows=23), "labeled": make_store("l", rows=9, shards=1, soft=False)}


def _loader(roots: dict[str, str], *, repeat: bool = True, **changes: Any) -> Loader:
    sources = {name: Source(name, root, repeat=repeat) for name, root in roots.items()}
    options: dict[str, Any] = {
        "front_end": FRONT_END,
        "max_frames": 60,
        "max_utterances": 4,
        "seed": 3,
        "augment": Augment((NOISE, Gain()), (SpecAugment(max_frequency=2),)),
    }
    return Loader(sources, **(options | changes))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if hasattr(first, "__dataclass_fields__"):
        return all(_same(getattr(first, item.name), getattr(second, item.name)) for item in fields(first))
    return bool(first == second)


def _take(batches: Iterator[Batch], count: int) -> list[Batch]:
    taken = list(islice(batches, count))
    assert len(taken) == count
    return taken


def _all_same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(map(_same, first, second))


def test_every_utterance_once_an_epoch_and_another_order_in_the_next(roots: dict[str, str]) -> None:
    loader = _loader(roots)
    stream, epochs = loader.batches({"soft": 1}), []
    for epoch in range(3):
        ids = [batch.ids for batch in _take(stream, loader.batches_per_epoch("soft", epoch))]
        assert sorted(sum(ids, [])) == sorted(f"u{number}" for number in range(23))
        assert loader.state_dict()["sources"]["soft"] == {"epoch": epoch + 1, "batch": 0}
        epochs.append(ids)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_holds_what_the_store_holds(roots: dict[str, str]) -> None:
    loader = _loader(roots, augment=None)
    for batch in _take(loader.batches(MIXTURE), 12):
        assert len(set(batch.source)) == 1
        source = loader.sources[batch.source[0]]
        known = {facts["id"]: facts for facts in map(source.facts, range(len(source)))}
        row = 0
        for number, name in enumerate(batch.ids):
            facts = known[name]
            assert (batch.texts[number], batch.speakers[number]) == (facts["text"], facts["speaker"])
            frames = int(batch.num_frames[number])
            assert frames == facts["num_frames"] == int(batch.feature_lengths[number])
            if batch.source[0] == "soft":
                assert batch.targets is not None and batch.has_targets[number] and batch.alignment is None
                dense = source.store.targets(facts).to_dense()
                kept = batch.targets.log_probs[batch.targets.row_splits[row] : batch.targets.row_splits[row + frames]]
                np.testing.assert_array_equal(kept.view(frames, -1).numpy(), dense)
                row += frames
            else:
                assert batch.targets is None and batch.alignment is not None
                assert batch.alignment[number, :frames].tolist() == facts["alignment"].tolist()
                assert (batch.alignment[number, frames:] == -100).all()


def test_stored_features_and_embedded_audio_give_the_same(make_store: MakeStore) -> None:
    audio = _loader({"s": make_store(rows=9)}, augment=None)
    stored = _loader({"s": make_store(rows=9, embed="features")}, augment=None)
    read = {}
    for loader in (audio, stored):
        batches = list(loader.epoch("s"))
        read[loader] = {
            name: batch.features[row, : batch.feature_lengths[row]]
            for batch in batches
            for row, name in enumerate(batch.ids)
        }
    assert len(read[audio]) == 9
    for name, features in read[audio].items():
        torch.testing.assert_close(features, read[stored][name], rtol=0, atol=1e-5)


def test_the_mixture_keeps_its_shares(roots: dict[str, str]) -> None:
    batches = _take(_loader(roots).batches(MIXTURE), 40)
    for group in range(10):
        assert Counter(batch.source[0] for batch in batches[4 * group : 4 * group + 4]) == MIXTURE


@pytest.mark.parametrize("cache_mb", [0, 0.05, 100])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_caches_and_prefetch_do_not_change_batches(roots: dict[str, str], cache_mb: float, prefetch: int) -> None:
    expected = _take(_loader(roots).batches(MIXTURE), 20)
    assert _all_same(expected, _take(_loader(roots, cache_mb=cache_mb, prefetch=prefetch).batches(MIXTURE), 20))


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_ranks_share_the_same_global_batches(roots: dict[str, str], world_size: int) -> None:
    expected = _take(_loader(roots).batches(MIXTURE), 24)
    rounds, states = [], []
    for rank in range(world_size):
        loader = _loader(roots, rank=rank, world_size=world_size)
        rounds.append(_take(loader.batches(MIXTURE), 24 // world_size))
        states.append(loader.state_dict())
    assert _all_same(expected, [batch for step in zip(*rounds, strict=True) for batch in step])
    assert all(state == states[0] for state in states)


def test_a_state_of_two_ranks_is_continued_by_three(roots: dict[str, str]) -> None:
    expected = _take(_loader(roots).batches(MIXTURE), 16)
    two = _loader(roots, rank=1, world_size=2)
    _take(two.batches(MIXTURE), 2)
    for rank in range(3):
        three = _loader(roots, rank=rank, world_size=3)
        three.load_state_dict(two.state_dict())
        assert _all_same(expected[4 + rank :: 3], _take(three.batches(MIXTURE), 4))


def _consumed_at(loader: Loader, where: str) -> int:
    end = loader.batches_per_epoch("soft")
    return {"start": 0, "first": 1, "mid": end // 2, "end": end, "next": end + 1}[where]


@pytest.mark.parametrize("mixture", [{"soft": 1}, MIXTURE], ids=["one", "mixture"])
@pytest.mark.parametrize("where", ["start", "first", "mid", "end", "next"])
@pytest.mark.parametrize("prefetch", [0, 4])
def test_resumed_is_continued(roots: dict[str, str], where: str, mixture: dict[str, int], prefetch: int) -> None:
    continued = _loader(roots, prefetch=prefetch)
    stream = continued.batches(mixture)
    _take(stream, _consumed_at(continued, where))
    state = json.loads(json.dumps(continued.state_dict()))
    expected = _take(stream, 15)

    resumed = _loader(roots, prefetch=prefetch)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    second = resumed.batches(mixture)
    assert _all_same(expected[:5], _take(second, 5))
    # Twice in a row: what was resumed is resumed again.
    again = _loader(roots, prefetch=prefetch)
    again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
    assert _all_same(expected[5:], _take(again.batches(mixture), 10))
    assert again.state_dict() == continued.state_dict()


def test_a_state_loaded_into_a_running_loader_goes_back(roots: dict[str, str]) -> None:
    loader = _loader(roots)
    state = loader.state_dict()
    first = _take(loader.batches(MIXTURE), 5)
    loader.load_state_dict(state)
    assert _all_same(first, _take(loader.batches(MIXTURE), 5))


def test_a_change_of_mixture_keeps_the_positions(roots: dict[str, str]) -> None:
    loader = _loader(roots)
    soft = _take(loader.batches({"soft": 1}), 5)
    old = loader.batches(MIXTURE)
    mixed = _take(old, 8)
    state = loader.state_dict()
    assert state["step"] == 13
    rest = _take(loader.batches({"soft": 1}), 4)
    assert list(old) == []
    drawn = soft + [batch for batch in mixed if batch.source[0] == "soft"] + rest
    assert len(soft) + len(rest) < len(drawn) < 17
    assert _all_same(_take(_loader(roots).batches({"soft": 1}), len(drawn)), drawn)
    resumed = _loader(roots)
    resumed.load_state_dict(state)
    assert _all_same(rest, _take(resumed.batches({"soft": 1}), 4))


def test_augmentation_differs_between_epochs_and_spares_validation(roots: dict[str, str]) -> None:
    loader, clean = _loader(roots), _loader(roots, augment=None)
    assert _all_same(list(clean.epoch("soft")), list(loader.epoch("soft")))
    assert loader.state_dict()["step"] == 0
    seen: dict[str, list[torch.Tensor]] = {}
    stream = loader.batches({"soft": 1})
    for epoch in range(2):
        for batch in _take(stream, loader.batches_per_epoch("soft", epoch)):
            for row, name in enumerate(batch.ids):
                seen.setdefault(name, []).append(batch.features[row, : batch.feature_lengths[row]])
    assert not any(torch.equal(*pair) for pair in seen.values())


def test_ranks_deal_a_validation_epoch(roots: dict[str, str]) -> None:
    ids = [name for rank in range(3) for b in _loader(roots, rank=rank, world_size=3).epoch("soft") for name in b.ids]
    assert sorted(ids) == sorted(f"u{number}" for number in range(23))


@pytest.mark.timeout(60)
def test_a_source_that_does_not_repeat_ends_the_stream(roots: dict[str, str]) -> None:
    loader = _loader(roots, repeat=False)
    ids = [name for batch in loader.batches({"soft": 1}) for name in batch.ids]
    assert sorted(ids) == sorted(f"u{number}" for number in range(23))
    assert list(loader.batches({"soft": 1})) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_frames": 61}, "limits"),
        ({"seed": 4}, "seed 3"),
        ({"augment": Augment((NOISE, Gain()))}, "augmentation"),
        ({"front_end": replace(FRONT_END, num_mels=5)}, "front end"),
    ],
)
def test_a_state_of_other_settings_is_refused(roots: dict[str, str], change: dict[str, Any], message: str) -> None:
    state = _loader(roots).state_dict()
    with pytest.raises(MismatchError, match=message):
        _loader(roots, **change).load_state_dict(state)


def test_a_state_of_other_data_is_refused(roots: dict[str, str], make_store: MakeStore) -> None:
    state = _loader(roots).state_dict()
    with pytest.raises(MismatchError, match="source soft"):
        _loader(roots | {"soft": make_store("u", rows=24)}).load_state_dict(state)
    with pytest.raises(MismatchError, match="source labeled"):
        _loader({"soft": roots["soft"]}).load_state_dict(state)
    with pytest.raises(MismatchError, match="format"):
        _loader(roots).load_state_dict({"step": 1})


def _shorter_targets(number: int, row: dict[str, Any]) -> None:
    row["target_log_probs"] = row["target_log_probs"][: -len(("SIL", "a_0", "b_0"))]


def _wrong_frames(number: int, row: dict[str, Any]) -> None:
    row["num_frames"] += 1


def _shorter_alignment(number: int, row: dict[str, Any]) -> None:
    row["alignment"] = row["alignment"][:-1]


def _broken_audio(number: int, row: dict[str, Any]) -> None:
    row["audio"] = {"bytes": b"fLaC" + bytes(50), "path": None}


def _longer_audio(number: int, row: dict[str, Any]) -> None:
    row["num_samples"] += 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (_wrong_frames, MismatchError, "frames, but .* make .* frames"),
        (_shorter_targets, StoreError, "items where .* belong"),
        (_shorter_alignment, MismatchError, "alignment of .* frames, but .* frames"),
        (_broken_audio, StoreError, "cannot be decoded"),
        (_longer_audio, StoreError, "samples of audio"),
    ],
)
@pytest.mark.parametrize("prefetch", [0, 2])
def test_damage_is_raised_in_the_consumer(
    make_store: MakeStore, change: Callable[[int, dict[str, Any]], None], kind: Any, message: str, prefetch: int
) -> None:
    soft = change is not _shorter_alignment
    loader = _loader({"s": make_store(rows=3, shards=1, soft=soft, change=change)}, prefetch=prefetch)
    with pytest.raises(kind, match=message):
        next(loader.batches({"s": 1}))


def test_what_does_not_fit_the_student_is_refused_by_name(roots: dict[str, str], make_store: MakeStore) -> None:
    with pytest.raises(MismatchError, match="frame law.*stride=2.*stride=3"):
        _loader(roots, front_end=replace(FRONT_END, stride=3))
    with pytest.raises(MismatchError, match="frame law"):
        _loader(roots, subsampling_factor=2)
    with pytest.raises(MismatchError, match="units.*soft \\(3 units\\), other \\(4 units\\)"):
        _loader({"soft": roots["soft"], "other": make_store("o", units=("SIL", "a_0", "b_0", "c_0"))})
    stored = {"s": make_store(embed="features")}
    with pytest.raises(ConfigError, match="--embed audio"):
        _loader(stored)
    with pytest.raises(MismatchError, match="num_mels=4.*num_mels=5"):
        _loader(stored, augment=None, front_end=replace(FRONT_END, num_mels=5))
    with pytest.raises(ConfigError, match="none"):
        _loader({"s": make_store(embed="none")})
    with pytest.raises(ConfigError, match="max_frames"):
        _loader(roots, max_frames=5)
    with pytest.raises(ConfigError, match="rank is 2"):
        _loader(roots, rank=2, world_size=2)
    with pytest.raises(ConfigError, match="at least one source"):
        _loader({})


def test_transcripts_fit_a_student_that_subsamples(make_store: MakeStore) -> None:
    def without_alignment(number: int, row: dict[str, Any]) -> None:
        row["alignment"] = None

    loader = _loader({"l": make_store("l", soft=False, change=without_alignment)}, subsampling_factor=2)
    for batch in loader.epoch("l"):
        assert torch.equal(batch.num_frames, (batch.feature_lengths + 1) // 2)
