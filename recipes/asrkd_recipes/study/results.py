"""Results of a study over one or more seeds, as its work folders hold them or as they were recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asrkd import files
from asrkd.errors import ConfigError
from asrkd.evaluation.wer import Errors
from asrkd.report.pictures import WORD_ERROR_RATE

SEQUENCE = "sequence.json"
VARIANTS = "variants.json"
RESULT = "result.json"
# The error rate on dev, until there is a result.
DEV = "dev.json"
# Of every study; the upper bound only where the untranscribed set has transcripts.
SYSTEMS = ("teacher", "labeled", "distilled")
UPPER = "upper"
BySpeaker = Mapping[str, Sequence[Errors]]


@dataclass(frozen=True)
class SystemResult:
    """One system over all seeds.

    Attributes:
        runs: by test set, for each seed (or fold) the errors of each of its speakers.
        num_parameters, real_time_factor, int8_bytes: of the first seed.
        penalties: insertion penalty chosen on dev, by seed.
        train_seconds: the mean over seeds of what training took, on the machine that it ran on; of all teachers of an ensemble.
        sent_share: of a training on several processes, the bytes that one sent as a share of what plain DDP sends; of the first seed.
        dev: error rate on the dev set, by seed.
        target_bytes: of the soft targets that it learned from, a frame; of the first seed.
        searches: of several ways of decoding by name, the error rate on the dev set, by seed; the tests are then named by `label_of`.
        counted: of these, what their errors are errors of, `words` or `characters`.
        unit: the same of this one.
        groups: the speakers that belong to one, with its name.
    """

    runs: Mapping[str, Sequence[Mapping[str, Errors]]]
    num_parameters: int
    real_time_factor: float
    penalties: Sequence[float]
    int8_bytes: int
    train_seconds: float
    sent_share: float | None = None
    dev: Sequence[float] = ()
    target_bytes: float | None = None
    searches: Mapping[str, Sequence[float]] = field(default_factory=dict)
    counted: Mapping[str, str] = field(default_factory=dict)
    unit: str = "words"
    groups: Mapping[str, str] = field(default_factory=dict)

    def by(self, search: str) -> SystemResult:
        """The same as one way of decoding has it."""
        runs = {
            test.removesuffix(label_of("", search)): found
            for test, found in self.runs.items()
            if test.endswith(label_of("", search))
        }
        return replace(self, runs=runs, dev=self.searches[search], searches={}, unit=self.counted[search])

    def of(self, group: str) -> SystemResult:
        """The same for the speakers of a group."""
        runs = {
            test: [
                {speaker: errors for speaker, errors in run.items() if self.groups.get(speaker) == group}
                for run in found
            ]
            for test, found in self.runs.items()
        }
        return replace(self, runs=runs)

    @property
    def measure(self) -> str:
        """Short name of its error rates, as at the head of a table."""
        return "CER" if self.unit == "characters" else "WER"

    @property
    def rate_name(self) -> str:
        """Name of its error rates."""
        return "character error rate" if self.unit == "characters" else WORD_ERROR_RATE

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
    """Results of the systems that every work folder (one a seed) has decoded; `first` where teachers have generations, `upper` where all have it.

    Raises:
        ConfigError: no folder, or one without results.
    """
    if not works:
        raise ConfigError("no work folder is given, so there are no results to read")
    optional = {name: with_system(works, name) == list(works) for name in ("first", UPPER)}
    systems = (*(["first"] if optional["first"] else []), *SYSTEMS, *([UPPER] if optional[UPPER] else []))
    return {system: read_system(works, system) for system in systems}


def with_system(works: Sequence[Path], system: str) -> list[Path]:
    """The runs that have decoded a system."""
    return [work for work in works if _content(work, f"{system}/{RESULT}") is not None]


def read_system(works: Sequence[Path], system: str) -> SystemResult:
    """One system over all seeds.

    Raises:
        ConfigError: a seed has not been decoded.
    """
    loaded = []
    for work in works:
        content = _content(work, f"{system}/{RESULT}")
        if content is None:
            raise ConfigError(
                f"{str(work / 'results' / system / RESULT)!r} does not exist; run the study to its stage 'decode' first"
            )
        loaded.append(content)
    runs = {
        test: [{speaker: Errors(*counts) for speaker, counts in one["tests"][test].items()} for one in loaded]
        for test in loaded[0]["tests"]
    }
    return SystemResult(
        runs,
        loaded[0]["num_parameters"],
        loaded[0]["real_time_factor"],
        [one["insertion_penalty"] for one in loaded],
        # Results of earlier versions have not all of these.
        loaded[0].get("int8_bytes", 0),
        sum(one.get("train_seconds", 0.0) for one in loaded) / len(loaded),
        loaded[0].get("sent_share"),
        [one["dev"] for one in loaded if "dev" in one],
        loaded[0].get("target_bytes"),
        {name: [one["searches"][name]["dev"] for one in loaded] for name in loaded[0].get("searches", {})},
        {name: search.get("errors", "words") for name, search in loaded[0].get("searches", {}).items()},
        "words",
        {speaker: group for one in loaded for speaker, group in one.get("groups", {}).items()},
    )


def label_of(test: str, search: str) -> str:
    """The name of a test set's errors as a way of decoding makes them; of a single one, whose name is empty, the test set's."""
    return f"{test}, {search}" if search else test


def by_search(results: Mapping[str, SystemResult]) -> dict[str, dict[str, SystemResult]]:
    """Results for each way of decoding; of a single one the name is empty."""
    searches = next(iter(results.values())).searches
    if not searches:
        return {"": dict(results)}
    return {search: {name: result.by(search) for name, result in results.items()} for search in searches}


def is_decoded(work: Path) -> bool:
    """Whether there are results of the teacher and of the students that every study has."""
    return all(with_system([work], system) for system in SYSTEMS)


def _content(work: Path, name: str) -> Any | None:
    """A file of a work folder's results, or what was recorded of it; None where it is not."""
    if work.suffix == ".json":
        return json.loads(work.read_text(encoding="utf-8")).get(name) if work.exists() else None
    file = work / "results" / name
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def record(work: Path, file: Path) -> None:
    """Write the results of a work folder as one JSON file, from which the same tables come.

    Systems that the file has already are kept, unless one that is in both differs: then the file is of other runs, and is replaced.
    """
    folder = work / "results"
    found = {
        str(one.relative_to(folder)): json.loads(one.read_text(encoding="utf-8"))
        for one in sorted(folder.rglob("*.json"))
        if one.name != DEV
    }
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    shared = [name for name in before if name.endswith(RESULT) and name in found]
    if shared and all(before[name]["tests"] == found[name]["tests"] for name in shared):
        notes = _both(before.get(VARIANTS), found.get(VARIANTS))
        found = before | found | ({VARIANTS: notes} if notes else {})
    file.parent.mkdir(parents=True, exist_ok=True)
    # A line for each system, so that a change shows which.
    lines = (f"{json.dumps(name)}:{json.dumps(content, separators=(',', ':'))}" for name, content in found.items())
    files.write(file, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def write_variants(
    work: Path, speakers: Mapping[str, int], total: int, against: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """Note the variants that were decoded, next to those of earlier runs.

    Args:
        speakers: of each variant, how many untranscribed speakers it was given; 0 where that is not what it varies.
        total: untranscribed speakers that there are.
        against: of each variant, the labeled-only student and the upper bound that it is compared with; the study's own if not said.
    """
    content = {
        "total": total,
        "speakers": dict(speakers),
        "beside": {name: list(pair) for name, pair in (against or {}).items()},
    }
    both = _both(_content(work, VARIANTS), content)
    files.write(work / "results" / VARIANTS, json.dumps(both, indent=1))


def _both(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """Notes of variants, those of earlier runs next to the later ones."""
    notes = [one for one in (before, after) if one]
    return {
        key: {name: given for one in notes for name, given in one.get(key, {}).items()}
        if isinstance(value, dict)
        else value
        for key, value in (notes[-1] if notes else {}).items()
    }


def write_sequence(work: Path, kinds: Sequence[str]) -> None:
    """Note the kinds of sequence training that were decoded."""
    files.write(work / "results" / SEQUENCE, json.dumps(list(kinds)))


def read_notes(works: Sequence[Path], name: str) -> list[Any] | None:
    """What `write_...` noted in every work folder; None where one lacks it."""
    found = [_content(work, name) for work in works]
    return None if any(one is None for one in found) else found


def with_variants(works: Sequence[Path]) -> list[Path]:
    """The runs that were decoded with variants."""
    return [work for work in works if _content(work, VARIANTS) is not None]
