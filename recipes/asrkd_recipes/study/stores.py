"""The stores of a study: transcripts, alignments, soft targets, and the specs of what labels them."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from asrkd import files, fingerprint
from asrkd.corpus.topology import make_topology
from asrkd.corpus.waveform import front_end_from_dict
from asrkd.errors import ConfigError
from asrkd.labeling.crew import Crew
from asrkd.labeling.job import run
from asrkd.labeling.local import Local
from asrkd.labeling.plan import plan
from asrkd.store import Store, manifest
from asrkd.store.embedding import DEFAULT_EMBED
from asrkd.store.files import Files
from asrkd.text_teachers import settings_file
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.jobs import StageProgress


class Stores:
    """Stores of one seed, by name. Those of soft targets, whose names begin with `soft`, belong to the seed, unless it shares its teacher with the others;
    the others are every seed's."""

    def __init__(self, config: StudyConfig, workers: int, progress: StageProgress) -> None:
        self.config, self.workers, self.progress = config, workers, progress
        self.work, self.data = Path(config.work), Path(config.data)
        self.shared = Path(config.stores) if config.stores else self.work / "stores"

    @property
    def unlabeled(self) -> list[str]:
        """The corpora of the untranscribed set."""
        return [str(self.data / "unlabeled.jsonl.gz"), *self.config.untranscribed]

    def root(self, name: str) -> Path:
        """The folder of a store."""
        if not name.startswith("soft"):
            return self.shared / name
        # Of students and later generations, the seed's own.
        own = name.startswith("soft-of-") or re.match(r"soft-\d", name)
        return (self.work if own else self.teacher_home) / "stores" / name

    @property
    def teacher_home(self) -> Path:
        """The folder of the teacher's run and of what it labels."""
        if self.config.shared_teacher and self.config.stores:
            return self.shared.parent / "shared"
        return self.work

    @property
    def of_students(self) -> bool:
        """Whether students have stores of transcripts of their own, because the teacher's frames are others. Alignments are of the frames of both."""
        if make_topology(self.config.topology).needs_alignment:
            return False
        teacher, student = (front_end_from_dict(one.front_end) for one in (self.config.teacher, self.config.student))
        return teacher.frame_law() != student.frame_law()

    @property
    def transcribed_sets(self) -> tuple[str, ...]:
        """Names of the sets with transcripts that systems are trained on."""
        return ("labeled", "dev", *(("transcribed",) if self.config.upper else ()))

    def pack(self) -> None:
        """Stores of the transcribed sets: labeled, dev, and the upper bound's, which students alone read."""
        own = self.of_students
        for name in (*self.transcribed_sets, *(("labeled-student", "dev-student") if own else ())):
            of_student = name == "transcribed" or name.endswith("-student")
            system = self.config.student if own and of_student else self.config.teacher
            cuts = str(self.data / f"{name.removesuffix('-student')}.jsonl.gz")
            self.fill(name, cuts, front_end=system.front_end)

    def to_train_from(self, name: str, *, student: bool = False) -> str:
        """The folder of a store, for `hmm` of the one with alignments; `student`: that a student trains from, of transcripts."""
        if student and self.of_students and name != "transcribed":
            return str(self.root(f"{name}-student"))
        if name.startswith("soft") or not make_topology(self.config.topology).needs_alignment:
            return str(self.root(name))
        return str(self.aligned(name, self.aligned_round))

    def aligned(self, name: str, number: int) -> Path:
        """The folder of a store with the alignments of a round; 0 is the flat start."""
        return self.root(f"{name}-aligned-{number}" if number else f"{name}-aligned")

    @property
    def rounds_file(self) -> Path:
        """What the rounds of realignment came to."""
        return self.root("align-rounds.json")

    @property
    def aligned_round(self) -> int:
        """The round of alignments that is trained on."""
        if not self.config.align_rounds or not self.rounds_file.exists():
            return 0
        return int(json.loads(self.rounds_file.read_text(encoding="utf-8"))["taken"])

    def fill_soft(
        self,
        name: str,
        teacher: str,
        targets: str,
        codec: str = "",
        *,
        cuts: Sequence[str] = (),
        embed: str = DEFAULT_EMBED,
        layer: str = "",
        codebooks: str = "",
    ) -> None:
        """Label the untranscribed set, or other `cuts`, with a teacher's posteriors, or those of its lattices."""
        if targets == "lattice":
            given = {key: value for key, value in dataclasses.asdict(self.config.lattice).items() if value != ""}
            content = {"teacher": teacher, "lexicon": self.config.tokenizer, "exact": True} | given
            teacher = f"lattice:{self._written(f'{name}.yaml', content)}"
        self.fill(
            name,
            cuts or self.unlabeled,
            teacher=teacher,
            codec=codec or self.config.codec,
            embed=embed,
            layer=layer,
            codebooks=codebooks,
        )

    def text_name(self, teacher: str) -> str:
        """Name of the store of a text teacher's texts: another one where the file of its settings says something else."""
        file = settings_file(teacher)
        settings = [fingerprint.of_file(file)] if file and file.exists() else []
        return f"text-{fingerprint.of_json([teacher, *settings])[:8]}"

    def fill_text(self, teacher: str) -> None:
        """Let a text teacher write the text of the untranscribed set."""
        self.fill(self.text_name(teacher), self.unlabeled, teacher=teacher, front_end=self.config.student.front_end)

    def fill(
        self,
        name: str,
        cuts: str | Sequence[str],
        *,
        teacher: str | None = None,
        codec: str | None = None,
        embed: str = DEFAULT_EMBED,
        layer: str = "",
        codebooks: str = "",
        front_end: Mapping[str, Any] | None = None,
    ) -> None:
        """Plan a store where there is none, and label what is missing in it.

        Args:
            front_end: whose frames the store counts, of transcripts and texts; a teacher of frames brings its own.
        """
        root = str(self.root(name))
        if not Files(root).exists(manifest.NAME):
            self.progress(f"plan {name}", 0, None)
            plan(
                cuts,
                root,
                teacher=teacher,
                codec=codec,
                embed=embed,
                layer=layer,
                codebooks=codebooks,
                unit_hours=self.config.unit_hours,
                front_end=None if front_end is None else front_end_from_dict(front_end),
            )
        run(
            Local(Store.open(root), Crew(workers=self.workers, devices=(self.config.device,))),
            progress=lambda tally, result: self.progress(
                f"label {name}", tally.done, tally.units, seconds=tally.seconds
            ),
        )

    def spec_of(self, folders: list[Path], file: str) -> str:
        """One checkpoint, or the ensemble of several."""
        if len(folders) == 1:
            return f"checkpoint:{folders[0]}"
        content = {"teachers": [{"spec": f"checkpoint:{folder}"} for folder in folders], "domain": "probability"}
        return f"ensemble:{self._written(file, content)}"

    def _written(self, file: str, content: Mapping[str, Any]) -> Path:
        """A YAML file of the work folder, which stores are bound to once it is there.

        Raises:
            ConfigError: it is there and says something else.
        """
        path = self.teacher_home / file
        if not path.exists():
            files.write(path, yaml.safe_dump(dict(content)))
        elif yaml.safe_load(path.read_text(encoding="utf-8")) != content:
            raise ConfigError(
                f"{str(path)!r} says something else than the config now, and the stores next to it were made with it; take another folder for "
                "other settings, or remove the file and the stores"
            )
        return path
