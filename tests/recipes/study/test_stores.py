"""Names of a study's stores."""

from __future__ import annotations

from pathlib import Path

from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.stores import Stores


def test_other_settings_of_a_text_teacher_are_another_store(tmp_path: Path) -> None:
    stores = Stores(StudyConfig(data=str(tmp_path), work=str(tmp_path / "work")), 1, lambda *_, **__: None)
    file = tmp_path / "teacher.yaml"
    names = [stores.text_name(f"text:{file}"), stores.text_name("text:faster-whisper:tiny.en")]
    for content in ("model: faster-whisper:tiny.en\n", "model: faster-whisper:tiny.en\nsuppress_numerals: true\n"):
        file.write_text(content)
        names.append(stores.text_name(f"text:{file}"))
        assert names[-1] == stores.text_name(f"text:{file}")
    assert len(set(names)) == 4
