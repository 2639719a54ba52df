"""Unpacking many utterances at a time, with torch and with numpy, against unpacking one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError, StoreError
from asrkd.targets.codecs import Codec, Dense, Hybrid, Nucleus, Sampled, TopK, unpack_together
from asrkd.targets.device import join, unpack
from asrkd.targets.random import frame_keys

CPU = torch.device("cpu")
CODECS = (
    TopK(3),
    TopK(20),
    TopK(400),
    Nucleus(0.9, 8),
    Nucleus(1.0, 300),
    Sampled(5),
    Sampled(256),
    Hybrid(0, 22),
    Hybrid(4, 8),
)


def _speech(frames: int, classes: int, seed: int) -> torch.Tensor:
    """Posteriors whose neighbors share classes; some frames are one-hot, some uniform."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(frames, classes, generator=generator).cumsum(0) * 2 if frames else torch.zeros(0, classes)
    for t in range(0, frames, 7):
        logits[t] = -torch.inf if t % 2 else 0.0
        logits[t, seed % classes] = 0.0
    return logits.log_softmax(1)


@settings(max_examples=120, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    classes=st.sampled_from([2, 3, 17, 256, 257, 1000, 70_000]),
    codec=st.sampled_from(CODECS),
    seed=st.integers(0, 1000),
)
def test_a_batch_is_its_utterances_one_after_another(lengths: list[int], classes: int, codec: Codec, seed: int) -> None:
    rows, alone = [], []
    for number, frames in enumerate(lengths):
        log_probs = _speech(frames, classes, seed + number)
        rows.append(codec.pack(codec.encode(log_probs, frame_keys(f"u{number}", "t", frames, CPU))))
        alone.append(codec.unpack(rows[-1], frames, classes))
    batch = unpack(join(codec, rows, lengths, classes))
    counts = np.concatenate([np.diff(one.row_splits) for one in alone])
    np.testing.assert_array_equal(batch.row_splits.diff().numpy(), counts)
    np.testing.assert_array_equal(batch.ids.numpy(), np.concatenate([one.ids for one in alone]))
    np.testing.assert_allclose(batch.log_probs.numpy(), np.concatenate([one.log_probs for one in alone]), atol=1e-6)
    np.testing.assert_allclose(batch.missing.numpy(), np.concatenate([one.missing for one in alone]), atol=1e-6)
    # With numpy as well, there to the last bit.
    together = unpack_together(codec, rows, lengths, classes)
    np.testing.assert_array_equal(np.diff(together.row_splits), counts)
    for name in ("ids", "log_probs"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(one, name) for one in alone]))
    np.testing.assert_allclose(together.missing, np.concatenate([one.missing for one in alone]), atol=1e-6)


def test_damage_is_refused_by_name() -> None:
    codec = TopK(3)
    rows = [dict(codec.pack(codec.encode(_speech(9, 50, seed)))) for seed in range(2)]
    for name in rows[0]:
        broken = [rows[0], rows[1] | {name: rows[1][name] + b"\0"}]
        lacking = [rows[0], {key: value for key, value in rows[1].items() if key != name}]
        for work in (join, unpack_together):
            with pytest.raises(StoreError, match=f"column {name!r} has .* bytes where .* belong"):
                work(codec, broken, [9, 9], 50)
            with pytest.raises(StoreError, match=f"column {name!r} is not among"):
                work(codec, lacking, [9, 9], 50)
    for work in (join, unpack_together):
        with pytest.raises(StoreError, match="column 'target_counts' has 9 bytes where 8 belong"):
            work(codec, rows, [9, 8], 50)
        with pytest.raises(StoreError, match="column 'target_counts' has 9 bytes where 0 belong|without frames"):
            work(codec, rows, [9, 0], 50)
    wrong = rows[1] | {"target_ids_0": bytes(len(rows[1]["target_ids_0"]) - 1) + b"\xff"}
    with pytest.raises(StoreError, match="outside the 50 classes"):
        unpack(join(codec, [wrong], [9], 50))
    with pytest.raises(ConfigError, match="'dense' has nothing to unpack"):
        join(Dense(), [], [], 50)
