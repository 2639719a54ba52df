from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stream_helpers import FRONT_END, MIXTURE, NOISE, make_loader, same_batches
from target_helpers import pack

from asrkd.corpus.augment import Augment, Gain, SpecAugment, TimeWarp, utterance_rng
from asrkd.errors import ConfigError, MismatchError, StoreError
from asrkd.store import Store
from asrkd.store.catalog_writer import write_catalog
from asrkd.streaming.batch import Batch
from asrkd.streaming.loader import Loader
from asrkd.streaming.mixture import Phase
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS

MakeStore = Callable[..., str]


def _take(steps: Iterator[list[Batch]], count: int) -> list[Batch]:
    """The batches of some global batches, one after another."""
    taken = list(islice(steps, count))
    assert len(taken) == count
    return [batch for step in taken for batch in step]


def _steps_per_epoch(loader: Loader, number: int = 0) -> int:
    return len(list(loader.sampler.epoch("soft", number)))


def test_every_utterance_once_an_epoch_and_another_order_in_the_next(roots: dict[str, str]) -> None:
    loader = make_loader(roots)
    stream, epochs = loader.steps({"soft": 1}), []
    for epoch in range(3):
        ids = [batch.ids for batch in _take(stream, _steps_per_epoch(loader, epoch))]
        assert sorted(sum(ids, [])) == sorted(f"u{number}" for number in range(23))
        assert loader.state_dict()["sources"]["soft"] == {"epoch": [epoch + 1], "block": [0], "batch": [0]}
        epochs.append(ids)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_holds_what_the_store_holds(roots: dict[str, str]) -> None:
    loader = make_loader(roots, augment=None)
    for batch in _take(loader.steps(MIXTURE), 12):
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
                assert batch.targets is not None and batch.has[POSTERIORS][number] and batch.alignment is None
                dense = source.store.targets(facts).to_dense()
                kept = batch.targets.log_probs[batch.targets.row_splits[row] : batch.targets.row_splits[row + frames]]
                np.testing.assert_array_equal(kept.view(frames, -1).numpy(), dense)
                row += frames
            else:
                assert batch.targets is None and batch.alignment is not None
                assert batch.alignment[number, :frames].tolist() == facts["alignment"].tolist()
                assert (batch.alignment[number, frames:] == -100).all()


@pytest.mark.parametrize(("embed", "error"), [("features", 1e-5), ("features:8bit", 0.03), ("opus:256", 0.5)])
def test_stored_features_and_embedded_audio_give_the_same(make_store: MakeStore, embed: str, error: float) -> None:
    audio = make_loader({"s": make_store(rows=9)}, augment=None)
    stored = make_loader({"s": make_store(rows=9, embed=embed)}, augment=None)
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
        assert features.shape == read[stored][name].shape
        assert float((features - read[stored][name]).square().mean().sqrt()) <= error


def test_the_mixture_keeps_its_shares(roots: dict[str, str]) -> None:
    batches = _take(make_loader(roots).steps(MIXTURE), 40)
    for group in range(10):
        assert Counter(batch.source[0] for batch in batches[4 * group : 4 * group + 4]) == MIXTURE


@pytest.mark.slow
@pytest.mark.parametrize("cache_mb", [0, 0.05, 100])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_caches_and_prefetch_do_not_change_batches(roots: dict[str, str], cache_mb: float, prefetch: int) -> None:
    expected = _take(make_loader(roots).steps(MIXTURE), 20)
    assert same_batches(expected, _take(make_loader(roots, cache_mb=cache_mb, prefetch=prefetch).steps(MIXTURE), 20))


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_ranks_share_the_same_global_batches(roots: dict[str, str], world_size: int) -> None:
    expected = list(islice(make_loader(roots, streams=8).steps(MIXTURE), 6))
    dealt, states = [], []
    for rank in range(world_size):
        loader = make_loader(roots, streams=8, rank=rank, world_size=world_size)
        dealt.append(list(islice(loader.steps(MIXTURE), 6)))
        states.append(loader.state_dict())
    assert all(state == states[0] for state in states)
    for number, whole in enumerate(expected):
        # Stream s is the batch s // world_size of rank s % world_size: the union, none twice, in order.
        joined = [dealt[stream % world_size][number][stream // world_size] for stream in range(8)]
        assert sum(len(one[number]) for one in dealt) == len(whole) == 8
        assert same_batches(whole, joined)
        frames = sum(int(batch.num_frames.sum()) for batch in whole)
        assert {(batch.step, batch.step_frames) for batch in whole} == {(number, frames)}
        assert sum(batch.weight for batch in joined) == pytest.approx(1)


@pytest.mark.slow
def test_a_state_is_continued_by_one_two_eight_and_three_ranks(roots: dict[str, str]) -> None:
    expected = list(islice(make_loader(roots, streams=8).steps(MIXTURE), 12))
    state = make_loader(roots, streams=8).state_dict()
    for turn, world_size in enumerate((1, 2, 8, 3)):
        dealt = []
        for rank in range(world_size):
            loader = make_loader(roots, streams=8, rank=rank, world_size=world_size)
            loader.load_state_dict(state)
            dealt.append(list(islice(loader.steps(MIXTURE), 3)))
        state = json.loads(json.dumps(loader.state_dict()))
        for number in range(3):
            joined = [dealt[stream % world_size][number][stream // world_size] for stream in range(8)]
            assert same_batches(expected[3 * turn + number], joined)


def test_every_utterance_once_an_epoch_of_every_stream(roots: dict[str, str]) -> None:
    stream = make_loader(roots, streams=3).steps({"soft": 1})
    seen: list[Counter[str]] = [Counter() for _ in range(3)]
    for _ in range(12):
        for number, batch in enumerate(next(stream)):
            seen[number].update(batch.ids)
    assert set().union(*seen) == {f"u{number}" for number in range(23)}
    total = sum(seen, Counter())
    assert max(total.values()) - min(total.values()) <= 2


def _write_catalogs(roots: dict[str, str]) -> None:
    for root in roots.values():
        write_catalog(Store.open(root))


def _consumed_at(loader: Loader, where: str) -> int:
    end = _steps_per_epoch(loader)
    return {"start": 0, "first": 1, "mid": end // 2, "end": end, "next": end + 1}[where]


@pytest.mark.slow
@pytest.mark.parametrize("mixture", [{"soft": 1}, MIXTURE], ids=["one", "mixture"])
@pytest.mark.parametrize("where", ["start", "first", "mid", "end", "next"])
@pytest.mark.parametrize(
    ("prefetch", "catalogs"), [(0, "none"), (4, "none"), (0, "both"), (4, "written between"), (0, "gone between")]
)
def test_resumed_is_continued(
    roots: dict[str, str], where: str, mixture: dict[str, int], prefetch: int, catalogs: str
) -> None:
    if catalogs in ("both", "gone between"):
        _write_catalogs(roots)
    continued = make_loader(roots, prefetch=prefetch)
    stream = continued.steps(mixture)
    _take(stream, _consumed_at(continued, where))
    state = json.loads(json.dumps(continued.state_dict()))
    expected = _take(stream, 15)

    if catalogs == "written between":
        _write_catalogs(roots)
    for root in roots.values() if catalogs == "gone between" else ():
        shutil.rmtree(Path(root, "catalog"))
    resumed = make_loader(roots, prefetch=prefetch)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    second = resumed.steps(mixture)
    assert same_batches(expected[:5], _take(second, 5))
    # Twice in a row: what was resumed is resumed again.
    again = make_loader(roots, prefetch=prefetch)
    again.load_state_dict(json.loads(json.dumps(resumed.state_dict())))
    assert same_batches(expected[5:], _take(again.steps(mixture), 10))
    assert again.state_dict() == continued.state_dict()


def test_a_state_loaded_into_a_running_loader_goes_back(roots: dict[str, str]) -> None:
    loader = make_loader(roots)
    state = loader.state_dict()
    first = _take(loader.steps(MIXTURE), 5)
    loader.load_state_dict(state)
    assert same_batches(first, _take(loader.steps(MIXTURE), 5))


def test_a_change_of_mixture_keeps_the_positions(roots: dict[str, str]) -> None:
    loader = make_loader(roots)
    soft = _take(loader.steps({"soft": 1}), 5)
    old = loader.steps(MIXTURE)
    mixed = _take(old, 8)
    state = loader.state_dict()
    assert state["step"] == 13
    rest = _take(loader.steps({"soft": 1}), 4)
    assert list(old) == []
    drawn = soft + [batch for batch in mixed if batch.source[0] == "soft"] + rest
    assert len(soft) + len(rest) < len(drawn) < 17
    alone = _take(make_loader(roots).steps({"soft": 1}), len(drawn))
    assert same_batches(alone, [replace(batch, step=number) for number, batch in enumerate(drawn)])
    resumed = make_loader(roots)
    resumed.load_state_dict(state)
    assert same_batches(rest, _take(resumed.steps({"soft": 1}), 4))


def test_augmentation_differs_between_epochs_and_spares_validation(roots: dict[str, str]) -> None:
    loader, clean = make_loader(roots), make_loader(roots, augment=None)
    assert same_batches(list(clean.epoch("soft")), list(loader.epoch("soft")))
    assert loader.state_dict()["step"] == 0
    seen: dict[str, list[torch.Tensor]] = {}
    stream = loader.steps({"soft": 1})
    for epoch in range(2):
        for batch in _take(stream, _steps_per_epoch(loader, epoch)):
            for row, name in enumerate(batch.ids):
                seen.setdefault(name, []).append(batch.features[row, : batch.feature_lengths[row]])
    assert not any(torch.equal(*pair) for pair in seen.values())


@pytest.mark.parametrize("name", ["soft", "labeled"])
def test_a_time_warp_moves_targets_and_labels_with_the_features(roots: dict[str, str], name: str) -> None:
    clean = make_loader(roots, augment=None)
    known = {batch.ids[row]: (batch, row) for batch in clean.epoch(name) for row in range(len(batch))}
    moved = 0
    warped = make_loader(roots, augment=Augment(time_warp=TimeWarp(6, 1.0)))
    for batch in _take(warped.steps({name: 1}), 2):
        start = 0
        for row, utterance in enumerate(batch.ids):
            frames = int(batch.num_frames[row])
            before, at = known[utterance]
            features = before.features[at, :frames]
            # Each frame of the warped features lies between two neighbors of the clean ones; its labels are the nearer one's.
            places = TimeWarp(6, 1.0).draw(frames, utterance_rng(3, 0, utterance))
            assert places is not None
            nearest = np.rint(places).astype(int)
            exact = np.flatnonzero(places == nearest)
            torch.testing.assert_close(batch.features[row, exact], features[nearest[exact]])
            if name == "soft":
                assert batch.targets is not None and before.targets is not None
                offset = int(before.num_frames[:at].sum())
                dense = before.targets.log_probs.view(-1, 3)[offset : offset + frames]
                assert torch.equal(batch.targets.log_probs.view(-1, 3)[start : start + frames], dense[nearest])
                start += frames
            else:
                assert batch.alignment is not None and before.alignment is not None
                assert torch.equal(batch.alignment[row, :frames], before.alignment[at, :frames][nearest])
            moved += int((nearest != np.arange(frames)).sum())
    assert moved > 5


@pytest.mark.parametrize("name", ["soft", "labeled"])
def test_two_views_differ_in_their_masks_alone(roots: dict[str, str], name: str) -> None:
    warp, masks = TimeWarp(6, 1.0), SpecAugment(2, 4, 0.5, 1, 3, 1.0)
    two, common = (make_loader(roots, augment=Augment(time_warp=warp, views=views)) for views in ((masks,), ()))
    assert two.fingerprints["augmentation"] != common.fingerprints["augmentation"]
    differ = 0
    for batch, plain in zip(_take(two.steps({name: 1}), 3), _take(common.steps({name: 1}), 3), strict=True):
        assert plain.second_view is None and batch.second_view is not None
        assert same_batches([replace(batch, features=plain.features, second_view=None)], [plain])
        for row, (utterance, frames) in enumerate(zip(batch.ids, batch.feature_lengths.tolist(), strict=True)):
            rng = utterance_rng(3, 0, utterance)
            warp.draw(frames, rng)
            for view in (batch.features, batch.second_view):
                expected = masks(plain.features[row, :frames], rng, stack=FRONT_END.stack)
                assert torch.equal(view[row, :frames], expected) and not view[row, frames:].any()
            differ += not torch.equal(batch.features[row], batch.second_view[row])
    assert differ > 5
    assert all(batch.second_view is None for batch in two.epoch(name))


def test_ranks_deal_a_validation_epoch(roots: dict[str, str]) -> None:
    ids = [
        name
        for rank in range(3)
        for b in make_loader(roots, streams=3, rank=rank, world_size=3).epoch("soft")
        for name in b.ids
    ]
    assert sorted(ids) == sorted(f"u{number}" for number in range(23))


@pytest.mark.timeout(60)
def test_a_source_that_does_not_repeat_ends_the_stream(roots: dict[str, str]) -> None:
    loader = make_loader(roots, repeat=False)
    ids = [name for [batch] in loader.steps({"soft": 1}) for name in batch.ids]
    assert sorted(ids) == sorted(f"u{number}" for number in range(23))
    assert list(loader.steps({"soft": 1})) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_sources_that_do_not_repeat_end_with_every_utterance_once(roots: dict[str, str], world_size: int) -> None:
    counts: Counter[str] = Counter()
    lengths = set()
    for rank in range(world_size):
        loader = make_loader(roots, repeat=False, streams=3, rank=rank, world_size=world_size, max_utterances=2)
        steps = list(loader.steps({"soft": 1}))
        lengths.add(len(steps))
        counts.update(name for step in steps for batch in step for name in batch.ids)
    # Every rank takes part in as many steps, else a collective operation would wait for ever.
    assert len(lengths) == 1
    assert counts == Counter({f"u{number}": 1 for number in range(23)})


@pytest.mark.slow
def test_a_schedule_is_followed_and_resumed_within(roots: dict[str, str]) -> None:
    schedule = [Phase(4, {"soft": 1}), Phase(10, MIXTURE, until={"labeled": 1}), Phase(3, {"labeled": 1})]
    expected = _take(make_loader(roots).steps(schedule), 17)
    assert [batch.source[0] for batch in expected[:4]] == ["soft"] * 4
    assert [batch.source[0] for batch in expected[14:]] == ["labeled"] * 3
    assert len(list(make_loader(roots).steps(schedule))) == 17
    for taken in (0, 3, 4, 9, 14, 17):
        first = make_loader(roots)
        _take(first.steps(schedule), taken)
        second = make_loader(roots)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert same_batches(expected[taken:], [batch for step in second.steps(schedule) for batch in step])


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
    state = make_loader(roots).state_dict()
    with pytest.raises(MismatchError, match=message):
        make_loader(roots, **change).load_state_dict(state)


def test_a_state_of_other_data_is_refused(roots: dict[str, str], make_store: MakeStore) -> None:
    state = make_loader(roots).state_dict()
    with pytest.raises(MismatchError, match="source soft"):
        make_loader(roots | {"soft": make_store("u", rows=24)}).load_state_dict(state)
    with pytest.raises(MismatchError, match="source labeled"):
        make_loader({"soft": roots["soft"]}).load_state_dict(state)
    with pytest.raises(MismatchError, match="format"):
        make_loader(roots).load_state_dict({"step": 1})


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
    loader = make_loader({"s": make_store(rows=3, shards=1, soft=soft, change=change)}, prefetch=prefetch)
    with pytest.raises(kind, match=message):
        next(loader.steps({"s": 1}))


def test_what_does_not_fit_the_student_is_refused_by_name(roots: dict[str, str], make_store: MakeStore) -> None:
    with pytest.raises(MismatchError, match="frame law.*stride=2.*stride=3"):
        make_loader(roots, front_end=replace(FRONT_END, stride=3))
    with pytest.raises(MismatchError, match="frame law"):
        make_loader(roots, subsampling_factor=2)
    with pytest.raises(MismatchError, match="units.*soft \\(3 units\\), other \\(4 units\\)"):
        make_loader({"soft": roots["soft"], "other": make_store("o", units=("SIL", "a_0", "b_0", "c_0"))})
    stored = {"s": make_store(embed="features")}
    with pytest.raises(ConfigError, match="--embed audio"):
        make_loader(stored)
    with pytest.raises(MismatchError, match="num_mels=4.*num_mels=5"):
        make_loader(stored, augment=None, front_end=replace(FRONT_END, num_mels=5))
    with pytest.raises(ConfigError, match="none"):
        make_loader({"s": make_store(embed="none")})
    with pytest.raises(ConfigError, match="max_frames"):
        make_loader(roots, max_frames=5)
    with pytest.raises(ConfigError, match="rank is 2"):
        make_loader(roots, rank=2, world_size=2, streams=2)
    with pytest.raises(ConfigError, match="2 ranks share 1 streams"):
        make_loader(roots, rank=0, world_size=2)
    with pytest.raises(ConfigError, match="9 utterances, fewer than the 10 streams"):
        make_loader(roots, streams=10)
    with pytest.raises(ConfigError, match="num_workers is 1 and prefetch 0"):
        make_loader(roots, num_workers=1, prefetch=0)
    with pytest.raises(ConfigError, match="at least one source"):
        make_loader({})


def test_transcripts_fit_a_student_that_subsamples(make_store: MakeStore) -> None:
    def without_alignment(number: int, row: dict[str, Any]) -> None:
        row["alignment"] = None

    loader = make_loader({"l": make_store("l", soft=False, change=without_alignment)}, subsampling_factor=2)
    for batch in loader.epoch("l"):
        assert torch.equal(batch.num_frames, (batch.feature_lengths + 1) // 2)


def test_targets_unpacked_on_a_device_are_those_unpacked_by_readers(make_store: MakeStore) -> None:
    codec = parse_codec("topk:2")
    dense = make_store("u", rows=20)

    def sparse(number: int, row: dict[str, Any]) -> None:
        scores = torch.from_numpy(np.random.default_rng(number).standard_normal((row["num_frames"], 3)))
        row.pop("target_log_probs", None)
        row.update(pack(codec, codec.encode(scores.float().log_softmax(1))))

    roots = {"s": make_store("u", rows=20, change=sparse, codec="topk:2")}
    for given in (roots, {"s": dense}):
        plain, packed = make_loader(given), make_loader(given, unpack_on_device=True)
        for one, other in zip(_take(plain.steps({"s": 1}), 8), _take(packed.steps({"s": 1}), 8), strict=True):
            assert other.targets is None and list(other.packed) == [POSTERIORS]
            moved = other.to("cpu")
            assert same_batches([one], [moved])
    with pytest.raises(ConfigError, match="source 's' has a time warp, which unpack_on_device"):
        make_loader(roots, unpack_on_device=True, augment=Augment(time_warp=TimeWarp()))
