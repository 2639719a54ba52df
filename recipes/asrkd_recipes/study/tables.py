"""Tables of a study's results: rates, intervals, comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrkd.evaluation.wer import Errors, bootstrap, bootstrap_difference
from asrkd.report.tables import markdown_table
from asrkd_recipes.study.results import (
    SEQUENCE,
    UPPER,
    VARIANTS,
    BySpeaker,
    SystemResult,
    by_search,
    read_notes,
    read_results,
    read_system,
    with_system,
    with_variants,
)

COSTS = ("parameters", "float MB", "int8 MB", "training, min", "RTF", "teacher/student time")
NAMES = {
    "first": "teacher, first generation",
    "teacher": "teacher",
    "labeled": "student, labeled only",
    "distilled": "student, distilled",
    UPPER: "student, all transcripts (upper bound)",
}


def teacher_warning(teacher: Sequence[float], labeled: Sequence[float]) -> str:
    """A line about a teacher that is not better on dev than the labeled-only student, by their error rates of each seed; empty if it is."""
    if not teacher or len(teacher) != len(labeled) or sum(teacher) < sum(labeled):
        return ""
    return (
        f"the teacher has {_spread(teacher)} % errors on dev, which is not below the {_spread(labeled)} % of the student trained on the labeled "
        "set alone, so there is little that a student could learn from it; train a better teacher, or take one that is trained already (docs/teachers.md)"
    )


def variant_table(works: Sequence[Path], search: str = "") -> tuple[list[str], list[list[str]]] | None:
    """Students of the same data that were trained in other ways: error rates on dev and tests, the paired difference to the distilled one, the relative
    change from labeled only, and the share of the gap to the upper bound.

    Each over the runs that have it, and compared with the same runs of the others. None where no run has variants.

    Args:
        search: the way of decoding, of several.
    """
    own = with_variants(works)
    if not own:
        return None
    distilled = _read(own, "distilled", search)
    columns = ["student", "runs", f"{distilled.measure} dev %"]
    for test in distilled.tests:
        columns += [f"{distilled.measure} {test} %", "difference to distilled, points [95 %]"]
        columns += ["relative to labeled only, % [95 %]", "gap recovered, %"]
    systems = {name: with_system(own, name) for name in ("labeled", "distilled", UPPER)} | _variants(own)
    return columns, [_variant_row(name, runs, search) for name, runs in systems.items() if runs]


def _read(works: Sequence[Path], name: str, search: str) -> SystemResult:
    result = read_system(works, name)
    return result.by(search) if search else result


def _variant_row(name: str, works: Sequence[Path], search: str) -> list[str]:
    notes = (read_notes(works, VARIANTS) or [{}])[0].get("beside", {})
    names = ("distilled", *notes.get(name, ("labeled", UPPER)))
    result = _read(works, name, search)
    distilled, labeled = (_read(works, reference, search) for reference in names[:2])
    upper = _read(works, names[2], search) if with_system(works, names[2]) == works else None
    cells = [NAMES.get(name, name), str(len(works)), _spread(result.dev)]
    for test, counts in result.tests.items():
        difference, _ = bootstrap_difference(counts, distilled.tests[test])
        _, relative = bootstrap_difference(counts, labeled.tests[test])
        cells += [percent(rate(counts)), "-" if name == names[0] else _interval(difference)]
        cells += ["-" if name == names[1] else _interval(relative)]
        cells += [
            "-" if name in names[1:] else _recovered(counts, labeled.tests[test], upper.tests[test] if upper else None)
        ]
    return cells


def _spread(rates: Sequence[float]) -> str:
    """The mean over runs, and from which to which they go."""
    if not rates:
        return "-"
    ends = f" ({percent(min(rates))} to {percent(max(rates))})" if len(rates) > 1 else ""
    return percent(sum(rates) / len(rates)) + ends


def variant_costs(works: Sequence[Path]) -> tuple[list[str], list[list[str]]] | None:
    """What the same students cost: size, training, and inference against the teacher. None where no run has variants."""
    having = with_variants(works)
    if not having:
        return None
    of_runs = dict.fromkeys(("labeled", "distilled"), having) | _variants(having)
    results = {name: (read_system(own, name), read_system(own, "teacher")) for name, own in of_runs.items()}
    rows = [[NAMES.get(name, name), *_costs(*pair)] for name, pair in results.items()]
    columns = ["student", *COSTS]
    for column, values in {
        "targets, B/frame": [result.target_bytes for result, _ in results.values()],
        "sent, % of DDP": [result.sent_share and 100 * result.sent_share for result, _ in results.values()],
    }.items():
        if any(values):
            columns.append(column)
            rows = [[*row, f"{value:.1f}" if value else "-"] for row, value in zip(rows, values, strict=True)]
    return columns, rows


def _variants(works: Sequence[Path]) -> dict[str, list[Path]]:
    """The runs that have each variant."""
    found: dict[str, list[Path]] = {}
    for work in works:
        for name in (read_notes([work], VARIANTS) or [{"speakers": {}}])[0]["speakers"]:
            found.setdefault(name, []).append(work)
    return found


def speaker_curve(works: Sequence[Path], search: str = "") -> list[tuple[str, float, float, float, float]] | None:
    """(test set, untranscribed speakers, error rate, ends of its interval): the labeled-only student at 0, the distilled one at all of them.

    Of the runs that have the same variants with fewer speakers; None where there is none. `search`: the way of decoding, of several.
    """
    notes = [(read_notes([work], VARIANTS) or [None])[0] for work in works]
    having = [(work, note) for work, note in zip(works, notes, strict=True) if note and any(note["speakers"].values())]
    if not having:
        return None
    counts = {name: count for name, count in having[0][1]["speakers"].items() if count}
    own = [work for work, note in having if counts.items() <= note["speakers"].items()]
    systems = {"labeled": 0, **counts, "distilled": having[0][1]["total"]}
    points = []
    for name, count in systems.items():
        for test, errors in _read(own, name, search).tests.items():
            points.append((test, float(count), rate(errors), *bootstrap(errors)))
    return points


def _compared(result: SystemResult, references: Sequence[SystemResult]) -> list[str]:
    """Cells for each test set: the error rate, and the paired difference to each reference."""
    cells = []
    for test, counts in result.tests.items():
        cells.append(percent(rate(counts)))
        for reference in references:
            difference, _ = bootstrap_difference(counts, reference.tests[test])
            cells.append("-" if result is reference else _interval(difference))
    return cells


def sequence_table(works: Sequence[Path], search: str = "") -> tuple[list[str], list[list[str]]] | None:
    """Students before and after sequence training: error rates, and the paired difference to where it started and to labeled only.

    None where a run has not been decoded with sequence training.
    """
    notes = read_notes(works, SEQUENCE)
    if notes is None:
        return None
    kinds = [kind for kind in notes[0] if all(kind in note for note in notes)]
    starts = {start: _read(works, start, search) for start in ("labeled", "distilled")}
    columns = ["student"]
    for test in starts["labeled"].tests:
        columns += [
            f"{starts['labeled'].measure} {test} %",
            "difference to its start, points [95 %]",
            "to labeled only",
        ]
    rows = []
    for start, first in starts.items():
        systems = {NAMES[start]: first} | {
            f"{NAMES[start]}, then {kind}": _read(works, f"{start}-{kind}", search) for kind in kinds
        }
        rows += [[name, *_compared(result, [first, starts["labeled"]])] for name, result in systems.items()]
    return columns, rows


def rate(counts: BySpeaker) -> float:
    """Error rate pooled over speakers and seeds."""
    return sum((one for errors in counts.values() for one in errors), Errors()).rate


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def system_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: the error rate with its interval for each test set, size, speed."""
    tests = list(results["teacher"].tests)
    columns = ["system", *(f"{results['teacher'].measure} {test} % [95 %]" for test in tests), *COSTS]
    rows = []
    for system, result in results.items():
        cells = [NAMES[system]]
        for test in tests:
            low, high = bootstrap(result.tests[test])
            interval = f" [{percent(low)}, {percent(high)}]" if math.isfinite(low) else ""
            cells.append(percent(rate(result.tests[test])) + interval)
        rows.append(cells + _costs(result, results["teacher"]))
    return columns, rows


def _costs(result: SystemResult, teacher: SystemResult) -> list[str]:
    return [
        f"{result.num_parameters:,}",
        f"{4 * result.num_parameters / 1e6:.1f}",
        f"{result.int8_bytes / 1e6:.1f}" if result.int8_bytes else "-",
        f"{result.train_seconds / 60:.1f}" if result.train_seconds else "-",
        f"{result.real_time_factor:.5f}",
        f"{teacher.real_time_factor / result.real_time_factor:.1f}",
    ]


def comparison_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """Distilled against labeled only, paired over speakers: difference, relative change, share of the gap recovered."""
    columns = ["test", "difference, points [95 %]", "relative, % [95 %]", "gap to the upper bound recovered, %"]
    rows = []
    for test in results["teacher"].tests:
        labeled, distilled = (results[name].tests[test] for name in ("labeled", "distilled"))
        upper = results[UPPER].tests[test] if UPPER in results else None
        difference, relative = bootstrap_difference(distilled, labeled)
        rows.append([test, _interval(difference), _interval(relative), _recovered(distilled, labeled, upper)])
    return columns, rows


def group_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]] | None:
    """Error rates of groups of speakers, and distilled against labeled only; None where there are none."""
    rows = []
    for group in sorted(set(results["teacher"].groups.values())):
        own = {name: result.of(group) for name, result in results.items()}
        for test in own["teacher"].tests:
            rates = [percent(rate(result.tests[test])) for result in own.values()]
            _, relative = bootstrap_difference(own["distilled"].tests[test], own["labeled"].tests[test])
            rows.append([test, group, *rates, _interval(relative)])
    return (["test", "speakers", *results, "distilled to labeled, relative, % [95 %]"], rows) if rows else None


def _recovered(system: BySpeaker, labeled: BySpeaker, upper: BySpeaker | None) -> str:
    """How much of the way from labeled only to the upper bound a system goes, in percent."""
    if upper is None:
        return "-"
    gap = rate(labeled) - rate(upper)
    return f"{100 * (rate(labeled) - rate(system)) / gap:.0f}" if gap > 0 else "nan"


def speaker_table(results: Mapping[str, SystemResult], test: str) -> tuple[list[str], list[list[str]]]:
    """Error rate of each test speaker, pooled over seeds."""
    rows = [
        [speaker, *(_speaker_rate(result.tests[test][speaker]) for result in results.values())]
        for speaker in results["teacher"].tests[test]
    ]
    return ["speaker", *results], rows


def _speaker_rate(runs: Sequence[Errors]) -> str:
    return percent(rate({"": runs})) if any(errors.reference for errors in runs) else "-"


def seed_table(results: Mapping[str, SystemResult]) -> tuple[list[str], list[list[str]]]:
    """Error rate of each run: a seed, or a speaker left out."""
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


def curve_file(topology: str) -> str:
    """Name of the picture of `speaker_curve` next to the text."""
    return f"speakers-{topology}.png"


def results_markdown(title: str, works: Mapping[str, Sequence[Path]]) -> str:
    """The text of a recipe's `RESULTS.md`: by topology, over the seeds that have been decoded."""
    parts = [
        f"# {title}: results\n",
        "Made by `python run.py --stage results --stop-stage results --seeds ...`. Errors in percent of the words (WER) or characters (CER) over the unseen test speakers, pooled over the runs (seeds, or speakers left out); intervals are 95 % by the bootstrap over speakers (paired for differences).\n",
    ]
    for topology, folders in works.items():
        results = read_results(folders)
        parts.append(f"## Topology `{topology}`, {len(folders)} {'run' if len(folders) == 1 else 'runs'}\n")
        if warning := teacher_warning(results["teacher"].dev, results["labeled"].dev):
            parts.append(f"Warning: {warning}.\n")
        if (bounded := with_system(folders, UPPER)) and UPPER not in results:
            parts.append(
                f"The student of all transcripts is there for {len(bounded)} of the runs alone, so it is left out of what pools all.\n"
            )
        for search, own in by_search(results).items():
            if search:
                parts.append(f"### {search}\n")
            for table in (system_table(own), comparison_table(own), seed_table(own)):
                parts.append(markdown_table(*table) + "\n")
            if groups := group_table(own):
                parts.append(f"Groups of speakers:\n\n{markdown_table(*groups)}\n")
            if (variants := variant_table(folders, search)) is not None:
                parts.append(f"Students of the same data, trained in other ways:\n\n{markdown_table(*variants)}\n")
        if (costs := variant_costs(folders)) is not None:
            parts.append(f"Their costs:\n\n{markdown_table(*costs)}\n")
        search, first = next(iter(by_search(results).items()))
        if speaker_curve(folders, search):
            parts.append(
                f"![{first['teacher'].rate_name.capitalize()} over untranscribed speakers]({curve_file(topology)})\n"
            )
        if (sequence := sequence_table(folders, search)) is not None:
            parts.append(f"Sequence training on the labeled set:\n\n{markdown_table(*sequence)}\n")
        for test in first["teacher"].tests:
            decoded = f" ({search})" if search else ""
            parts.append(
                f"{first['teacher'].measure} of the speakers, {test}{decoded}:\n\n{markdown_table(*speaker_table(first, test))}\n"
            )
    return "\n".join(parts)
