"""The config of a study: a corpus, a teacher, a student, and how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from asrkd.training.config import (
    AugmentConfig,
    BatchConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    SequenceConfig,
    SoftLossConfig,
)


@dataclass
class SystemConfig:
    """A model and how it is trained; `steps` updates on labeled data."""

    model: ModelConfig = field(default_factory=ModelConfig)
    front_end: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    steps: int = 1000


@dataclass
class DecodingConfig:
    """Decoding; the insertion penalty of each system and `leave_early` are the best of these on the dev set. `leave_early`: an `hmm` phone may
    end after any of its states, as natural phones of less than two frames do."""

    beam: float = 24.0
    acoustic_scale: float = 1.0
    prior_scale: float = 1.0
    insertion_penalties: list[float] = field(default_factory=lambda: [0.0, 2.0, 4.0, 7.0, 10.0])
    leave_early: list[bool] = field(default_factory=lambda: [False, True])


@dataclass
class LatticeConfig:
    """What the targets `lattice` are made with: the teacher's posteriors given that the words are the lexicon's, over every path of their loop
    (`asrkd.acoustic.lattice`)."""

    acoustic_scale: float = 1.0
    insertion_penalty: float = 0.0


@dataclass
class SequenceStageConfig:
    """Sequence training on the labeled set that starts from a finished student."""

    schedule: list[PhaseConfig] = field(default_factory=list)
    settings: SequenceConfig = field(default_factory=SequenceConfig)


@dataclass
class VariantConfig:
    """A further student with the same data and seed, trained in another way.

    `of`: the student that it differs from, `distilled`, `labeled` or `upper`. `labeled`, `upper`: the students without soft targets that the tables
    compare it with, where the study's own would not be of its kind. `train`: keys of a training's config (`asrkd.training.config`) in place of
    that student's, e.g. {soft_loss: {temperature: 2}}. `unlabeled_speakers`: of how many speakers it sees the untranscribed speech (0 all), chosen by
    the seed, the fewer among the more; `without_speakers` leaves out so many of the first in that order: those that another variant has.
    `teachers`: runs (teachers, students, other variants) whose mean posteriors it learns from, in place of the
    study's teacher: a student of its own kind (born again), a chain of ever smaller ones, one member of the ensemble. `targets`: `posteriors` or
    `lattice` in place of the study's; `codec` likewise. `layer`: a module of the teacher's model (of one teacher, with `posteriors`), which is stored beside the targets, as
    numbers or as indexes into so many `codebooks` of 256, for a `layer_loss`. `init`: the student whose end
    it starts from. `processes`: how many train it, by torchrun."""

    of: str = "distilled"
    train: dict[str, Any] = field(default_factory=dict)
    unlabeled_speakers: int = 0
    without_speakers: int = 0
    teachers: list[str] = field(default_factory=list)
    targets: str = ""
    codec: str = ""
    layer: str = ""
    codebooks: int = 0
    init: str = ""
    processes: int = 1
    labeled: str = "labeled"
    upper: str = "upper"


@dataclass
class StudyConfig:
    """One seed of a study.

    `data` is a folder with `labeled`, `unlabeled`, `transcribed`, `dev` and the `tests` (name: file), each as `.jsonl.gz` cuts, and
    `lexicon.txt`. `transcribed` holds the unlabeled cuts with their words and serves the upper bound alone.
    `stores` is the folder of the stores that all seeds share (transcripts and alignments), by default in `work`.
    `align_rounds`: how many times the sets are aligned again, for `hmm`, by a teacher trained on the labels of the round before; a round that does
    not lower the word error rate on dev is the last and not taken (`align-rounds.json` beside the stores says which was).
    `distilled` is the schedule of the distilled student over the sources `soft` and `labeled`.
    `teachers` is the number of teachers trained on the labeled set; more than one label as an ensemble.
    `generations` has a schedule like `distilled` for each later generation: a teacher that is distilled from the one before
    it labels the untranscribed set anew, and the last generation teaches the student (Furlanello et al. 2018, "Born-again
    neural networks").
    `targets`: what the students learn from, the teacher's `posteriors` as they are, or those of its `lattice`.
    `sequence`: by name, sequence training of the students `labeled` and `distilled`, each from where cross-entropy left it (needs k2).
    `variants`: by name, further students.
    """

    work: str = MISSING
    data: str = MISSING
    stores: str = ""
    title: str = "asrkd"
    seed: int = 1
    topology: str = "ctc"
    states_per_phone: int = 2
    align_rounds: int = 0
    tests: dict[str, str] = field(default_factory=dict)
    targets: str = "posteriors"
    lattice: LatticeConfig = field(default_factory=LatticeConfig)
    codec: str = "topk:20"
    unit_hours: float = 0.1
    teachers: int = 1
    teacher: SystemConfig = field(default_factory=SystemConfig)
    generations: list[list[PhaseConfig]] = field(default_factory=list)
    student: SystemConfig = field(default_factory=SystemConfig)
    distilled: list[PhaseConfig] = field(default_factory=list)
    sequence: dict[str, SequenceStageConfig] = field(default_factory=dict)
    variants: dict[str, VariantConfig] = field(default_factory=dict)
    soft_loss: SoftLossConfig = field(default_factory=SoftLossConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
