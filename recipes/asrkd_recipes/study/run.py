"""The study, stage by stage: the same library calls that the command line makes, in order, each done once."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asrkd import config as configs
from asrkd import fingerprint
from asrkd.acoustic import load_model
from asrkd.corpus.inventory import InventoryConfig
from asrkd.distributed.config import ScaleConfig
from asrkd.errors import ConfigError
from asrkd.labeling.layer import make_codebooks
from asrkd.store import Store
from asrkd.store.embedding import DEFAULT_EMBED
from asrkd.training.config import TrainConfig
from asrkd.training.schedule import PhaseConfig
from asrkd.training.sources import SourceConfig
from asrkd_recipes.study.align import Alignment
from asrkd_recipes.study.config import StudyConfig, SystemConfig, VariantConfig
from asrkd_recipes.study.decode import rate_on_dev
from asrkd_recipes.study.jobs import StageProgress, decode_all, train_all
from asrkd_recipes.study.order import teachers_by_generation, training_order, without_teacher
from asrkd_recipes.study.results import write_sequence, write_variants
from asrkd_recipes.study.stores import Stores
from asrkd_recipes.study.tables import teacher_warning
from asrkd_recipes.study.variants import has_own_store, some_speakers, store_of, with_targets

_log = logging.getLogger(__name__)

STAGES = ("pack", "align", "teacher", "label", "generations", "students", "sequence", "decode")
# Those that sequence training starts from.
SEQUENCE_STARTS = ("labeled", "distilled")


def _show_nothing(*_: object, **__: object) -> None: ...


class Study:
    """One seed of a study in one folder. Every stage looks for what is there and makes what is missing."""

    def __init__(self, config: StudyConfig, *, workers: int = 1, progress: StageProgress | None = None) -> None:
        """`workers`: processes for labeling, and for trainings and decodings that do not wait for each other."""
        self.config = config
        self.work = Path(config.work)
        self.data = Path(config.data)
        self.workers = workers
        self.progress: StageProgress = progress or _show_nothing
        self.lexicon = config.tokenizer
        self.stores = Stores(config, workers, self.progress)

    def run(self, stage: str = STAGES[0], stop_stage: str = STAGES[-1]) -> None:
        """Run the stages from `stage` to `stop_stage`, both included.

        Raises:
            ConfigError: there is no such stage, or no test set.
        """
        for name in (stage, stop_stage):
            if name not in STAGES:
                raise ConfigError(f"stage {name!r} does not exist; the stages are {', '.join(STAGES)}")
        if not self.config.tests:
            raise ConfigError("tests: must name a test set, so that something can be scored, e.g. {clean: test_clean}")
        for name in STAGES[STAGES.index(stage) : STAGES.index(stop_stage) + 1]:
            getattr(self, name)()

    def pack(self) -> None:
        """Stores of the transcribed sets: labeled, dev, and the upper bound's."""
        self.stores.pack()

    def align(self) -> None:
        """Hard labels for `hmm`: the labeled set from a flat start, whose aligner aligns dev; the upper bound's set from one of its own. Then
        rounds of realignment, all sets by a teacher of the labeled set."""
        Alignment(self.config, self.stores, self._align_config, self.progress).run()

    def teacher(self) -> None:
        """The teachers, and with them the students and variants that do not need one."""
        jobs = {}
        if self.config.teacher.steps:
            jobs = {f"teacher-{n}": self._teacher_config(n) for n in range(1, self.config.teachers + 1)}
        if self.workers > 1:
            jobs |= self._jobs(without_teacher(self.config, self.run_folder))
        self._train(jobs)

    def label(self) -> None:
        """Soft targets of the untranscribed set by the first generation."""
        self._label(1)

    def generations(self) -> None:
        """Each later generation of the teacher: distilled from the one before, then it labels the untranscribed set."""
        for number, schedule in enumerate(self.config.generations, 2):
            name = f"generation-{number}"
            sources = {
                "labeled": SourceConfig(self.stores.to_train_from("labeled"), "labeled"),
                "soft": SourceConfig(self.stores.to_train_from(self._soft(number - 1)), "soft"),
            }
            seed = self.config.seed * 100 + 50 + number
            self._train({name: self._train_config(name, self.config.teacher, sources, schedule, seed=seed)})
            self._label(number)

    def students(self) -> None:
        """The student trained on the labeled set only, distilled, and on all transcripts (the upper bound).

        A teacher that is not better on dev than the first is told before the second is trained. Variants are trained with them.
        """
        self._train(self._jobs(without_teacher(self.config, self.run_folder) if self.workers > 1 else ["labeled"]))
        self._compare_on_dev()
        self._train_in_waves()

    def _compare_on_dev(self) -> None:
        specs = {"teacher": self.teacher_spec, "labeled": f"checkpoint:{self.run_folder('labeled')}"}
        rates = {}
        for number, (name, spec) in enumerate(specs.items()):
            self.progress("dev", number, len(specs), name)
            rates[name] = [rate_on_dev(self.config, spec, self._results(name))]
        self.progress("dev", len(specs), len(specs), "")
        if warning := teacher_warning(rates["teacher"], rates["labeled"]):
            _log.warning("%s", warning)

    def _train_in_waves(self) -> None:
        """The students and the variants: those that others learn from first, which then label the untranscribed set."""
        variants = self.config.variants
        for names in training_order(self.config, self.run_folder):
            for name in names:
                if name in variants:
                    self._fill_for(variants[name])
            self._train(self._jobs(names))

    def _jobs(self, names: Iterable[str]) -> dict[str, TrainConfig]:
        """The trainings of students and variants, by name."""
        return {
            name: self._variant_config(name) if name in self.config.variants else self._student_config(name)
            for name in names
        }

    def _train(self, jobs: Mapping[str, TrainConfig]) -> None:
        processes = {name: given.processes for name, given in self.config.variants.items()}
        train_all(jobs, self.workers, self.progress, processes)

    def _fill_for(self, given: VariantConfig) -> None:
        """The stores that a variant learns from and the study's distilled student does not."""
        if has_own_store(given):
            self._fill_soft(given, self._store_of(given))
        if given.text_teacher:
            self.stores.fill_text(given.text_teacher)
        if given.untranscribed:
            self._fill_soft(given, self._further(given), given.untranscribed)

    def _fill_soft(self, given: VariantConfig, store: str, cuts: Sequence[str] = ()) -> None:
        """Label the untranscribed set, or other `cuts`, by a variant's teachers, with its targets."""
        spec = self.teacher_spec
        if given.teachers:
            folders = [self.run_folder(one) for one in given.teachers]
            spec = self.stores.spec_of(folders, f"ensemble-{'+'.join(given.teachers)}.yaml")
        books = ""
        if given.codebooks:
            books = str(self.work / f"{self._store_of(given)}.npy")
            if not Path(books).exists():
                teacher = load_model(spec, self.config.device)
                make_codebooks(
                    self.stores.unlabeled[0],
                    books,
                    teacher=teacher,
                    layer=given.layer,
                    count=given.codebooks,
                    entries=256,
                )
        targets = given.targets or self.config.targets
        embed = given.embed or DEFAULT_EMBED
        self.stores.fill_soft(
            store, spec, targets, given.codec, cuts=cuts, embed=embed, layer=given.layer, codebooks=books
        )

    def sequence(self) -> None:
        """Sequence training of the students, for each of the config's kinds."""
        jobs: dict[str, TrainConfig] = {}
        for kind in self.config.sequence:
            jobs |= {f"{start}-{kind}": self._sequence_config(start, kind) for start in SEQUENCE_STARTS}
        self._train(jobs)

    def decode(self) -> None:
        """Decode and score every system on every test set."""
        systems = {
            name: (f"checkpoint:{self.run_folder(name)}", [self.run_folder(name)]) for name in self.config.students
        }
        systems["teacher"] = (self.teacher_spec, self._teacher_runs(self.last_generation))
        if self.last_generation > 1:
            systems["first"] = (self._spec(1), self._teacher_runs(1))
        sequences = [f"{start}-{kind}" for kind in self.config.sequence for start in SEQUENCE_STARTS]
        for name in (*self.config.variants, *sequences):
            given = self.config.variants.get(name)
            kind = "int8" if given and self._variant_config(name).model.int8 else "checkpoint"
            systems[name] = (f"{kind}:{self.run_folder(name)}", [self.run_folder(name)])
        decode_all(
            self.config,
            {name: (spec, runs, self._results(name)) for name, (spec, runs) in systems.items()},
            self.workers,
            self.progress,
        )
        if self.config.variants:
            counts = {
                name: 0 if given.init or given.without_speakers else given.unlabeled_speakers
                for name, given in self.config.variants.items()
            }
            beside = {name: (given.labeled, given.upper) for name, given in self.config.variants.items()}
            write_variants(self.work, counts, len(self._speakers()), beside)
        if self.config.sequence:
            write_sequence(self.work, list(self.config.sequence))

    def run_folder(self, name: str) -> Path:
        """The run folder of a system."""
        if name == "teacher-1" and not self.config.teacher.steps:
            return _run_of(self.config.teacher.init)
        home = self.stores.teacher_home if name.startswith("teacher-") else self.work
        return home / "runs" / name

    def _results(self, name: str) -> Path:
        return self.work / "results" / name

    @property
    def last_generation(self) -> int:
        """Number of the teacher's generation that teaches the student."""
        return 1 + len(self.config.generations)

    @property
    def teacher_spec(self) -> str:
        """The spec of the teacher that the student learns from."""
        return self._spec(self.last_generation)

    @property
    def soft_store(self) -> Path:
        """The store of that teacher's soft targets."""
        return self.stores.root(self._soft(self.last_generation))

    def _soft(self, generation: int) -> str:
        """Name of the store of a generation's soft targets."""
        return with_targets(_posteriors(generation), self.config.targets)

    def _store_of(self, given: VariantConfig) -> str:
        return store_of(given, _posteriors(self.last_generation), self.config.targets)

    def _further(self, given: VariantConfig) -> str:
        """Name of the store of a variant's further untranscribed speech."""
        return f"{self._store_of(given)}-further-{fingerprint.of_json(given.untranscribed)[:8]}"

    def _teacher_runs(self, generation: int) -> list[Path]:
        return [self.run_folder(name) for name in teachers_by_generation(self.config)[generation - 1]]

    def _spec(self, generation: int) -> str:
        return self.stores.spec_of(self._teacher_runs(generation), "ensemble.yaml")

    def _label(self, generation: int) -> None:
        self.stores.fill_soft(self._soft(generation), self._spec(generation), self.config.targets)

    def _teacher_config(self, number: int) -> TrainConfig:
        return self._train_config(
            f"teacher-{number}",
            self.config.teacher,
            {"labeled": SourceConfig(self.stores.to_train_from("labeled"), "labeled")},
            # Of a teacher that is there (0 updates) only variants are trained, with schedules of their own.
            [PhaseConfig(self.config.teacher.steps or 1, {"labeled": 1})],
            seed=(1 if self.config.shared_teacher else self.config.seed) * 100 + number,
        )

    def _align_config(self, run: Path, number: int) -> TrainConfig:
        """The training of a teacher on the alignments of a round; the same for every seed, as the stores are."""
        config = self._train_config(
            run.name,
            self.config.teacher,
            {"labeled": SourceConfig(str(self.stores.aligned("labeled", number)), "labeled")},
            [PhaseConfig(self.config.teacher.steps, {"labeled": 1})],
            seed=0,
        )
        return dataclasses.replace(config, run=str(run), dev=str(self.stores.aligned("dev", number)))

    def _student_config(self, name: str) -> TrainConfig:
        student, transcripts = self.config.student, "transcribed" if name == "upper" else "labeled"
        sources = {"labeled": SourceConfig(self.stores.to_train_from(transcripts, student=True), "labeled")}
        schedule = [PhaseConfig(student.steps, {"labeled": 1})]
        if name == "distilled":
            sources["soft"] = SourceConfig(str(self.soft_store), "soft", frame_rate_map=self.config.frame_rate_map)
            schedule = self.config.distilled
        return self._train_config(name, student, sources, schedule, seed=self.config.seed)

    def _sequence_config(self, start: str, kind: str) -> TrainConfig:
        given = self.config.sequence[kind]
        sources = {"labeled": SourceConfig(self.stores.to_train_from("labeled", student=True), "labeled")}
        config = self._train_config(
            f"{start}-{kind}", self.config.student, sources, given.schedule, seed=self.config.seed
        )
        return dataclasses.replace(config, init=str(self.run_folder(start) / "final.pt"), sequence=given.settings)

    def _variant_config(self, name: str) -> TrainConfig:
        given = self.config.variants[name]
        like = self._teacher_config(1) if given.of == "teacher" else self._student_config(given.of)
        base = dataclasses.replace(like, run=str(self.run_folder(name)))
        if given.init:
            base = dataclasses.replace(base, init=str(self.run_folder(given.init) / "final.pt"))
        if given.of == "distilled":
            soft = base.sources["soft"]
            if has_own_store(given):
                soft = dataclasses.replace(soft, store=str(self.stores.root(self._store_of(given))))
            if given.unlabeled_speakers or given.without_speakers:
                speakers = some_speakers(name, given, self._speakers(), self.config.seed)
                soft = dataclasses.replace(soft, speakers=speakers)
            base = dataclasses.replace(base, sources=base.sources | {"soft": soft})
        if given.text_teacher:
            store = str(self.stores.root(self.stores.text_name(given.text_teacher)))
            # A text has no frames of its own, so any map takes it from the student's to the teacher's.
            text = SourceConfig(store, frame_rate_map="nearest" if given.of == "teacher" else "")
            base = dataclasses.replace(base, sources=base.sources | {"text": text})
        if given.untranscribed:
            store = str(self.stores.root(self._further(given)))
            frame_rate_map = "" if given.of == "teacher" else self.config.frame_rate_map
            further = SourceConfig(store, "soft", frame_rate_map=frame_rate_map)
            base = dataclasses.replace(base, sources=base.sources | {"further": further})
        if "factory" in (given.train.get("model") or {}):
            # Another model has arguments of its own.
            base = dataclasses.replace(base, model=dataclasses.replace(base.model, args={}))
        return configs.changed(base, given.train, f"variants.{name}.train")

    def _speakers(self) -> set[str]:
        """Of the untranscribed set."""
        return {row["speaker"] for row in Store.open(str(self.soft_store)).rows(["speaker"])}

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
            device=self.config.device,
            threads=1,
            model=system.model,
            front_end=system.front_end,
            inventory=InventoryConfig(
                self.lexicon, self.config.topology, self.config.states_per_phone, text=self.config.text
            ),
            sources=sources,
            schedule=schedule,
            init=str(_run_of(system.init) / "final.pt") if system.init else None,
            soft_loss=self.config.soft_loss,
            optimizer=system.optimizer,
            augment=system.augment,
            batch=system.batch,
            scale=ScaleConfig(precision=system.precision),
            dev=self.stores.to_train_from("dev", student=system is self.config.student),
            log_steps=20,
            # Reading dev costs as much as some 30 updates.
            eval_steps=max(100, sum(phase.steps for phase in schedule) // 20),
            checkpoint_steps=100,
        )


def _run_of(init: str) -> Path:
    """The folder of a finished run that is named by itself or by its `final.pt`."""
    path = Path(init)
    return path.parent if path.name == "final.pt" else path


def _posteriors(generation: int) -> str:
    """Name of the store of a generation's posteriors."""
    return "soft" if generation == 1 else f"soft-{generation}"
