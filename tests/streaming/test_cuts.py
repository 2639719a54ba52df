"""The bridge to lhotse, and the map-style view, against the loader's own batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from lhotse.dataset import DynamicBucketingSampler
from stream_helpers import FRONT_END, make_loader

from asrkd.corpus.augment import Augment, Gain
from asrkd.errors import ConfigError, MismatchError
from asrkd.store import Store
from asrkd.streaming import Filter, SoftTargetDataset, Source, UtteranceView, to_cuts

MakeStore = Callable[..., str]


def test_cuts_hold_what_the_store_holds(make_store: MakeStore) -> None:
    store = Store.open(make_store("u", rows=9))
    cuts = to_cuts(store)
    assert cuts.is_lazy
    for _ in range(2):  # It can be iterated again.
        for row, cut in zip(store.rows(), cuts, strict=True):
            assert (cut.id, cut.recording_id, cut.num_samples) == (row["id"], row["recording_id"], row["num_samples"])
            assert (cut.supervisions[0].text, cut.supervisions[0].speaker) == ("", row["speaker"])
            assert cut.load_audio().shape == (1, row["num_samples"])
            dense = store.targets(row).to_dense()
            found = np.full_like(dense, -np.inf)
            np.put_along_axis(found, cut.load_target_ids(), cut.load_target_log_probs(), axis=1)
            np.testing.assert_array_equal(found, dense)
            assert cut.number == int(cut.id[1:])
    transcribed = to_cuts(Store.open(make_store("l", rows=3, soft=False)))
    assert [cut.supervisions[0].text for cut in transcribed] == ["text 0", "text 1", "text 2"]


def test_a_trimmed_cut_has_the_targets_of_its_part(make_store: MakeStore) -> None:
    cut = next(iter(to_cuts(Store.open(make_store("u", rows=1)))))
    whole = cut.load_target_log_probs()
    shift = cut.target_ids.frame_shift
    part = cut.truncate(offset=5 * shift, duration=10 * shift)
    np.testing.assert_array_equal(part.load_target_log_probs(), whole[5:15])


def test_a_lhotse_sampler_and_the_dataset_give_the_batches_of_the_loader(make_store: MakeStore) -> None:
    root = make_store("u", rows=23)
    known = {}
    for batch in make_loader({"s": root}, augment=None).epoch("s"):
        start = 0
        for row, name in enumerate(batch.ids):
            frames = int(batch.num_frames[row])
            rows = batch.targets.log_probs.view(-1, 3)[start : start + frames]
            known[name] = (batch.features[row, :frames], rows)
            start += frames
    sampler = DynamicBucketingSampler(to_cuts(Store.open(root)), max_duration=1.5, num_buckets=3, shuffle=True)
    dataset = SoftTargetDataset(FRONT_END)
    seen = []
    for cuts in sampler:
        batch = dataset[cuts]
        start = 0
        for row, cut in enumerate(batch["supervisions"]["cut"]):
            frames = int(batch["supervisions"]["num_frames"][row])
            features, targets = known[cut.id]
            torch.testing.assert_close(batch["inputs"][row, :frames], features)
            assert torch.equal(batch["targets"].log_probs.view(-1, 3)[start : start + frames], targets)
            start += frames
            seen.append(cut.id)
    assert sorted(seen) == sorted(known)


def test_what_cannot_be_bridged_is_refused(make_store: MakeStore) -> None:
    with pytest.raises(ConfigError, match="embeds 'features', but cuts need audio"):
        to_cuts(Store.open(make_store("u", embed="features")))
    cuts = to_cuts(Store.open(make_store("l", rows=3, soft=False))).to_eager()
    with pytest.raises(MismatchError, match="'l.' has no soft targets"):
        SoftTargetDataset(FRONT_END)[cuts]
    faster = to_cuts(Store.open(make_store("u", rows=3))).to_eager()
    with pytest.raises(MismatchError, match="'u.' has soft targets of .* frames, but the student gives"):
        SoftTargetDataset(FRONT_END, subsampling_factor=2)[faster]


def test_the_view_gives_single_utterances(make_store: MakeStore) -> None:
    root = make_store("u", rows=20)
    source = Source("s", Store.open(root), filter=Filter(speakers=frozenset({"s1"})))
    view = UtteranceView(source, FRONT_END)
    assert [utterance.id for utterance in view] == [f"u{number}" for number in range(1, 20, 3)]
    batch = next(batch for batch in make_loader({"s": root}, augment=None).epoch("s") if "u7" in batch.ids)
    row = batch.ids.index("u7")
    assert torch.equal(view["u7"].features, batch.features[row, : batch.feature_lengths[row]])
    assert view[-1].id == "u19" and len(view) == 7
    louder = UtteranceView(source, FRONT_END, augment=Augment((Gain((6.0, 6.0)),)))
    assert not torch.equal(louder["u7"].features, view["u7"].features)
    with pytest.raises(IndexError, match="position 7 is not within the 7"):
        view[7]
    with pytest.raises(ConfigError, match="no utterance 'u0'"):
        view["u0"]
