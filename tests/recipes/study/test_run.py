from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import make_cuts
from lhotse import CutSet

from asrkd import checkpoint
from asrkd import config as configs
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.train_tokens import make_tokens
from asrkd.errors import ConfigError
from asrkd.store import Store
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.decode import decode_system, dev_decoding, rate_on_dev
from asrkd_recipes.study.jobs import _train, decode_all
from asrkd_recipes.study.report import write_report
from asrkd_recipes.study.results import read_results
from asrkd_recipes.study.run import Study
from asrkd_recipes.study.tables import results_markdown, speaker_curve, system_table, variant_costs, variant_table


def small_system(factory: str) -> dict[str, Any]:
    return {
        "model": {"factory": f"asrkd.models:{factory}", "args": {"hidden_dim": 8, "num_layers": 1}},
        "front_end": {"mean_norm": "causal"},
        "batch": {"max_frames": 600, "max_utterances": 4},
        "steps": 4,
    }


@pytest.fixture(scope="module")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for seed, (name, count) in enumerate({"labeled": 4, "transcribed": 8, "dev": 2, "test": 3}.items()):
        make_cuts(folder, name, count, seed=seed)
    make_cuts(folder, "unlabeled", 5, seed=9, text=False)
    shutil.copy(corpus / "lexicon.txt", folder)
    return folder


def study(data: Path, work: Path, **changes: Any) -> Study:
    phases = [{"steps": 3, "mixture": {"soft": 2, "labeled": 1}}]
    values = {
        "work": str(work),
        "data": str(data),
        "tests": {"test": "test"},
        "teacher": small_system("BLSTMTeacher"),
        "student": small_system("LSTMStudent"),
        "distilled": phases,
        "decoding": {"insertion_penalties": [0.0]},
    }
    return Study(configs.from_dict(StudyConfig, values | changes))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study whose students are trained."""
    work = tmp_path_factory.mktemp("trained")
    study(data, work).run(stop_stage="students")
    return work


def sources(run: Path) -> dict[str, str]:
    content = yaml.safe_load((run / "config.yaml").read_text())["sources"]
    return {name: source["store"] for name, source in content.items()}


@pytest.mark.slow
def test_generations_of_two_teachers(data: Path, tmp_path: Path) -> None:
    schedule = [{"steps": 2, "mixture": {"soft": 1, "labeled": 1}}]
    work = tmp_path / "work"
    own = study(data, work, teachers=2, generations=[schedule, schedule])
    own.run()
    # Who learned from whom, and what labeled what.
    assert sources(work / "runs/generation-2")["soft"] == str(work / "stores/soft")
    assert sources(work / "runs/generation-3")["soft"] == str(work / "stores/soft-2")
    assert sources(work / "runs/distilled")["soft"] == str(work / "stores/soft-3")
    assert "soft" not in sources(work / "runs/labeled")
    teachers = [Store.open(str(work / "stores" / name)).identity.teacher for name in ("soft", "soft-2", "soft-3")]
    assert teachers[0].startswith("ensemble:") and teachers[1:] == [
        f"checkpoint:{work / 'runs/generation-2'}",
        f"checkpoint:{work / 'runs/generation-3'}",
    ]
    results = read_results([work])
    assert list(results) == ["first", "teacher", "labeled", "distilled", "upper"]
    assert results["first"].num_parameters == 2 * results["teacher"].num_parameters
    assert [row[0] for row in system_table(results)[1]][:2] == ["teacher, first generation", "teacher"]
    assert write_report(own.config, work / "report.html").stat().st_size > 10_000
    # Everything is there: a second run changes nothing.
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()}
    study(data, work, teachers=2, generations=[schedule, schedule]).run()
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_variants_learn_from_the_same_store_in_other_ways(data: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    variants = {
        "pseudo": {"train": {"soft_loss": {"targets": "top"}}},
        "one-speaker": {"unlabeled_speakers": 1},
        "layer": {
            "targets": "posteriors",
            "layer": "forward_layers.0",
            "train": {"layer_loss": {"layer": "lstm", "loss": "cosine"}},
        },
        "others": {"without_speakers": 1},
        "tdnn": {
            "train": {"model": {"factory": "asrkd.models:TDNNStudent", "args": {"hidden_dim": 6, "dilations": [1]}}}
        },
        "on": {"init": "distilled", "train": {"schedule": [{"steps": 2, "mixture": {"labeled": 1}}]}},
        "chain": {"teachers": ["medium"]},
        "medium": {"train": {"model": {"args": {"hidden_dim": 6, "num_layers": 1}}}},
        "both": {"teachers": ["teacher-1", "distilled"]},
        "words": {"targets": "lattice"},
        "coarse": {"codec": "topk:2", "train": {"soft_loss": {"missing_mass": "ghost"}}},
        "small": {"embed": "opus:24"},
        "chain-words": {"teachers": ["medium"], "targets": "lattice"},
        "higher": {"of": "upper", "train": {"model": {"args": {"hidden_dim": 6, "num_layers": 1}}}},
        "more": {
            "untranscribed": [str(data / "test.jsonl.gz")],
            "train": {"schedule": [{"steps": 3, "mixture": {"soft": 1, "further": 1, "labeled": 1}}]},
        },
        "more-words": {
            "teachers": ["medium"],
            "targets": "lattice",
            "codec": "topk:2",
            "untranscribed": [str(data / "test.jsonl.gz")],
            "train": {
                "soft_loss": {"missing_mass": "ghost"},
                "schedule": [{"steps": 3, "mixture": {"soft": 1, "further": 1, "labeled": 1}}],
            },
        },
        "together": {"of": "labeled", "processes": 2, "train": {"batch": {"streams": 2}}},
    }
    study(data, work, variants=variants).run()
    configs_of = {
        name: yaml.safe_load((work / f"runs/{name}/config.yaml").read_text()) for name in (*variants, "distilled")
    }
    assert "soft" not in configs_of.pop("together")["sources"]
    assert configs_of.pop("higher")["sources"]["labeled"]["store"].endswith("transcribed")
    assert len(checkpoint.read(work / "runs/together/last.pt")["ranks"]) == 2
    stores = {name: content["sources"]["soft"]["store"] for name, content in configs_of.items()}
    labeled_by = {
        name: Store.open(stores.pop(name)).identity.teacher
        for name in ("chain", "both", "words", "chain-words", "more-words", "layer")
    }
    below = {
        name: yaml.safe_load(Path(labeled_by[name].removeprefix("lattice:")).read_text())
        for name in labeled_by
        if "words" in name
    }
    assert {name: one["teacher"].rsplit("/", 1)[1] for name, one in below.items()} == {
        "words": "teacher-1",
        "chain-words": "medium",
        "more-words": "medium",
    }
    assert labeled_by["chain"] == f"checkpoint:{work / 'runs/medium'}"
    members = yaml.safe_load(Path(labeled_by["both"].removeprefix("ensemble:")).read_text())["teachers"]
    assert [one["spec"].rsplit("/", 1)[1] for one in members] == ["teacher-1", "distilled"]
    coarse, usual = (Store.open(stores[name]).identity for name in ("coarse", "pseudo"))
    specs = [identity.streams["posteriors"].spec for identity in (coarse, usual)]
    assert (*specs, coarse.teacher) == ("topk:2", "hybrid:0:12", usual.teacher)
    assert stores.pop("coarse") != stores["pseudo"]
    assert Store.open(stores.pop("small")).identity.embed == "opus:24"
    assert len(set(stores.values())) == 1
    further = Store.open(configs_of["more"]["sources"]["further"]["store"])
    assert further.identity.teacher == usual.teacher and len(list(further.rows(["id"]))) == 3
    # Targets as those of the source `soft`: the same teacher, lattices and codec.
    further = Store.open(configs_of["more-words"]["sources"]["further"]["store"])
    assert further.identity.streams["posteriors"].spec == "topk:2" and len(list(further.rows(["id"]))) == 3
    own = yaml.safe_load(Path(further.identity.teacher.removeprefix("lattice:")).read_text())
    assert own == below["more-words"]
    assert configs_of["pseudo"]["soft_loss"]["targets"] == "top"
    assert len(configs_of["one-speaker"]["sources"]["soft"]["speakers"]) == 1
    assert labeled_by["layer"] == f"checkpoint:{work / 'runs/teacher-1'}"
    assert Store.open(str(work / "stores/soft-layer-forward_layers.0")).identity.layer
    others = configs_of["others"]["sources"]["soft"]["speakers"]
    assert others and not set(others) & set(configs_of["one-speaker"]["sources"]["soft"]["speakers"])
    assert configs_of["tdnn"]["model"]["args"] == {"hidden_dim": 6, "dilations": [1]}
    assert configs_of["on"]["init"] == str(work / "runs/distilled/final.pt")
    changed = {"run", "soft_loss"}
    assert {key: value for key, value in configs_of["pseudo"].items() if key not in changed} == {
        key: value for key, value in configs_of["distilled"].items() if key not in changed
    }
    columns, rows = variant_table([work]) or ([], [])
    assert columns == [
        "student",
        "runs",
        "WER dev %",
        "WER test %",
        "difference to distilled, points [95 %]",
        "relative to labeled only, % [95 %]",
        "gap recovered, %",
    ]
    first = ["student, labeled only", "student, distilled", "student, all transcripts (upper bound)"]
    assert [row[0] for row in rows] == [*first, *variants]
    assert rows[0][5] == rows[1][4] == "-" and "[" in rows[3][4] and {row[1] for row in rows} == {"1"}
    columns, costs = variant_costs([work]) or ([], [])
    sizes = {row[0]: int(row[columns.index("parameters")].replace(",", "")) for row in costs}
    assert sizes["medium"] < sizes["student, distilled"] == sizes["pseudo"]
    targets = {row[0]: row[columns.index("targets, B/frame")] for row in costs}
    assert 0 < float(targets["student, distilled"]) == float(targets["pseudo"]) != float(targets["coarse"]) > 0
    assert targets["student, labeled only"] == targets["higher"] == "-"
    assert "trained in other ways" in results_markdown("study", {"ctc": [work]})
    total = len(study(data, work)._speakers())
    assert [point[:2] for point in speaker_curve([work]) or []] == [
        ("test", 0.0),
        ("test", 1.0),
        ("test", float(total)),
    ]
    # Further variants come next to those that are there.
    study(data, work, variants={"warm": {"train": {"soft_loss": {"temperature": 2.0}}}}).run()
    assert [row[0] for row in (variant_table([work]) or ([], []))[1]][3:] == [*variants, "warm"]


@pytest.mark.slow
def test_lattices_of_generations(data: Path, tmp_path: Path) -> None:
    schedule = [{"steps": 2, "mixture": {"soft": 1, "labeled": 1}}]
    work = tmp_path / "work"
    given = {
        "targets": "lattice",
        "lattice": {"acoustic_scale": 0.5, "insertion_penalty": 1.0},
        "generations": [schedule],
    }
    study(data, work, **given, variants={"plain": {"targets": "posteriors"}}).run()
    assert sources(work / "runs/generation-2")["soft"] == str(work / "stores/soft-lattice")
    assert sources(work / "runs/distilled")["soft"] == str(work / "stores/soft-2-lattice")
    assert sources(work / "runs/plain")["soft"] == str(work / "stores/soft-2")
    file = Path(Store.open(str(work / "stores/soft-2-lattice")).identity.teacher.removeprefix("lattice:"))
    assert yaml.safe_load(file.read_text()) == {
        "teacher": f"checkpoint:{work / 'runs/generation-2'}",
        "lexicon": str(data / "lexicon.txt"),
        "exact": True,
        "acoustic_scale": 0.5,
        "insertion_penalty": 1.0,
    }
    with pytest.raises(ConfigError, match="says something else than the config now"):
        study(data, work, **given | {"lattice": {"acoustic_scale": 0.7}}).run()


def test_lattices_have_words_and_a_grammar_of_their_own(data: Path, tmp_path: Path) -> None:
    (data / "sentences.fst.txt").write_text("0 1 low\n1 1 high\n1\n")
    Lexicon.from_pairs([("low", ["l"]), ("high", ["h"])]).write(data / "words.txt")
    given = {"lexicon": str(data / "words.txt"), "grammar": str(data / "sentences.fst.txt")}
    work = tmp_path / "work"
    study(data, work, targets="lattice", lattice=given).run()
    file = Path(Store.open(str(work / "stores/soft-lattice")).identity.teacher.removeprefix("lattice:"))
    settings = yaml.safe_load(file.read_text())
    assert {key: settings[key] for key in given} == given and "insertion_penalty" in settings
    with pytest.raises(ConfigError, match=r"^lattice.insertion_penalty: is 1, but it is for the loop of words"):
        study(data, work, targets="lattice", lattice=given | {"insertion_penalty": 1.0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"upper": {}}, "^variants.upper: cannot be a folder next to those of labeled, distilled, upper"),
        ({"a/b": {}}, "^variants.a/b: cannot be a folder"),
        (
            {"few": {"of": "labeled", "unlabeled_speakers": 1}},
            "^variants.few.unlabeled_speakers: is 1, but 'labeled' has no soft targets",
        ),
        (
            {"own": {"of": "teacher", "codec": "topk:2"}},
            "^variants.own.codec: is 'topk:2', but 'teacher' has no soft targets",
        ),
        (
            {"a": {"teachers": ["b"]}, "b": {"init": "a"}},
            "variants.a waits for 'b', which is not a run of this study or waits for it in",
        ),
        ({"a": {"teachers": ["teacher-7"]}}, "variants.a waits for 'teacher-7'"),
        ({"none": {"targets": "words"}}, "^variants.none.targets: must be one of .*posteriors, lattice, not 'words'"),
        ({"none": {"codec": "top:2"}}, "^variants.none.codec: codec 'top:2' is not known; give dense, topk:K,"),
        ({"none": {"embed": "mp3"}}, "^variants.none.embed: embed is 'mp3', but must be one of none, audio, opus:KBPS"),
        (
            {"none": {"of": "lower"}},
            "^variants.none.of: must be one of labeled, distilled, upper, teacher, not 'lower'",
        ),
        ({"none": {"labeled": "nobody"}}, "^variants.none.labeled: must be a student of this study, not 'nobody'"),
        (
            {"odd": {"train": {"soft_los": {}}}},
            "^variants.odd.train.soft_los: there is no such key; did you mean 'soft_loss'",
        ),
        ({"odd": {"train": {"seed": "one"}}}, "^variants.odd.train.seed: must be a whole number, not 'one'"),
        ({"none": {"without_speakers": 99}}, "is 0 and without_speakers 99, but the untranscribed set has . speakers"),
        ({"many": {"unlabeled_speakers": 9}}, "many.unlabeled_speakers is 9 and without_speakers 0, but the"),
    ],
)
def test_variants_that_cannot_be(data: Path, trained: Path, variants: dict[str, Any], message: str) -> None:
    before = sorted(trained.rglob("*"))
    with pytest.raises(ConfigError, match=message):
        study(data, trained, variants=variants).run()
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(("teacher", "labeled"), [(0.8, 0.75), (0.75, 0.75), (0.7, 0.75)])
def test_a_teacher_that_is_not_better_on_dev_is_told_before_students_learn_from_it(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    teacher: float,
    labeled: float,
) -> None:
    for name, rate in (("teacher", teacher), ("labeled", labeled)):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "dev.json").write_text(json.dumps({"dev": rate}))
    trained: list[tuple[list[str], int]] = []
    monkeypatch.setattr(
        "asrkd_recipes.study.run.train_all", lambda jobs, *rest: trained.append((list(jobs), len(caplog.records)))
    )
    study(data, tmp_path).run("students", "students")
    warnings = [record.getMessage() for record in caplog.records]
    assert trained[:2] == [(["labeled"], 0), (["labeled", "distilled", "upper"], len(warnings))]
    assert len(warnings) == (teacher >= labeled)
    if warnings:
        assert f"has {100 * teacher:.1f} % errors on dev" in warnings[0] and "below the 75.0 %" in warnings[0]


def test_variants_are_trained_with_the_students_and_after_what_they_wait_for(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("teacher", "labeled"):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "dev.json").write_text('{"dev": 0.5}')
    trained: list[list[str]] = []
    monkeypatch.setattr("asrkd_recipes.study.run.train_all", lambda jobs, *rest: trained.append(list(jobs)))
    longer = {"train": {"schedule": [{"steps": 5, "mixture": {"labeled": 1}}]}}
    variants = {
        "later": {"init": "distilled", **longer},
        "last": {"init": "later", **longer},
        "own": {"of": "labeled", **longer},
    }
    study(data, tmp_path, variants=variants).run("students", "students")
    assert trained == [["labeled"], ["labeled", "distilled", "upper", "own"], ["later"], ["last"]]
    # With several workers those that need no teacher are trained next to it.
    trained.clear()
    two = study(data, tmp_path, variants=variants)
    two.workers = 2
    two.run("teacher", "teacher")
    two.run("students", "students")
    assert trained[:2] == [["teacher-1", "labeled", "upper", "own"], ["labeled", "upper", "own"]]


def test_the_rate_on_dev_is_measured_once(data: Path, trained: Path) -> None:
    for name, run in (("teacher", "teacher-1"), ("labeled", "labeled")):
        file, spec = trained / "results" / name / "dev.json", f"checkpoint:{trained / 'runs' / run}"
        assert json.loads(file.read_text())["dev"] == dev_decoding(study(data, trained).config, spec).rate
    file.write_text('{"dev": 0.125}')
    assert rate_on_dev(study(data, trained).config, spec, file.parent) == 0.125


def test_settings_of_a_test_are_chosen_on_the_set_that_is_named_for_it(data: Path, trained: Path) -> None:
    """And on dev where none is; a test is not chosen on."""
    decoding = {"insertion_penalties": [-40.0, 0.0, 40.0], "dev": {"other": "labeled"}}
    own = study(data, trained, tests={"test": "test", "other": "test"}, decoding=decoding)
    out = trained / "chosen"
    decode_system(own.config, f"checkpoint:{own.run_folder('labeled')}", [own.run_folder("labeled")], out)
    settings = json.loads((out / "result.json").read_text())["settings"]
    best = {}
    for name, cuts in {"test": "dev", "other": "labeled"}.items():
        shutil.copytree(data, out / name)
        shutil.copy(data / f"{cuts}.jsonl.gz", out / name / "dev.jsonl.gz")
        best[name] = dev_decoding(
            study(out / name, trained, decoding={"insertion_penalties": [-40.0, 0.0, 40.0]}).config,
            f"checkpoint:{own.run_folder('labeled')}",
        ).settings
    assert {name: settings[name] == vars(one) for name, one in best.items()} == {"test": True, "other": True}
    for name, cuts in (("test", "test"), ("absent", "dev")):
        with pytest.raises(ConfigError, match=f"^decoding.dev.{name}: is '{cuts}', but must name a set that is no"):
            study(data, trained, decoding={"dev": {name: cuts}})


@pytest.mark.slow
def test_systems_that_are_decoded_at_a_time_have_the_results_of_one_after_another(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    own = study(data, trained)
    names = ("labeled", "distilled", "upper")
    shown: list[tuple[int, int, str]] = []
    for workers in (1, 2):
        systems = {}
        for name in names:
            run = own.run_folder(name)
            systems[name] = (f"checkpoint:{run}", [run], tmp_path / str(workers) / name)
        decode_all(own.config, systems, workers, lambda _, done, total, note="": shown.append((done, total, note)))
        assert shown[-1] == (3, 3, "")
        # What is there is not decoded again.
        (tmp_path / str(workers) / "upper/result.json").write_text("{}")
        decode_all(own.config, systems, workers, lambda *_: None)
        assert (tmp_path / str(workers) / "upper/result.json").read_text() == "{}"
    assert shown[0] == (0, 3, "labeled")
    files = sorted(file.relative_to(tmp_path / "1") for file in (tmp_path / "1").rglob("*.*"))
    assert len(files) > 2 * len(names)
    for file in files:
        one, other = ((tmp_path / workers / file).read_text() for workers in "12")
        if file.name == "result.json" and one != "{}":
            one, other = ({**json.loads(text), "real_time_factor": 0} for text in (one, other))
        assert one == other, file


def test_an_unknown_stage_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage 'lable' does not exist; the stages are pack, align, teacher"):
        study(data, tmp_path).run("lable")


def test_a_queued_training_does_not_outlive_its_parent(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the process that started this training is gone"):
        _train("run: nowhere", parent=-1)


@pytest.mark.slow
def test_a_study_of_characters(data: Path, tmp_path: Path) -> None:
    make_tokens([str(data / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters", rules=TextRules(case="upper"))
    own = study(
        data, tmp_path / "work", topology="ctc", lexicon=f"lang:{tmp_path / 'tokens'}", text={"case": "upper"},
        decoding={"insertion_penalties": [0.0, 2.0]},
    )  # fmt: skip
    own.run()
    results = read_results([tmp_path / "work"])
    assert results
    # No costs are tried where the best class of each frame is taken.
    result = json.loads(next((tmp_path / "work").rglob("result.json")).read_text())
    assert result["insertion_penalty"] == 0.0
    said = next((tmp_path / "work").rglob("hyp-test.txt")).read_text()
    assert Store.open(str(tmp_path / "work/stores/soft")).identity.inventory.units[:2] == ("<blk>", "▁")  # type: ignore[union-attr]
    words = " ".join(line.partition(" ")[2] for line in said.splitlines())
    assert words == words.upper()


@pytest.mark.slow
def test_a_shared_teacher_and_several_ways_of_decoding(data: Path, tmp_path: Path) -> None:
    make_tokens([str(data / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters")
    own = []
    for seed in (1, 2):
        changes: dict[str, Any] = {
            "topology": "ctc",
            "lexicon": f"lang:{tmp_path / 'tokens'}",
            "seed": seed,
            "stores": str(tmp_path / "exp/ctc/stores"),
            "shared_teacher": True,
            # The teacher's frames are of 10 ms, the students' of 30.
            "teacher": small_system("BLSTMTeacher") | {"front_end": {"mean_norm": "causal", "stack": 1, "stride": 1}},
            "frame_rate_map": "peak",
            "decoding": {
                "dev": {"test": "labeled"},
                "searches": {
                    "greedy characters": {"decoder": "greedy", "errors": "characters", "blank_penalties": [0.0, 2.0]},
                    "loop": {"decoder": "graph", "acoustic_scales": [0.5, 1.0]},
                },
            },
        }
        own.append(study(data, tmp_path / f"exp/ctc/seed-{seed}", **changes))
        own[-1].run()
    shifts = {
        name: Store.open(str(own[0].stores.root(name))).identity.frame_law.frame_shift
        for name in ("labeled", "dev", "transcribed", "dev-student")
    }
    assert shifts == {"labeled": 160, "dev": 160, "transcribed": 480, "dev-student": 480}
    assert sources(own[0].work / "runs/labeled")["labeled"].endswith("labeled-student")
    # Trained and labeled once.
    assert own[0].soft_store == own[1].soft_store == tmp_path / "exp/ctc/shared/stores/soft"
    assert own[0].teacher_spec == own[1].teacher_spec == f"checkpoint:{tmp_path / 'exp/ctc/shared/runs/teacher-1'}"
    assert not (tmp_path / "exp/ctc/seed-2/runs/teacher-1").exists()
    works = [one.work for one in own]
    teachers = [json.loads((work / "results/teacher/result.json").read_text()) for work in works]
    assert teachers[0]["tests"] == teachers[1]["tests"]
    assert list(teachers[0]["tests"]) == ["test, greedy characters", "test, loop"]
    assert teachers[0]["settings"]["test, loop"].keys() >= {"acoustic_scale", "blank_penalty"}
    # As many characters as the references have, blanks between words included.
    texts = [str(cut.supervisions[0].text) for cut in CutSet.from_file(data / "test.jsonl.gz")]
    counted = {name: sum(errors[3] for errors in found.values()) for name, found in teachers[0]["tests"].items()}
    assert counted == {
        "test, greedy characters": sum(len(text) for text in texts),
        "test, loop": sum(len(text.split()) for text in texts),
    }
    page = results_markdown("letters", {"ctc": works})
    assert page.count("### greedy characters") == page.count("### loop") == 1
    assert write_report(own[0].config, tmp_path / "report.html", works=works).exists()


WRITES = """
from asrkd.text_teachers import TextTeacher, Transcription, WrittenText

def teacher():
    return TextTeacher(lambda samples: [Transcription([WrittenText({text!r})]) for _ in samples], "f" * 32)
"""


@pytest.mark.slow
def test_another_teacher_goes_on_with_the_text_of_a_text_teacher(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tokens([str(data / "labeled.jsonl.gz")], str(tmp_path / "tokens"), "characters")
    word = next(str(cut.supervisions[0].text) for cut in CutSet.from_file(data / "labeled.jsonl.gz")).split()[0]
    (tmp_path / "one_word_of_a_study.py").write_text(WRITES.format(text=word))
    monkeypatch.syspath_prepend(str(tmp_path))
    # The teacher's frames are of 10 ms, the students' and the text's of 30.
    teacher = small_system("BLSTMTeacher") | {"front_end": {"mean_norm": "causal", "stack": 1, "stride": 1}}
    variants = {
        "of-it": {"teachers": ["better"]},
        "better": {
            "of": "teacher",
            "init": "teacher-1",
            "text_teacher": "text:python:one_word_of_a_study:teacher",
            "train": {"schedule": [{"steps": 2, "mixture": {"labeled": 1, "text": 1}}]},
        },
    }
    work = tmp_path / "work"
    study(
        data,
        work,
        topology="ctc",
        lexicon=f"lang:{tmp_path / 'tokens'}",
        teacher=teacher,
        frame_rate_map="peak",
        variants=variants,
    ).run()
    configs_of = {
        name: yaml.safe_load((work / f"runs/{name}/config.yaml").read_text())
        for name in ("teacher-1", "better", "of-it", "distilled")
    }
    changed = {"run", "init", "sources", "schedule"}
    first, better = (configs_of[name] for name in ("teacher-1", "better"))
    assert better["init"] == str(work / "runs/teacher-1/final.pt") and better["dev"] == first["dev"]
    assert {key: better[key] for key in better if key not in changed} == {
        key: first[key] for key in first if key not in changed
    }
    assert better["sources"]["labeled"] == first["sources"]["labeled"]
    texts = Store.open(better["sources"]["text"]["store"])
    assert {row["text"] for row in texts.rows(["text"])} == {word}
    assert texts.identity.frame_law.frame_shift == 480
    students = {
        name: Store.open(configs_of[name]["sources"]["soft"]["store"]).identity for name in ("of-it", "distilled")
    }
    assert students["of-it"].teacher == f"checkpoint:{work / 'runs/better'}"
    assert students["of-it"].frame_law == students["distilled"].frame_law
    columns, rows = variant_table([work]) or ([], [])
    assert [row[0] for row in rows][-2:] == ["of-it", "better"]


@pytest.mark.slow
def test_a_study_whose_untranscribed_set_has_no_transcripts(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data/transcribed.jsonl.gz").unlink()
    with pytest.raises(ConfigError, match="^variants.more.of: is 'upper', but this study has no upper bound"):
        study(tmp_path / "data", tmp_path / "work", upper=False, variants={"more": {"of": "upper"}})
    own = study(tmp_path / "data", tmp_path / "work", upper=False, variants={"warm": {}})
    own.run()
    assert sorted(run.name for run in (own.work / "runs").iterdir()) == ["distilled", "labeled", "teacher-1", "warm"]
    page = results_markdown("study", {"hmm": [own.work]})
    assert "student, distilled" in page and "all transcripts" not in page
    assert write_report(own.config, tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_teacher_that_is_there(trained: Path, data: Path, tmp_path: Path) -> None:
    """It is taken as it is, or is where the training of another begins."""
    run = trained / "runs/teacher-1"
    there = small_system("BLSTMTeacher") | {"init": str(run), "steps": 0}
    taken = study(data, tmp_path / "taken", teacher=there)
    taken.run(stop_stage="label")
    with pytest.raises(ConfigError, match=r"^variants.on.train.schedule: is missing, and teacher.steps is 0"):
        study(data, tmp_path / "taken", teacher=there, variants={"on": {"of": "teacher"}})
    on = {"of": "teacher", "init": "teacher-1", "train": {"schedule": [{"steps": 2, "mixture": {"labeled": 1}}]}}
    trained_on = study(data, tmp_path / "taken", teacher=there, variants={"on": on})._variant_config("on")
    assert (trained_on.init, trained_on.schedule[0].steps) == (str(run / "final.pt"), 2)
    assert taken.teacher_spec == f"checkpoint:{run}" and not (tmp_path / "taken/runs").exists()
    assert taken.soft_store.exists()
    for name in (run, run / "final.pt"):
        work = tmp_path / f"begun-{name.name}"
        begun = study(data, work, teacher=small_system("BLSTMTeacher") | {"init": str(name)})
        begun.run(stop_stage="teacher")
        config = yaml.safe_load((work / "runs/teacher-1/config.yaml").read_text())
        assert config["init"] == str(run / "final.pt")
    with pytest.raises(ConfigError, match="teacher.steps: is 0, which is for one teacher that is there"):
        study(data, tmp_path / "none", teacher=small_system("BLSTMTeacher") | {"steps": 0})
    with pytest.raises(ConfigError, match="student.steps: is 0"):
        study(data, tmp_path / "none", student=small_system("LSTMStudent") | {"steps": 0})
