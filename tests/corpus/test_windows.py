"""Overlapping windows: what each owns, of any recording and any front end."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.waveform import Waveform
from asrkd.corpus.windows import GRID_SECONDS, OWNS, check_frame_shift, owned_samples, owned_seconds, windows_of
from asrkd.errors import ConfigError, CorpusError

RATE = 16000
LAWS = [
    FrontEnd().frame_law(),
    FrontEnd().frame_law(2),
    FrontEnd.from_dict({"preset": "sherpa"}).frame_law(),
    Waveform(RATE).frame_law(),
    FrameLaw(400, 160, subsampling_factor=4),
]


@given(
    st.integers(1, 2_000_000), st.floats(4.0, 40.0), st.floats(0.96, 2.0), st.sampled_from(range(len(LAWS)))
)  # fmt: skip
def test_every_frame_of_a_recording_is_of_one_window(
    num_samples: int, length: float, overlap: float, number: int
) -> None:
    law = LAWS[number]
    # Features are made at factor 1, and what is stored by the whole law.
    of_features = FrameLaw(law.window, law.shift, law.stack, law.stride, 1, law.begin, law.needed)
    windows = windows_of(num_samples / RATE, length, overlap)
    stitched: list[int] = []
    for window in windows:
        begin, end = round(window.begin * RATE), round(window.end * RATE)
        assert end - begin <= length * RATE + GRID_SECONDS * RATE
        to = None if window.owns_to is None else window.owns_to - window.begin
        cut = {
            "id": "w",
            "duration": window.end - window.begin,
            "custom": {OWNS: [window.owns_from - window.begin, to]},
        }
        owned = owned_samples(cut, end - begin, of_features, RATE)
        assert owned is not None and begin % law.frame_shift == owned.first % law.frame_shift == 0
        first = (begin + owned.first) // law.frame_shift
        stitched += range(first, first + law.num_frames(owned.count))
        assert owned.first + owned.count <= end - begin
        # Nothing that a window owns lies next to its edge, where a teacher sees nothing of what is around.
        if window is not windows[0]:
            assert owned.first >= (overlap / 2 - 2 * GRID_SECONDS) * RATE
    assert stitched == list(range(law.num_frames(num_samples)))
    assert windows[0].begin == 0.0 and round(windows[-1].end * RATE) == num_samples
    assert all(one.owns_to == two.owns_from for one, two in pairwise(windows))


@pytest.mark.parametrize(
    ("owns", "message"),
    [
        ([1], r"window_owns \[1\]"),
        ([0, True], r"\[0, True\]"),
        ([0, float("inf")], "inf"),
        ([2.4, 2.4], "owns 2.4 to 2.4 s of its 5 s"),
        ([0, 5.28], "windows must not be cut again"),
        ([0.01, 2.4], "not whole frames of 480 samples"),
        ([0.0, 4.8], ""),
    ],
)
def test_a_field_that_is_not_a_windows(owns: Any, message: str) -> None:
    cut = {"id": "w", "duration": 5.0, "custom": {OWNS: owns}}
    law = FrontEnd().frame_law()
    if not message:
        assert owned_samples(cut, 5 * RATE, law, RATE) is not None
        with pytest.raises(CorpusError, match="too short for its last frame"):
            owned_samples(cut, round(4.8 * RATE), law, RATE)
        return
    with pytest.raises(CorpusError, match=message):
        owned_samples(cut, 5 * RATE, law, RATE)


def test_other_cuts_and_other_frame_shifts() -> None:
    assert owned_seconds({"id": "a", "duration": 1.0}) is None is owned_seconds({"id": "a", "custom": {"x": 1}})
    check_frame_shift(FrameLaw(400, 160, subsampling_factor=8), RATE)
    with pytest.raises(ConfigError, match="0.24 s, which is not a multiple of the frame shift of 200 samples"):
        check_frame_shift(FrameLaw(400, 200), RATE)
