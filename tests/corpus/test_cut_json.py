"""What a manifest may wrongly hold, and what asrkd does not do for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, Recording

from asrkd.corpus.cut_json import checked, custom_json, duration_of, to_cut
from asrkd.corpus.cuts import iterate_json, open_cuts
from asrkd.corpus.where import field_of
from asrkd.errors import CorpusError


@pytest.fixture
def cut(tmp_path: Path) -> dict[str, Any]:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    return Recording.from_file(tmp_path / "a.wav").to_cut().to_dict()


@pytest.mark.parametrize("duration", [None, "1", True, 0, -1.0, float("nan"), float("inf")])
def test_a_cut_without_a_duration_is_named(cut: dict[str, Any], duration: Any) -> None:
    found = checked(cut | {"duration": duration}, "'c'")
    assert found["id"] == "a" and "cut 'a' has the duration" in found["unreadable"]
    mixed = to_cut(cut).pad(2.0).to_dict()
    mixed["tracks"][0]["cut"]["duration"] = duration
    assert "has a track 1 that has the duration" in checked(mixed, "'c'")["unreadable"]


@pytest.mark.parametrize("start", [None, "0", -0.5, float("nan"), float("-inf")])
def test_a_cut_that_starts_nowhere_is_named(cut: dict[str, Any], start: Any) -> None:
    assert re.search("cut 'a' (has the start|starts at)", checked(cut | {"start": start}, "'c'")["unreadable"])


@pytest.mark.parametrize(
    "change", [{"type": "TextExample"}, {"type": "MixedCut"}, {"type": "MixedCut", "tracks": [{}]}]
)
def test_an_unknown_cut_is_named(cut: dict[str, Any], change: dict[str, Any]) -> None:
    assert "cut 'a' " in checked(cut | change, "'c'")["unreadable"]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"type": "MonoCut", "id": 12, "duration": 1.0, "start": 0}, "whose id is 12"),
        ({"type": "MonoCut", "id": None, "duration": 1.0, "start": 0}, "whose id is None"),
        ({"type": "MonoCut", "id": "", "duration": 1.0, "start": 0}, "whose id is ''"),
        (
            {"id": "r", "sources": [], "sampling_rate": 16000},
            "recordings, not a cut; make cuts of them: lhotse cut simple",
        ),
        ({"id": "s", "recording_id": "r", "start": 0}, "supervisions, not a cut"),
        ({"recording_id": "r", "num_features": 80}, "features, not a cut"),
        ({"a": 1}, "not a cut of lhotse"),
        ([1], "not a cut of lhotse"),
        ("x", "not a cut of lhotse"),
        (None, "not a cut of lhotse"),
    ],
)
def test_what_is_not_a_cut_is_an_error(item: Any, why: str) -> None:
    with pytest.raises(CorpusError, match="^'c' holds") as raised:
        checked(item, "'c'")
    assert why in str(raised.value)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ({"type": "command", "source": "touch RAN"}, "asrkd runs no command"),
        ({"type": "url", "source": "pipe:touch RAN"}, "not a URL"),
        ({"type": "url", "source": "-"}, "not a URL"),
        ({"type": "file", "source": "a;touch RAN;.sph"}, "to a shell"),
        ({"type": "memory", "source": "AAAA"}, "was in memory"),
        ({"type": "shar", "source": ""}, "placeholder without audio"),
        ({"type": "shar", "source": {"tar": "none.tar", "member": "m", "offset": 512, "size": 1}}, "none.tar"),
        ({"type": "tape", "source": "x"}, "kind 'tape'"),
    ],
)
def test_sources_that_are_not_opened(
    cut: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    recording = cut["recording"] | {"sources": [source | {"channels": [0]}]}
    whole = cut | {"recording": recording}
    reverb = {"name": "ReverbWithImpulseResponse", "kwargs": {"rir": recording, "rir_channels": [0]}}
    for one in (whole, cut | {"recording": cut["recording"] | {"transforms": [reverb]}}):
        with pytest.raises(CorpusError, match="^cut 'a': ") as raised:
            to_cut(one)
        assert why in str(raised.value)
    assert not (tmp_path / "RAN").exists()


def test_reverberation_that_is_random_is_refused(cut: dict[str, Any]) -> None:
    whole = to_cut(cut)
    for one in (whole.reverb_rir(), whole.append(whole.with_id("b")).reverb_rir()):
        with pytest.raises(CorpusError, match="new impulse response each time"):
            to_cut(json.loads(json.dumps(one.to_dict())))
    recorded = whole.reverb_rir(whole.recording)
    assert to_cut(json.loads(json.dumps(recorded.to_dict()))).load_audio().shape == (1, 16000)


def test_channels_and_rates_of_the_recording(cut: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match="wants channel 3, but its recording has 0"):
        to_cut(cut | {"channel": 3})
    with pytest.raises(CorpusError, match="sampling rate 0"):
        to_cut(cut | {"recording": cut["recording"] | {"sampling_rate": 0}})
    with pytest.raises(CorpusError, match="not a cut of lhotse"):
        to_cut(cut | {"nonsense": 1})


def test_custom_fields_are_json_whatever_they_hold(cut: dict[str, Any]) -> None:
    custom = {"z": {"shape": [1], "storage_type": "x"}, "a": [1, {"é": "\u2028"}], "r": cut["recording"]}
    assert json.loads(custom_json(cut | {"custom": custom}) or "") == custom
    assert custom_json(cut) is None
    assert custom_json(cut | {"custom": {"x": [float("nan"), 1.0]}}) == '{"x": [null, 1.0]}'
    mixed = to_cut(cut | {"custom": {"a": 1}}).append(to_cut(cut | {"custom": {"a": 2, "b": 3}}))
    assert json.loads(custom_json(mixed.to_dict()) or "") == mixed.custom == {"a": 2, "b": 3}


def test_fields_of_a_mixed_cut_are_those_of_lhotse(cut: dict[str, Any]) -> None:
    mixed = to_cut(cut | {"custom": {"a": 1}}).pad(1.5, direction="left")
    form = mixed.to_dict()
    assert duration_of(form) == mixed.duration == 1.5
    assert field_of(form, "sampling_rate") == mixed.sampling_rate and field_of(form, "start") == mixed.start == 0
    assert field_of(form, "recording_id") == mixed.first_non_padding_cut.recording_id
    assert field_of(form, "custom.a") == mixed.a


def test_manifests_of_other_forms_are_refused_by_the_way_to_convert_them(cut: dict[str, Any], tmp_path: Path) -> None:
    for name in ("cuts.json", "cuts.yaml"):
        CutSet.from_cuts([to_cut(cut)]).to_file(tmp_path / name)
        with pytest.raises(CorpusError, match=f"lhotse copy {name} cuts.jsonl.gz"):
            open_cuts(tmp_path / name)
        with pytest.raises(CorpusError, match="lhotse copy"):
            next(iterate_json(tmp_path / name))
