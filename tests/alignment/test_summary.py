"""What counts as usual, and which utterances do not fit their transcripts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkd.alignment.summary import ODDITY, deviations, usual_here, usual_of

MADE_FROM = (-0.8, 0.25)


@given(
    st.integers(20, 400),
    st.floats(0.0, 5.0),
    st.floats(0.1, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_speakers_that_an_aligner_does_not_know_are_no_wrong_transcripts(
    count: int, lower: float, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    gains = MADE_FROM[0] - lower + spread * np.clip(rng.standard_normal(count), -3, 3)
    usual = usual_here(gains.tolist(), MADE_FROM)
    # The largest of a few is uncertain where the middle is not known yet.
    assert all(deviations(gain, usual) <= ODDITY for gain in gains) or count < 50
    wrong = float(np.median(gains)) - 12 * max(spread, MADE_FROM[1])
    assert deviations(wrong, usual) > ODDITY


def test_a_wrong_transcript_alone_is_no_measure_of_itself() -> None:
    wrong = MADE_FROM[0] - 14 * MADE_FROM[1]
    assert deviations(wrong, usual_here([wrong], MADE_FROM)) > ODDITY
    assert usual_here([], MADE_FROM) == MADE_FROM


def test_a_set_is_not_asked_to_be_better_than_what_the_aligner_was_made_from() -> None:
    better = [-0.1] * 50
    assert usual_here(better, MADE_FROM) == MADE_FROM
    assert usual_of(better)[0] == pytest.approx(-0.1)
