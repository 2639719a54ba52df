"""What is said in a cut, of lhotse's cuts and of their JSON."""

from __future__ import annotations

from typing import Any

import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from asrkd.corpus.transcripts import Transcript, speaker_of, text_of, transcript_of


def supervision(start: float, duration: float, text: Any = "x", speaker: Any = "s", **more: Any) -> SupervisionSegment:
    return SupervisionSegment(f"{start}-{text}", "r", start, duration, text=text, speaker=speaker, **more)


def cut(*supervisions: SupervisionSegment, duration: float = 1.0, start: float = 0.0) -> MonoCut:
    recording = Recording("r", [AudioSource("file", [0], "r.wav")], 16000, 160000, 10.0)
    return MonoCut("c", start, duration, 0, supervisions=list(supervisions), recording=recording)


def both(one: Any) -> Transcript:
    """The transcript; the same for the cut and its JSON."""
    assert transcript_of(one) == transcript_of(one.to_dict())
    assert speaker_of(one) == speaker_of(one.to_dict())
    return transcript_of(one)


WORDS = {
    "word": [AlignmentItem(w, 0.25 * n, 0.25) for n, w in enumerate(("one", "two", "three", "four"))]
    + [AlignmentItem("", 1.0, 0.0)]
}


@pytest.mark.parametrize(
    ("supervisions", "text"),
    [
        ([], None),
        ([supervision(0, 1, None)], None),
        ([supervision(0, 1, "")], ""),
        ([supervision(0, 1, "  ")], ""),
        ([supervision(0, 1, "one two")], "one two"),
        ([supervision(0.5, 0.5, "later"), supervision(0, 0.5, "first")], "first later"),
        ([supervision(0, 0.5, ""), supervision(0.5, 0.5, "only")], "only"),
        ([supervision(-1, 1, "before"), supervision(0, 1, "in"), supervision(1, 1, "after")], "in"),
        ([supervision(-1, 1, "before")], None),
        # Rounded times do no harm; no word fits in these.
        ([supervision(-0.03, 1.06, "almost")], "almost"),
        ([supervision(0.01, 1.02, "almost")], "almost"),
        ([supervision(-0.5, 0.53, "an edge"), supervision(0.1, 0.5, "in")], "in"),
        # One speaker's segments, drawn with margins.
        ([supervision(0, 0.6, "a"), supervision(0.4, 0.6, "b")], "a b"),
    ],
)
def test_the_supervisions_inside_are_the_transcript(supervisions: list[SupervisionSegment], text: str | None) -> None:
    assert both(cut(*supervisions)) == Transcript(text)


@pytest.mark.parametrize(
    ("supervisions", "why"),
    [
        ([supervision(0, 1.2, "one two")], "of 1.00 s has a transcript of 1.20 s that reaches beyond it"),
        ([supervision(-0.2, 1, "one two")], "reaches beyond it"),
        ([supervision(-0.2, 0.3, "short")], "reaches beyond it"),
        ([supervision(-5, 20, "all")], "reaches beyond it"),
        ([supervision(0, 1, "a", "x"), supervision(0.5, 0.5, "b", "y")], "'x' and 'y' that overlap by 0.50 s"),
        ([supervision(0, 1, "a", None), supervision(0.5, 0.5, "b", None)], "an unnamed speaker"),
        ([supervision(0, 1, "a"), supervision(0, 1, "a")], "overlap by 1.00 s"),
        ([supervision(0, 0.9, "a", "x"), supervision(0.1, 0.1, "b"), supervision(0.5, 0.5, "c")], "overlap"),
        ([supervision(0, 1, 5)], "text is 5, not text"),
        ([supervision(float("nan"), 1)], "start nan"),
        ([supervision(0, -1)], "duration -1"),
    ],
)
def test_where_the_words_are_not_known_there_is_no_transcript(supervisions: list[SupervisionSegment], why: str) -> None:
    found = both(cut(*supervisions))
    assert found.text is None and why in found.problem


def test_windows_have_the_words_that_are_whole_in_them() -> None:
    whole = cut(supervision(0, 1, "one two three four", alignment=WORDS))
    assert both(whole).text == "one two three four"
    windows = [both(one).text for one in CutSet.from_cuts([whole]).cut_into_windows(0.5)]
    assert windows == ["one two", "three four"]
    # No word that the edge cuts through.
    assert [both(one).text for one in CutSet.from_cuts([whole]).cut_into_windows(0.4)] == ["one", "three", ""]
    assert both(whole.truncate(offset=0.2, duration=0.6).truncate(offset=0.2)).text == "three"
    # Within a longer recording, after another cut, behind padding.
    later = cut(
        supervision(0, 1, "one two three four", alignment={"word": [i.with_offset(3) for i in WORDS["word"]]}),
        start=3.0,
    )
    part = later.truncate(offset=0.25, duration=0.5)
    assert both(part).text == "two three"
    assert both(part.pad(2.0, direction="left")).text == "two three"
    assert both(part.append(part.with_id("again"))).text == "two three two three"
    # Some tools write times of the cut.
    shifted = {"word": [item.with_offset(-0.25) for item in WORDS["word"]]}
    assert both(cut(supervision(-0.25, 1.0, "x", alignment=shifted), start=3.0)).text == "two three four"


def test_word_times_that_do_not_fit_are_not_used() -> None:
    odd = {"word": [AlignmentItem("one", 7.0, 0.2)]}
    assert "reaches beyond" in both(cut(supervision(-0.5, 1, "one", alignment=odd))).problem
    json = cut(supervision(-0.5, 1, "one")).to_dict()
    json["supervisions"][0]["alignment"] = {"word": ["nonsense"]}
    assert "reaches beyond" in transcript_of(json).problem


def test_the_speaker_is_one_of_the_cut() -> None:
    assert (
        speaker_of(cut(supervision(-2, 1, "x", "before"), supervision(0, 1, "y", None), supervision(0, 1, "z", "in")))
        == "in"
    )
    assert speaker_of(cut(supervision(0, 1, "x", 1089)).to_dict()) == "1089"
    assert speaker_of(cut()) is None
    mixed = cut(supervision(0, 1, "x", "anna")).pad(2.0, direction="left")
    assert speaker_of(mixed) == speaker_of(mixed.to_dict()) == "anna" and text_of(mixed) == "x"
