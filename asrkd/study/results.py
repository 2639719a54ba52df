"""Results of a study over one or more seeds: rates, intervals, comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkd.errors import ConfigError
from asrkd.evaluation.wer import Errors, bootstrap, bootstrap_difference
from asrkd.report.tables import markdown_table
from asrkd.store.files import write_atomic
from asrkd.store.inspect import statistics

CODECS = "codecs.json"
SEQUENCE = "sequence.json"
VARIANTS = "variants.json"
SYSTEMS = ("teacher", "labeled", "distilled", "upper")
NAMES = {
    "first": "teacher, first generation",
    "teacher": "teacher",
    "labeled": "student, labeled only",
    "distilled": "student, distilled",
    "upper": "student, all transcripts (upper bound)",
}
BySpeaker = Mapping[str, Sequence[Errors]]


@dataclass(frozen=True)
class SystemResult:
    """One system over all seeds.

    Attributes:
        runs: by test set, for each seed (or fold) the errors of each of its speakers.
        num_parameters, real_time_factor, int8_bytes: of the first seed.
        penalties: insertion penalty chosen on dev, by seed.
        train_seconds: the mean over seeds of what training took, on the machine that it ran on; of all teachers of an ensemble.
    """

    runs: Mapping[str, Sequence[Mapping[str, Errors]]]
    num_parameters: int
    real_time_factor: float
    penalties: Sequence[float]
    int8_bytes: int
    train_seconds: float

    @property
    def tests(self) -> dict[str, BySpeaker]:
        """By test set, by speaker, the errors of every seed that has the speaker."""
        pooled: dict[str, dict[str, list[Errors]]] = {}
        for test, runs in self.runs.items():
            for run in runs:
                for speaker, errors in run.items():
                    pooled.setdefault(test, {}).setdefault(speaker, []).append(errors)
        return {test: dict(counts) for test, counts in pooled.items()}


def read_results(works: Sequence[Path]) -> dict[str, SystemResult]:
    """Results of the systems that every work folder (one a seed) has decoded; `first` where teachers have generations.

    Raises:
        ConfigError: no folder, or one without results.
    """
    if not works:
        raise ConfigError("no work folder is given, so there are no results to read")
    results = {}
    generations = all((work / "results" / "first" / "result.json").exists() for work in works)
    for system in ("first", *SYSTEMS) if generations else SYSTEMS:
        results[system] = _read(works, system)
    return results


def _read(works: Sequence[Path], system: str) -> SystemResult:
    files = [work / "results" / system / "result.json" for work in works]
    missing = [str(file) for file in files if not file.exists()]
    if missing:
        raise ConfigError(f"{missing[0]!r} does not exist; run the study to its stage 'decode' first")
    loaded = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    runs = {
        test: [{speaker: Errors(*counts) for speaker, counts in one["tests"][test].items()} for one in loaded]
        for test in loaded[0]["tests"]
    }
    return SystemResult(
        runs,
        loaded[0]["num_parameters"],
        loaded[0]["real_time_factor"],
        [one["insertion_penalty"] for one in loaded],
        # Results of earlier versions have neither.
        loaded[0].get("int8_bytes", 0),
        sum(one.get("train_seconds", 0.0) for one in loaded) / len(loaded),
    )


def write_codecs(work: Path, codecs: Mapping[str, tuple[str, Path]]) -> None:
    """Note, for each codec, the student that learned from it (name of its results) and the bytes of its store's targets."""
    content = {}
    for codec, (student, store) in codecs.items():
        sizes = statistics(str(store))["bytes_per_frame"]
        targets = sum(size for name, size in sizes.items() if name.startswith("target_"))
        content[codec] = {"student": student, "target_bytes_per_frame": targets}
    write_atomic(str(work / "results"), CODECS, json.dumps(content, indent=1).encode())


def codec_table(works: Sequence[Path]) -> tuple[list[str], list[list[str]]] | None:
    """Students of the same teachers by codec: bytes, WER, and the paired difference to `dense` (or the first codec).

    None where a run has not been decoded with several codecs.
    """
    notes = _notes(works, CODECS)
    if notes is None:
        return None
    codecs = [codec for codec in notes[0] if all(codec in note for note in notes)]
    results = {codec: _read(works, notes[0][codec]["student"]) for codec in codecs}
    reference = "dense" if "dense" in codecs else codecs[0]
    tests = list(results[reference].tests)
    columns = ["codec", "targets, B/frame"]
    columns += [column for test in tests for column in (f"WER {test} %", f"difference to {reference}, points [95 %]")]
    rows = []
    for codec, result in results.items():
        size = sum(note[codec]["target_bytes_per_frame"] for note in notes) / len(notes)
        cells = [codec, f"{size:.1f}"]
        rows.append(cells + _compared(result, [results[reference]]))
    return columns, rows


def write_variants(work: Path, speakers: Mapping[str, int], total: int) -> None:
    """Note the variants that were decoded, beside those of earlier runs.

    Args:
        speakers: of each variant, how many untranscribed speakers it was given; 0 where that is not what it varies.
        total: untranscribed speakers that there are.
    """
    file = work / "results" / VARIANTS
    before = json.loads(file.read_text(encoding="utf-8"))["speakers"] if file.exists() else {}
    content = {"total": total, "speakers": before | dict(speakers)}
    write_atomic(str(work / "results"), VARIANTS, json.dumps(content, indent=1).encode())


def with_variants(works: Sequence[Path]) -> list[Path]:
    """The runs that were decoded with variants."""
    return [work for work in works if (work / "results" / VARIANTS).exists()]


def variant_table(works: Sequence[Path]) -> tuple[list[str], list[list[str]]] | None:
    """Students of the same data that were trained in other ways: WER, and the paired differences to the distilled one and to labeled only.

    None where a run has not been decoded with variants.
    """
    notes = _notes(works, VARIANTS)
    if notes is None:
        return None
    names = [name for name in notes[0]["speakers"] if all(name in note["speakers"] for note in notes)]
    labeled, distilled = _read(works, "labeled"), _read(works, "distilled")
    columns = ["student"]
    for test in distilled.tests:
        columns += [f"WER {test} %", "difference to distilled, points [95 %]", "to labeled only"]
    systems = {NAMES["labeled"]: labeled, NAMES["distilled"]: distilled} | {name: _read(works, name) for name in names}
    return columns, [[name, *_compared(result, [distilled, labeled])] for name, result in systems.items()]


def speaker_curve(works: Sequence[Path]) -> list[tuple[str, float, float, float, float]] | None:
    """(test set, untranscribed speakers, WER, ends of its interval): the labeled-only student at 0, the distilled one at all of them.

    None where a run has no variants with fewer speakers.
    """
    notes = _notes(works, VARIANTS)
    if notes is None:
        return None
    counts = {name: count for name, count in notes[0]["speakers"].items() if count}
    if not counts or any(note["speakers"].get(name) != count for note in notes for name, count in counts.items()):
        return None
    systems = {"labeled": 0, **counts, "distilled": notes[0]["total"]}
    points = []
    for name, count in systems.items():
        for test, errors in _read(works, name).tests.items():
            points.append((test, float(count), rate(errors), *bootstrap(errors)))
    return points


def _notes(works: Sequence[Path], name: str) -> list[Any] | None:
    """The content of a file of results in every work folder; None where one lacks it."""
    files = [work / "results" / name for work in works]
    if not all(file.exists() for file in files):
        return None
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _compared(result: SystemResult, references: Sequence[SystemResult]) -> list[str]:
    """Cells for each test set: WER, and the paired difference to each reference."""
    cells = []
    for test, counts in result.tests.items():
        cells.append(percent(rate(counts)))
        for reference in references:
            difference, _ = bootstrap_difference(counts, reference.tests[test])
            cells.append("-" if result is reference else _interval(difference))
    return cells


def write_sequence(work: Path, kinds: Sequence[str]) -> None:
    """Note the kinds of sequence training that were decoded."""
    write_atomic(str(work / "results"), SEQUENCE, json.dumps(list(kinds)).encode())


def sequence_table(works: Sequence[Path]) -> tuple[list[str], list[list[str]]] | None:
    """Students before and after sequence training: WER, and the paired difference to where it started and to labeled only.

    None where a run has not been decoded with sequence training.
    """
    notes = _notes(works, SEQUENCE)
    if notes is None:
        return None
    kinds = [kind for kind in notes[0] if all(kind in note for note in notes)]
    starts = {start: _read(works, start) for start in ("labeled", "distilled")}
    columns = ["student"]
    for test in starts["labeled"].tests:
        columns += [f"WER {test} %", "difference to its start, points [95 %]", "to labeled only"]
    rows = []
    for start, first in starts.items():
        systems = {NAMES[start]: first} | {
            f"{NAMES[start]}, then {kind}": _read(works, f"{start}-{kind}") for kind in kinds
        }
        rows += [[name, *_compared(result, [first, starts["labeled"]])] for name, result in systems.items()]
    return columns, rows


def rate(counts: BySpeaker) -> float:
    """Word error rate pooled over speakers and seeds."""
    return sum((one for errors in counts.values() for one in errors), Errors()).rate


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def system_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: WER with its interval for each test set, size, speed."""
    tests = list(results["teacher"].tests)
    columns = [
        "system",
        *(f"WER {test} % [95 %]" for test in tests),
        "parameters",
        "float MB",
        "int8 MB",
        "training, min",
        "RTF",
        "teacher/student time",
    ]
    rows = []
    for system, result in results.items():
        cells = [NAMES[system]]
        for test in tests:
            low, high = bootstrap(result.tests[test])
            cells.append(f"{percent(rate(result.tests[test]))} [{percent(low)}, {percent(high)}]")
        ratio = results["teacher"].real_time_factor / result.real_time_factor
        megabytes = 4 * result.num_parameters / 1e6
        cells += [f"{result.num_parameters:,}", f"{megabytes:.1f}"]
        cells += [f"{result.int8_bytes / 1e6:.1f}" if result.int8_bytes else "-"]
        cells += [f"{result.train_seconds / 60:.1f}" if result.train_seconds else "-"]
        cells += [f"{result.real_time_factor:.4f}", f"{ratio:.1f}"]
        rows.append(cells)
    return columns, rows


def comparison_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """Distilled against labeled only, paired over speakers: difference, relative change, share of the gap recovered."""
    columns = ["test", "difference, points [95 %]", "relative, % [95 %]", "gap to the upper bound recovered, %"]
    rows = []
    for test in results["teacher"].tests:
        labeled, distilled, upper = (results[name].tests[test] for name in ("labeled", "distilled", "upper"))
        difference, relative = bootstrap_difference(distilled, labeled)
        gap = rate(labeled) - rate(upper)
        recovered = (rate(labeled) - rate(distilled)) / gap if gap > 0 else float("nan")
        rows.append([test, _interval(difference), _interval(relative), f"{100 * recovered:.0f}"])
    return columns, rows


def speaker_table(results: Mapping[str, SystemResult], test: str) -> tuple[list[str], list[list[str]]]:
    """WER of each test speaker, pooled over seeds."""
    rows = [
        [speaker, *(percent(rate({speaker: result.tests[test][speaker]})) for result in results.values())]
        for speaker in results["teacher"].tests[test]
    ]
    return ["speaker", *results], rows


def seed_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """WER of each run: a seed, or a speaker left out."""
    rows = []
    for test, runs in results["teacher"].runs.items():
        for number in range(len(runs)):
            own = [
                {speaker: [errors] for speaker, errors in result.runs[test][number].items()}
                for result in results.values()
            ]
            rows.append([test, str(number + 1), *(percent(rate(counts)) for counts in own)])
    return ["test", "run", *results], rows


def _interval(values: tuple[float, float, float]) -> str:
    return f"{100 * values[0]:+.1f} [{100 * values[1]:+.1f}, {100 * values[2]:+.1f}]"


def results_markdown(title: str, works: Mapping[str, Sequence[Path]]) -> str:
    """The text of a recipe's `RESULTS.md`: by topology, over the seeds that have been decoded."""
    parts = [
        f"# {title}: results\n",
        "Made by `python run.py --stage results --stop-stage results --seeds ...`. WER in percent over the unseen test speakers, pooled over the runs (seeds, or speakers left out); intervals are 95 % by the bootstrap over speakers (paired for differences).\n",
    ]
    for topology, folders in works.items():
        results = read_results(folders)
        parts.append(f"## Topology `{topology}`, {len(folders)} runs\n")
        for table in (system_table(results), comparison_table(results), seed_table(results)):
            parts.append(markdown_table(*table) + "\n")
        if (codecs := codec_table(folders)) is not None:
            parts.append(f"Students of the same teachers by codec:\n\n{markdown_table(*codecs)}\n")
        having = with_variants(folders)
        if having and (variants := variant_table(having)) is not None:
            parts.append(
                f"Students of the same data, trained in other ways, {len(having)} runs:\n\n{markdown_table(*variants)}\n"
            )
        if (sequence := sequence_table(folders)) is not None:
            parts.append(f"Sequence training on the labeled set:\n\n{markdown_table(*sequence)}\n")
        for test in results["teacher"].tests:
            parts.append(f"Speakers, {test}:\n\n{markdown_table(*speaker_table(results, test))}\n")
    return "\n".join(parts)
