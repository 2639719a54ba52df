from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import ConfigError, MismatchError

laws = st.builds(
    FrameLaw,
    window=st.integers(1, 50),
    shift=st.integers(1, 30),
    stack=st.integers(1, 5),
    stride=st.integers(1, 5),
    subsampling_factor=st.integers(1, 5),
)


def count(law: FrameLaw, num_samples: int) -> tuple[int, int]:
    """Features and frames by laying windows, stacks and subsampled frames out one by one."""
    windows = [start for start in range(0, num_samples, law.shift) if start + law.window <= num_samples]
    features = [first for first in range(0, len(windows), law.stride) if first + law.stack <= len(windows)]
    return len(features), len(features[:: law.subsampling_factor])


@given(laws, st.integers(0, 1000))
def test_it_equals_laying_out_the_frames(law: FrameLaw, num_samples: int) -> None:
    assert (law.num_features(num_samples), law.num_frames(num_samples)) == count(law, num_samples)


@given(laws, st.integers(0, 1000))
def test_one_frame_shift_more_is_one_frame_more(law: FrameLaw, extra: int) -> None:
    least = law.window + law.shift * (law.stack - 1)
    assert law.num_frames(least - 1) == 0
    assert law.num_frames(least) == 1
    assert law.num_frames(least + extra + law.frame_shift) == law.num_frames(least + extra) + 1


def test_the_studys_law() -> None:
    law = FrameLaw(window=400, shift=160, stack=3, stride=3)
    # One second: 98 windows of 25 ms every 10 ms, joined three by three.
    assert law.num_features(16000) == 32
    assert law.frame_shift == 480


@given(laws, st.integers(0, 1000), st.integers(-2, 2))
def test_check_accepts_only_the_laws_own_number(law: FrameLaw, num_samples: int, off: int) -> None:
    expected = law.num_frames(num_samples)
    if off == 0:
        law.check(num_samples, expected, what="cut 'a'")
    else:
        with pytest.raises(
            MismatchError, match=f"cut 'a' has {expected + off} frames, but {num_samples} samples make {expected} "
        ):
            law.check(num_samples, expected + off, what="cut 'a'")


@pytest.mark.parametrize("name", ["window", "shift", "stack", "stride", "subsampling_factor"])
def test_sizes_below_one_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0"):
        FrameLaw(**{"window": 4, "shift": 2, name: 0})
