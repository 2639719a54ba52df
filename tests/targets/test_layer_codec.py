"""How a layer's output is stored: against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkd.errors import ConfigError, StoreError
from asrkd.targets.codecs import stream_codec
from asrkd.targets.layer_codec import Codebooks, Float16, HiddenCodec, fit_codebooks, nearest_centers
from asrkd.targets.packed import PackedTargets
from asrkd.targets.streams import HIDDEN
from asrkd.targets.vectors import FrameVectors


def stored(codec: HiddenCodec, data: bytes, frames: int) -> torch.Tensor:
    """What a reader of a store gets."""
    layout = codec.layout(0)
    packed = PackedTargets.join(layout, [layout.pack(data)], [frames])
    targets = packed.unpack()
    assert isinstance(targets, FrameVectors) and targets.lengths.tolist() == [frames]
    return targets.values


@settings(max_examples=50, deadline=None)
@given(
    frames=st.integers(0, 6),
    books=st.integers(1, 3),
    entries=st.integers(2, 5),
    part=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_the_nearest_center_of_each_part_is_stored(frames: int, books: int, entries: int, part: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randn(frames, books * part, generator=generator)
    centers = torch.randn(books, entries, part, generator=generator)
    expected = [
        [
            min(
                range(entries),
                key=lambda k, t=t, c=c: float((output[t, c * part : (c + 1) * part] - centers[c, k]).square().sum()),
            )
            for c in range(books)
        ]
        for t in range(frames)
    ]
    assert nearest_centers(output, centers).tolist() == expected
    codec = Codebooks(books, entries)
    data = codec.encode(output, centers)
    assert len(data) == frames * books and stored(codec, data, frames).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.integers(1, 7), st.floats(1e-3, 1e6))
def test_numbers_come_back_with_16_bits(frames: int, width: int, scale: float) -> None:
    output = scale * torch.randn(frames, width, generator=torch.Generator().manual_seed(0))
    codec = Float16(width)
    data = codec.encode(output)
    found = stored(codec, data, frames).numpy()
    assert len(data) == 2 * frames * width and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(found, output.clamp(-65504, 65504).numpy(), rtol=1e-3, atol=1e-7)


def test_fitted_centers_are_the_means_of_their_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    # Four clusters in each of two parts.
    means = torch.tensor([[-9.0, 0], [9, 0], [0, 9], [0, -9]])
    frames = torch.cat([means[torch.randint(0, 4, (400,), generator=generator)] for _ in range(2)], dim=1)
    frames += 0.1 * torch.randn(frames.shape, generator=generator)
    centers = fit_codebooks(frames, 2, 8)
    assert centers.shape == (2, 8, 2)
    near = nearest_centers(frames, centers)
    for book in range(2):
        for entry in near[:, book].unique().tolist():
            own = frames[near[:, book] == entry, 2 * book : 2 * book + 2]
            torch.testing.assert_close(centers[book, entry], own.mean(0), rtol=0, atol=0.05)
    kept = torch.cat([centers[book][near[:, book]] for book in range(2)], dim=1)
    assert (frames - kept).square().mean() < 0.02
    assert torch.equal(fit_codebooks(frames, 2, 8), centers) and not torch.equal(
        fit_codebooks(frames, 2, 8, seed=1), centers
    )


def test_what_cannot_be_is_refused() -> None:
    for spec in ("float16", "codebooks:4", "float32:4", "float16:x", "topk:20"):
        with pytest.raises(
            ConfigError, match=f"codec of hidden targets '{spec}' is not known; give float16:D or codebooks"
        ):
            stream_codec(HIDDEN, spec)
    for spec, reason in (("float16:0", "D of 'float16:D' is 0"), ("codebooks:4:257", "K from 2 to 256")):
        with pytest.raises(ConfigError, match=reason):
            stream_codec(HIDDEN, spec)
    for spec in ("float16:320", "codebooks:8:256"):
        assert stream_codec(HIDDEN, spec).spec == spec
    with pytest.raises(ConfigError, match="3 codebooks of 4 entries cannot be fitted to 10 frames of 8 dimensions"):
        fit_codebooks(torch.zeros(10, 8), 3, 4)
    with pytest.raises(ConfigError, match="has 6 dimensions, the codebooks are of 2 x 4"):
        nearest_centers(torch.zeros(1, 6), torch.zeros(2, 3, 4))
    with pytest.raises(StoreError, match="has 7 bytes, but 2 frames of 'float16:2' have 8"):
        stored(Float16(2), bytes(7), 2)
    with pytest.raises(StoreError, match="index 9 of a codebook of 4"):
        stored(Codebooks(2, 4), bytes([0, 9]), 1)
