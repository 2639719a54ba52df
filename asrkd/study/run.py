"""The study, stage by stage: the same library calls that the command line makes, in order, each done once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from asrkd.errors import ConfigError
from asrkd.labeling import local
from asrkd.labeling.plan import plan
from asrkd.store import manifest
from asrkd.store.files import exists
from asrkd.study.config import StudyConfig, SystemConfig
from asrkd.study.decode import decode_system
from asrkd.study.jobs import train_all
from asrkd.training.align_store import align_store
from asrkd.training.config import InventoryConfig, PhaseConfig, SourceConfig, TrainConfig

Progress = Callable[[str, int, int, str], None]

STAGES = ("pack", "align", "teacher", "label", "students", "decode")
SYSTEMS = ("teacher", "labeled", "distilled", "upper")


class Study:
    """One seed of a study in one folder. Every stage looks for what is there and makes what is missing."""

    def __init__(self, config: StudyConfig, *, workers: int = 1, progress: Progress | None = None) -> None:
        """`workers`: processes for labeling and for trainings that do not wait for each other."""
        self.config = config
        self.work = Path(config.work)
        self.data = Path(config.data)
        self.workers = workers
        self.progress: Progress = progress or (lambda label, done, total, note: None)
        self.lexicon = self.data / "lexicon.txt"
        self.shared = Path(config.stores) if config.stores else self.work / "stores"

    def run(self, stage: str = STAGES[0], stop_stage: str = STAGES[-1]) -> None:
        """Run the stages from `stage` to `stop_stage`, both included.

        Raises:
            ConfigError: there is no such stage.
        """
        for name in (stage, stop_stage):
            if name not in STAGES:
                raise ConfigError(f"stage {name!r} does not exist; the stages are {', '.join(STAGES)}")
        for name in STAGES[STAGES.index(stage) : STAGES.index(stop_stage) + 1]:
            getattr(self, name)()

    def pack(self) -> None:
        """Stores of the transcribed sets: labeled, dev, and the upper bound's."""
        for name in ("labeled", "dev", "transcribed"):
            self._fill(name, str(self.data / f"{name}.jsonl.gz"))

    def align(self) -> None:
        """Hard labels for `hmm`, each set from a flat start on its own transcripts."""
        if self.config.topology != "hmm":
            return
        for name in ("labeled", "dev", "transcribed"):
            if not exists(str(self.shared / f"{name}-aligned"), manifest.NAME):
                self.progress(f"align {name}", 0, 1, "")
                align_store(
                    str(self.shared / name),
                    str(self.shared / f"{name}-aligned"),
                    self.lexicon,
                    states_per_phone=self.config.states_per_phone,
                    progress=lambda done, total, name=name: self.progress(f"align {name}", done, total, ""),  # type: ignore[misc]
                )

    def teacher(self) -> None:
        """The teachers, and with them the students that do not need one."""
        jobs = {f"teacher-{n}": self._teacher_config(n) for n in range(1, self.config.teachers + 1)}
        if self.workers > 1:
            jobs |= {"labeled": self._student_config("labeled"), "upper": self._student_config("upper")}
        train_all(jobs, self.workers, self.progress)

    def label(self) -> None:
        """Soft targets of the untranscribed set."""
        self._fill("soft", str(self.data / "unlabeled.jsonl.gz"), teacher=self.teacher_spec, codec=self.config.codec)

    def students(self) -> None:
        """The student trained on the labeled set only, distilled, and on all transcripts (the upper bound)."""
        train_all({name: self._student_config(name) for name in SYSTEMS[1:]}, self.workers, self.progress)

    def decode(self) -> None:
        """Decode and score every system on every test set."""
        for number, name in enumerate(SYSTEMS):
            self.progress("decode", number, len(SYSTEMS), name)
            spec = self.teacher_spec if name == "teacher" else f"checkpoint:{self.run_folder(name)}"
            runs = [f"teacher-{n}" for n in range(1, self.config.teachers + 1)] if name == "teacher" else [name]
            decode_system(self.config, spec, [self.run_folder(run) for run in runs], self.work / "results" / name)
        self.progress("decode", len(SYSTEMS), len(SYSTEMS), "")

    def run_folder(self, name: str) -> Path:
        """The run folder of a system."""
        return self.work / "runs" / name

    @property
    def teacher_spec(self) -> str:
        """The spec of the teacher: one checkpoint, or the ensemble of several."""
        folders = [self.run_folder(f"teacher-{n}") for n in range(1, self.config.teachers + 1)]
        if len(folders) == 1:
            return f"checkpoint:{folders[0]}"
        path = self.work / "ensemble.yaml"
        if not path.exists():
            content = {"teachers": [{"spec": f"checkpoint:{folder}"} for folder in folders], "domain": "probability"}
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return f"ensemble:{path}"

    def _fill(self, name: str, cuts: str, *, teacher: str | None = None, codec: str | None = None) -> None:
        """Plan a store where there is none, and label what is missing in it."""
        root = str(self._root(name))
        if not exists(root, manifest.NAME):
            self.progress(f"plan {name}", 0, 1, "")
            plan(cuts, root, teacher=teacher, codec=codec, embed="audio", unit_hours=self.config.unit_hours)
        local.run(
            root,
            workers=self.workers,
            progress=lambda result, done, total: self.progress(f"label {name}", done, total, f"unit {result.unit}"),
        )

    def _store(self, name: str) -> str:
        aligned = self.config.topology == "hmm" and name != "soft"
        return str(self._root(f"{name}-aligned" if aligned else name))

    def _root(self, name: str) -> Path:
        """Soft targets belong to a seed's teacher; the other stores are the same for every seed."""
        return (self.work / "stores" if name == "soft" else self.shared) / name

    def _teacher_config(self, number: int) -> TrainConfig:
        return self._train_config(
            f"teacher-{number}",
            self.config.teacher,
            {"labeled": SourceConfig(self._store("labeled"), "labeled")},
            [PhaseConfig(self.config.teacher.steps, {"labeled": 1})],
            seed=self.config.seed * 100 + number,
        )

    def _student_config(self, name: str) -> TrainConfig:
        student, seed = self.config.student, self.config.seed
        if name == "distilled":
            sources = {
                "labeled": SourceConfig(self._store("labeled"), "labeled"),
                "soft": SourceConfig(self._store("soft"), "soft"),
            }
            return self._train_config(name, student, sources, self.config.distilled, seed=seed)
        sources = {"labeled": SourceConfig(self._store("labeled" if name == "labeled" else "transcribed"), "labeled")}
        return self._train_config(name, student, sources, [PhaseConfig(student.steps, {"labeled": 1})], seed=seed)

    def _train_config(
        self,
        name: str,
        system: SystemConfig,
        sources: dict[str, SourceConfig],
        schedule: list[PhaseConfig],
        *,
        seed: int,
    ) -> TrainConfig:
        return TrainConfig(
            run=str(self.run_folder(name)),
            seed=seed,
            threads=1,
            model=system.model,
            front_end=system.front_end,
            inventory=InventoryConfig(str(self.lexicon), self.config.topology, self.config.states_per_phone),
            sources=sources,
            schedule=schedule,
            soft_loss=self.config.soft_loss,
            optimizer=system.optimizer,
            augment=system.augment,
            batch=system.batch,
            dev=self._store("dev"),
            log_steps=20,
            eval_steps=100,
            checkpoint_steps=100,
        )
