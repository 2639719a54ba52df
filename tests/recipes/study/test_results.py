from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asrkd.cli.recipe import recipe_command
from asrkd.errors import ConfigError
from asrkd_recipes.study.results import SYSTEMS, UPPER, read_results, record, write_variants
from asrkd_recipes.study.tables import (
    comparison_table,
    results_markdown,
    seed_table,
    speaker_curve,
    system_table,
    variant_table,
)

# Errors in 100 words: teacher, labeled, distilled, upper.
FOLDS = {"anna": (20, 40, 30, 20), "ben": (10, 20, 12, 10)}


def write_results(work: Path, speaker: str, errors: tuple[int, ...]) -> None:
    for system, wrong in zip((*SYSTEMS, UPPER), errors, strict=True):
        folder = work / "results" / system
        folder.mkdir(parents=True)
        content = {
            "tests": {"clean": {speaker: [wrong, 0, 0, 100]}},
            "num_parameters": 1000,
            "real_time_factor": 0.02 if system == "teacher" else 0.01,
            "insertion_penalty": 0.0,
            "dev": 0.2 if speaker == "anna" else 0.1,
        }
        if speaker == "anna" or system != "teacher":
            content |= {"int8_bytes": 1_200_000, "train_seconds": 90.0 if speaker == "anna" else 30.0}
        (folder / "result.json").write_text(json.dumps(content))


@pytest.fixture
def folds(tmp_path: Path) -> list[Path]:
    for speaker, errors in FOLDS.items():
        write_results(tmp_path / speaker / "ctc" / "seed-1", speaker, errors)
    return [tmp_path / speaker / "ctc" / "seed-1" for speaker in FOLDS]


def test_runs_with_other_speakers_are_pooled(folds: list[Path]) -> None:
    results = read_results(folds)
    rates = {row[0]: row[1].split()[0] for row in system_table(results)[1]}
    assert list(rates.values()) == ["15.0", "30.0", "21.0", "15.0"]
    columns, rows = system_table(results)
    measured = [[row[columns.index(name)] for name in ("int8 MB", "training, min")] for row in rows]
    # Of the teacher the second run has no time, as results of earlier versions.
    assert measured == [["1.2", "0.8"], ["1.2", "1.0"], ["1.2", "1.0"], ["1.2", "1.0"]]
    # (60 - 42) of 60 words wrong less: 30 %; the gap is 30 - 15 points, 9 of them recovered.
    ((_, difference, relative, recovered),) = comparison_table(results)[1]
    assert difference.split()[0] == "-9.0" and relative.split()[0] == "-30.0" and recovered == "60"
    # The bootstrap draws anna twice, ben twice, or both: -10, -8 or -9 points.
    assert difference == "-9.0 [-10.0, -8.0]"
    assert [row[1:] for row in seed_table(results)[1]] == [
        ["1", "20.0", "40.0", "30.0", "20.0"],
        ["2", "10.0", "20.0", "12.0", "10.0"],
    ]


def test_a_run_that_is_not_decoded_is_refused(folds: list[Path]) -> None:
    (folds[1] / "results/distilled/result.json").unlink()
    with pytest.raises(
        ConfigError, match=r"distilled/result.json' does not exist; run the study to its stage 'decode'"
    ):
        read_results(folds)


def test_without_a_student_of_all_transcripts(folds: list[Path]) -> None:
    for fold in folds:
        write_variants(fold, {"warm": 0}, 5, {"warm": ("labeled", UPPER)})
        shutil.copytree(fold / "results/distilled", fold / "results/warm")
    shutil.rmtree(folds[1] / "results" / UPPER)
    results = read_results(folds)
    assert list(results) == list(SYSTEMS)
    ((_, difference, _, recovered),) = comparison_table(results)[1]
    assert difference.split()[0] == "-9.0" and recovered == "-"
    columns, rows = variant_table(folds) or ([], [])
    assert [row[:2] for row in rows] == [
        ["student, labeled only", "2"],
        ["student, distilled", "2"],
        ["student, all transcripts (upper bound)", "1"],
        ["warm", "2"],
    ]
    assert [row[-1] for row in rows] == ["-", "-", "-", "-"]
    assert "for 1 of the runs alone" in results_markdown("study", {"ctc": folds})
    assert "upper bound)" not in results_markdown("study", {"ctc": folds[1:]})


def recipe(here: Path) -> click.Command:
    return recipe_command(here, dict.fromkeys(FOLDS, lambda *_: None), ("ctc",), fold_option="--test-speaker")


def test_the_results_of_all_folds_are_one_file(folds: list[Path], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "tried.md").write_text("## What was tried\n")
    arguments = ["--exp", str(tmp_path), "--stage", "results", "--stop-stage", "results"]
    assert CliRunner().invoke(recipe(tmp_path / "here"), arguments).exit_code == 0
    text = (tmp_path / "here" / "RESULTS.md").read_text()
    assert text.startswith(results_markdown("here", {"ctc": folds}))
    assert text.endswith("## What was tried\n")


def test_no_results_leave_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("of before")
    arguments = ["--exp", str(tmp_path / "exp"), "--stage", "results", "--stop-stage", "results"]
    result = CliRunner().invoke(recipe(tmp_path), arguments)
    assert isinstance(result.exception, ConfigError) and "no run in" in str(result.exception)
    assert (tmp_path / "RESULTS.md").read_text() == "of before"


def add_variant(work: Path, name: str, wrong: int, speakers: int = 0) -> None:
    content = json.loads((work / "results/distilled/result.json").read_text())
    content["tests"]["clean"] = {speaker: [wrong, 0, 0, 100] for speaker in content["tests"]["clean"]}
    folder = work / "results" / name
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(content))
    write_variants(work, {name: speakers}, 14)


def test_a_variant_is_compared_with_the_runs_that_have_it(folds: list[Path]) -> None:
    add_variant(folds[0], "warm", 25)
    add_variant(folds[0], "few", 35, speakers=3)
    add_variant(folds[1], "warm", 11)
    add_variant(folds[1], "odd", 9)
    for work, wrong in zip(folds, (30, 14), strict=True):
        add_variant(work, "plain", wrong)
        write_variants(work, {"warm": 0}, 14, {"warm": ("plain", "upper")})
    _, rows = variant_table(folds) or ([], [])
    found = {row[0]: (row[1], row[2], row[3], row[4].split()[0]) for row in rows}
    assert found["warm"] == ("2", "15.0 (10.0 to 20.0)", "18.0", "-3.0")
    assert found["few"] == ("1", "20.0", "35.0", "+5.0") and found["odd"] == ("1", "10.0", "9.0", "-3.0")
    # 44 words wrong become 36; from 44 to the upper bound's 30 are 14.
    ((relative, recovered),) = [(row[5], row[6]) for row in rows if row[0] == "warm"]
    assert relative.split()[0] == "-18.2" and recovered == "57"
    assert [point[1:3] for point in speaker_curve(folds) or []] == [(0.0, 0.4), (3.0, 0.35), (14.0, 0.3)]


def test_tables_say_whether_words_or_characters_are_wrong(folds: list[Path]) -> None:
    """Of two ways of decoding each has its own errors, name of the rate and curve; they share nothing."""
    wrong = {
        "letters": {"labeled": 40, "few": 30, "distilled": 20},
        "words": {"labeled": 90, "few": 80, "distilled": 70},
    }
    add_variant(folds[0], "few", 0, speakers=3)
    for file in folds[0].glob("results/*/result.json"):
        content = json.loads(file.read_text())
        content["searches"] = {"letters": {"dev": 0.1, "errors": "characters"}, "words": {"dev": 0.2}}
        content["tests"] = {
            f"clean, {search}": {"anna": [of.get(file.parent.name, 10), 0, 0, 100]} for search, of in wrong.items()
        }
        file.write_text(json.dumps(content))
    for search, measure in (("letters", "CER"), ("words", "WER")):
        columns, rows = variant_table(folds[:1], search) or ([], [])
        assert columns[2:4] == [f"{measure} dev %", f"{measure} clean %"]
        of = wrong[search]
        assert {row[0]: row[3] for row in rows}["few"] == f"{of['few']:.1f}"
        rates = [point[2] for point in speaker_curve(folds[:1], search) or []]
        assert rates == [of[name] / 100 for name in ("labeled", "few", "distilled")]
    text = results_markdown("study", {"ctc": folds[:1]})
    letters, words = text.split("### words")
    assert "| CER clean % [95 %] |" in letters and "WER clean" not in letters
    assert (
        "| WER clean % [95 %] |" in words
        and "CER clean" not in words
        and "CER of the speakers, clean (letters)" in words
    )
    assert "![Character error rate over untranscribed speakers]" in words


def test_recorded_results_give_the_same_tables(folds: list[Path], tmp_path: Path) -> None:
    add_variant(folds[0], "warm", 25)
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for work, file in zip(folds, files, strict=True):
        record(work, file)
    assert results_markdown("here", {"ctc": files}) == results_markdown("here", {"ctc": folds})
    with pytest.raises(ConfigError, match="teacher/result.json' does not exist"):
        read_results([tmp_path / "none.json"])
    # What the folder has no longer is kept while the rest is the same; other runs replace it.
    shutil.rmtree(folds[0] / "results/warm")
    record(folds[0], files[0])
    assert "warm/result.json" in json.loads(files[0].read_text())
    # A new folder of the same run has other variants; the file has both.
    shutil.copytree(folds[0], tmp_path / "again")
    (tmp_path / "again/results/variants.json").unlink()
    add_variant(tmp_path / "again", "cold", 45)
    record(tmp_path / "again", files[0])
    # In the order in which they came.
    assert list(json.loads(files[0].read_text())["variants.json"]["speakers"]) == ["warm", "cold"]
    write = json.loads((folds[0] / "results/labeled/result.json").read_text())
    write["tests"]["clean"]["anna"] = [39, 0, 0, 100]
    (folds[0] / "results/labeled/result.json").write_text(json.dumps(write))
    record(folds[0], files[0])
    assert "warm/result.json" not in json.loads(files[0].read_text())


def test_a_recipe_without_its_runs_makes_its_tables_from_what_it_recorded(folds: list[Path], tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    add_variant(folds[0], "few", 35, speakers=3)
    arguments = ["--exp", str(tmp_path), "--stage", "results", "--stop-stage", "results"]
    assert CliRunner().invoke(recipe(here), arguments).exit_code == 0
    assert (
        "(speakers-ctc.png)" in (here / "RESULTS.md").read_text() and (here / "speakers-ctc.png").stat().st_size > 5000
    )
    before = (here / "RESULTS.md").read_text()
    (here / "RESULTS.md").unlink()
    assert CliRunner().invoke(recipe(here), [*arguments, "--exp", str(tmp_path / "none")]).exit_code == 0
    assert (here / "RESULTS.md").read_text() == before
