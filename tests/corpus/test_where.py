from __future__ import annotations

from typing import Any

import pytest
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.testing.dummies import dummy_recording

from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.corpus.where import field_of, parse_where
from asrkd.errors import ConfigError


def cut(**changes: Any) -> MonoCut:
    recording = Recording.from_dict(dummy_recording(0, duration=10.0).to_dict() | {"id": "tape"})
    supervisions = [
        SupervisionSegment("s2", "tape", 1.0, 1.0, text="and two"),
        SupervisionSegment("s1", "tape", 0.0, 1.0, text="one", speaker="anna"),
    ]
    made = MonoCut("c1", 0.5, 4.0, 0, supervisions=supervisions, recording=recording, custom={"snr": 12, "lang": "ar"})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("duration>=4", True),
        ("duration>4", False),
        (" duration < 4.5 ", True),
        ("start=0.5", True),
        ("sampling_rate=16000", True),
        ("id=c1", True),
        ("id!=c1", False),
        ("id~^c\\d$", True),
        ("recording_id=tape", True),
        ("speaker=anna", True),
        ("speaker!=anna", False),
        ("text=one and two", True),
        ("text~two$", True),
        ("custom.snr>=10", True),
        ("custom.snr=12.0", True),
        ("custom.lang=ar", True),
        ("custom.lang=en", False),
        ("custom.lang>3", False),
        ("custom.none=1", False),
        ("custom.none!=1", True),
    ],
)
def test_conditions(condition: str, met: bool) -> None:
    where = parse_where(condition)
    assert where(cut().to_dict()) is met
    # A mixed cut's fields are those of its first track, its supervisions those of all.
    if not condition.startswith((" duration", "duration", "start", "id", "custom")):
        assert where(cut().append(cut(id="c2", supervisions=[])).to_dict()) is met


def test_fields_are_those_of_lhotse() -> None:
    made = cut()
    assert field_of(made.to_dict(), "speaker") == speaker_of(made)
    assert field_of(made.to_dict(), "text") == text_of(made)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("duration", "'duration' is not of the form FIELD=VALUE"),
        ("length>3", "there is no field 'length'; choose from duration, start"),
        ("duration>long", "'long' is not a number, which duration> needs"),
        ("speaker<b", "speaker is text, which can be compared by =, != and ~ only"),
        ("id~(", r"'\(' is not a regular expression"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_where(condition)
