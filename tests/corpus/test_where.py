from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


LANGUAGES = ("nan", "de", "1000", "1e3", "007", "7", "1_000", "inf", "true", "", "cafe\u0301", None)
FIELDS = (12, 12.5, 1000, True, None, float("nan"), [1, "a"], {"b": 7}, 10**400)


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        *((f"custom.language={value}", [value]) for value in LANGUAGES if value and value.isascii()),
        ("custom.language!=nan", [value for value in LANGUAGES if value != "nan"]),
        ("custom.language=", [""]),
        ("custom.language!=", [value for value in LANGUAGES if value != ""]),
        ("custom.language=caf\u00e9", ["cafe\u0301"]),
        ("custom.language~^caf\u00e9$", ["cafe\u0301"]),
        ("custom.language>=7", []),
    ],
)
def test_text_is_compared_as_text(condition: str, met: list[str | None]) -> None:
    where = parse_where(condition)
    assert [one for one in LANGUAGES if where({"id": "a", "custom": {"language": one}})] == met
    without = {"id": "a", "custom": None}
    assert where(without) == condition.startswith("custom.language!=")


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ("custom.x=12", [0]),
        ("custom.x=12.0", [0]),
        ("custom.x=1e3", [2]),
        ("custom.x>=12.5", [1, 2, 8]),
        ("custom.x=true", [3]),
        ("custom.x=True", []),
        ("custom.x=1", []),
        ("custom.x!=12", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("custom.x=twelve", []),
        ("custom.x!=twelve", list(range(9))),
        ('custom.x=[1, "a"]', [6]),
        ("custom.x.b=7", [7]),
        ("custom.x.b!=7", [0, 1, 2, 3, 4, 5, 6, 8]),
        ("custom.x.b.c=7", []),
    ],
)
def test_a_custom_number_is_compared_as_a_number(condition: str, met: list[int]) -> None:
    where = parse_where(condition)
    assert [number for number, one in enumerate(FIELDS) if where({"id": "a", "custom": {"x": one}})] == met


def test_a_field_with_a_point_in_its_name_comes_first() -> None:
    where = parse_where("custom.a.b=1")
    assert where({"custom": {"a.b": 1, "a": {"b": 2}}}) and not where({"custom": {"a.b": 2, "a": {"b": 1}}})
    assert parse_where("custom.sp\u00e9cial key=a")({"custom": {"sp\u00e9cial key": "a"}})


@given(st.text(min_size=1, max_size=5))
def test_any_text_equals_itself(value: str) -> None:
    given_value = value.strip()
    cut = {"duration": 1.0, "supervisions": [{"speaker": given_value, "start": 0.0, "duration": 1.0}]}
    assert parse_where(f"speaker={value}")(cut) or not given_value
    assert not parse_where(f"id!={value}")({"id": given_value})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("duration", "'duration' is not of the form FIELD=VALUE"),
        ("length>3", "there is no field 'length'; choose from duration, start"),
        ("duration>=nan", "'nan' is not a number, which duration>= needs"),
        ("duration<inf", "'inf' is not a number"),
        ("duration=1_0", "'1_0' is not a number"),
        ("custom.snr>high", "'high' is not a number, which custom.snr> needs"),
        ("custom.snr>", "'' is not a number"),
        ("sampling_rate=", "'' is not a number"),
        ("custom.=a", "there is no field 'custom.'"),
        ("duration>long", "'long' is not a number, which duration> needs"),
        ("speaker<b", "speaker is text, which can be compared by =, != and ~ only"),
        ("id~(", r"'\(' is not a regular expression"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_where(condition)
