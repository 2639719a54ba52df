"""The config of a study: a corpus, a teacher, a student, and how they are trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkd.acoustic.lattice import LatticeSettings
from asrkd.config import changed, check, same_as, setting
from asrkd.corpus.augment import AugmentConfig
from asrkd.corpus.inventory import InventoryConfig
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.topology import make_topology
from asrkd.decoding.decode import BEAM
from asrkd.decoding.search import DECODERS
from asrkd.distributed.config import ScaleConfig
from asrkd.models.build import ModelConfig
from asrkd.sequence.grammar import why_no_penalty
from asrkd.store.embedding import parse_embedding
from asrkd.streaming.plan import BatchConfig
from asrkd.targets.codecs import DEFAULT_CODEC, parse_codec
from asrkd.training.config import TrainConfig
from asrkd.training.objective import SoftLossConfig
from asrkd.training.optimizer import OptimizerConfig
from asrkd.training.schedule import PhaseConfig
from asrkd.training.sequence import SequenceConfig
from asrkd.training.sources import SourceConfig

STUDENTS = ("labeled", "distilled", "upper")
TARGETS = ("posteriors", "lattice")
# How the names of other runs begin.
_RUNS = ("teacher-", "generation-", *(f"{student}-" for student in STUDENTS))
# Keys of a variant that are about its source `soft`.
_OF_SOFT = ("unlabeled_speakers", "without_speakers", "teachers", "targets", "codec", "embed", "layer", "codebooks")


@dataclass
class SystemConfig:
    """A model and how it is trained."""

    model: ModelConfig = setting(ModelConfig)
    """The model."""
    front_end: dict[str, Any] = same_as(TrainConfig, "front_end")
    """Keys of the front end that differ from its defaults (`asrkd.corpus.front_end`)."""
    optimizer: OptimizerConfig = setting(OptimizerConfig)
    """The optimizer."""
    augment: AugmentConfig = setting(AugmentConfig)
    """Augmentation."""
    batch: BatchConfig = setting(BatchConfig)
    """Batches."""
    steps: int = setting(1000, at_least=0)
    """Updates on labeled data; 0 takes the teacher `init` as it is."""
    precision: str = same_as(ScaleConfig, "precision")
    """`scale.precision` of its training."""
    init: str = ""
    """A finished run, or its `final.pt`, of the same model and units, from whose weights it starts; an empty name starts from the model's own."""


@dataclass
class SearchConfig:
    """One way of decoding; of what is a list, each system takes the best on the dev set."""

    decoder: str = setting("", one_of=("", *DECODERS))
    """`greedy`, `beam`, `graph` or `k2`; an empty name takes what the units, the lexicon and the grammar ask for."""
    grammar: str = ""
    """Language model of words; an empty name searches without."""
    lexicon: str = ""
    """Lexicon of the words to find, or the spec of another tokenizer; an empty name takes the study's."""
    errors: str = setting("words", one_of=("words", "characters"))
    """What is counted; the blanks between words are characters, too."""
    acoustic_scales: list[float] = setting(lambda: [1.0])
    """Factors of the acoustic scores."""
    blank_penalties: list[float] = setting(lambda: [0.0])
    """Costs of the blank of `ctc` models, in nats."""
    insertion_penalties: list[float] = setting(lambda: [0.0])
    """Costs of every word, in nats; without a grammar, or with the decoder `beam`."""
    leave_early: list[bool] = setting(lambda: [False])
    """As in `decoding`."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name in ("acoustic_scales", "blank_penalties", "insertion_penalties", "leave_early"):
            if not getattr(self, name):
                yield name, f"must have at least one value to choose from on dev, not {getattr(self, name)!r}"


@dataclass
class DecodingConfig:
    """Decoding of every system."""

    beam: float = setting(BEAM, above=0)
    """Beam of the search."""
    acoustic_scale: float = setting(1.0, above=0)
    """Factor of the acoustic scores."""
    prior_scale: float = setting(1.0, at_least=0)
    """Factor of the log-prior that is subtracted from the scores of `hmm` models."""
    insertion_penalties: list[float] = setting(lambda: [0.0, 2.0, 4.0, 7.0, 10.0])
    """Costs of every word, in nats, of which each system takes the best on the dev set."""
    leave_early: list[bool] = setting(lambda: [False, True])
    """Whether an `hmm` phone may end after any of its states, as natural phones of less than two frames do; each system takes the best of these on the dev set."""
    dev: dict[str, str] = setting(dict)
    """For a test, by its name, the set of `data` on which each system's scales and penalties for it are chosen, e.g. `{noisy: dev_noisy}`; for all others that is `dev`."""
    searches: dict[str, SearchConfig] = setting(dict)
    """Several ways of decoding, by name, each with tables of its own; the first is the one by which a study judges on dev. Without any there is one, by the keys above."""

    def __post_init__(self) -> None:
        check(self, "decoding")

    def all_searches(self) -> dict[str, SearchConfig]:
        """The searches by name; of a single one the name is empty."""
        one = SearchConfig(
            acoustic_scales=[self.acoustic_scale],
            insertion_penalties=self.insertion_penalties,
            leave_early=self.leave_early,
        )
        return self.searches or {"": one}

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for name in ("insertion_penalties", "leave_early"):
            if not getattr(self, name):
                yield name, f"must have at least one value to choose from on dev, not {getattr(self, name)!r}"


@dataclass
class LatticeConfig:
    """How the targets `lattice` are made: the teacher's posteriors over every path of the lexicon's words (`asrkd.acoustic.lattice`)."""

    lexicon: str = ""
    """The words that there may be, as tokens of the study's; an empty name takes the study's own `lexicon`."""
    grammar: str = ""
    """ARPA file, or a grammar of sentences (`NAME.fst.txt`); an empty name takes a loop of the words."""
    acoustic_scale: float = same_as(LatticeSettings, "acoustic_scale")
    """Factor of the teacher's scores."""
    insertion_penalty: float = same_as(LatticeSettings, "insertion_penalty")
    """Cost of every word, in nats; not with a grammar."""

    def __post_init__(self) -> None:
        check(self, "lattice")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if why := why_no_penalty(self.grammar or None, self.insertion_penalty):
            yield "insertion_penalty", why


@dataclass
class SequenceStageConfig:
    """Sequence training on the labeled set, from a finished student."""

    schedule: list[PhaseConfig] = setting(list)
    """The phases, one after another, over the source `labeled`."""
    settings: SequenceConfig = setting(SequenceConfig)
    """The key `sequence` of that training."""


@dataclass
class VariantConfig:
    """A further student, or teacher, with the same data and seed, trained in another way."""

    of: str = setting("distilled", one_of=(*STUDENTS, "teacher"))
    """What it differs from: the student `distilled`, `labeled` or `upper`, or the first `teacher`, for another teacher (whose students name it in `teachers`)."""
    train: dict[str, Any] = setting(dict)
    """Keys of a training's config that differ from that one's, e.g. `{soft_loss: {temperature: 2}}`."""
    unlabeled_speakers: int = setting(0, at_least=0)
    """Train on the untranscribed speech of N speakers, chosen by the seed (a smaller choice is part of a larger one); 0 takes all."""
    without_speakers: int = setting(0, at_least=0)
    """Leave out the first N speakers of that order: those that another variant has."""
    teachers: list[str] = setting(list)
    """Runs (teachers, students, other variants) whose mean posteriors it learns from, in place of the study's teacher."""
    targets: str = setting("", one_of=("", *TARGETS))
    """`posteriors` or `lattice`, in place of the study's; an empty name keeps them."""
    codec: str = setting("", form=parse_codec)
    """Codec of the targets, in place of the study's; an empty name keeps it."""
    embed: str = setting("", form=parse_embedding)
    """What the store holds for it to read (`asrkd label plan --embed`), in place of FLAC; an empty name keeps that. Features are those of the teacher, so both must have one front end."""
    layer: str = ""
    """Module of the teacher's model (a single teacher, with `posteriors`) that is stored next to the targets, for a `layer_loss`."""
    codebooks: int = setting(0, at_least=0)
    """Store that layer as indexes into N codebooks of 256 entries; 0 stores numbers."""
    text_teacher: str = ""
    """Spec of a text teacher (docs/teachers.md) that writes the untranscribed set's text, a source `text` in addition to `soft`; `train` gives its share of the schedule."""
    untranscribed: list[str] = setting(list)
    """Further corpora of untranscribed speech, e.g. synthetic speech, for this student alone: labeled by what labels its source `soft`, with the same targets, a source `further` in addition to `soft`; `train` gives its share of the schedule."""
    init: str = ""
    """Student from whose end it starts; an empty name starts from random weights."""
    processes: int = setting(1, at_least=1)
    """Processes that train it, by torchrun."""
    labeled: str = "labeled"
    """Student with labeled data alone that the tables compare it with."""
    upper: str = "upper"
    """Student with all transcripts that the tables compare it with."""


@dataclass(kw_only=True)
class StudyConfig:
    """One seed of a study."""

    work: str
    """Folder for everything that the study writes."""
    data: str
    """Folder with `lexicon.txt` and, as `NAME.jsonl.gz`, the cuts of `labeled`, `unlabeled`, `transcribed` (the unlabeled ones with words, for the upper bound alone), `dev` and the tests."""
    stores: str = ""
    """Folder of the stores that all seeds share (transcripts and alignments); an empty name puts them in `work`."""
    title: str = "asrkd"
    """Title of the report."""
    seed: int = setting(1, at_least=0)
    """Seed of everything random."""
    device: str = same_as(TrainConfig, "device")
    """`device` of every training, and where the untranscribed set is labeled."""
    topology: str = same_as(InventoryConfig, "topology")
    """`inventory.topology` of every training."""
    states_per_phone: int = same_as(InventoryConfig, "states_per_phone")
    """`inventory.states_per_phone` of every training."""
    lexicon: str = ""
    """Lexicon of the words, or the spec of another tokenizer (docs/tokens.md), of every training; an empty name takes `lexicon.txt` of `data`."""
    text: TextRules = setting(TextRules)
    """`inventory.text` of every training."""
    align_rounds: int = setting(0, at_least=0)
    """Align the sets again up to N times, for `hmm`, by a teacher trained on the labels of the round before; a round that does not lower the word error rate on dev is the last and is not taken (`align-rounds.json` next to the stores says which was)."""
    untranscribed: list[str] = setting(list)
    """Further corpora of untranscribed speech, as `asrkd label plan` takes them, e.g. what `asrkd segment` wrote: labeled with the set `unlabeled`."""
    upper: bool = True
    """Whether the untranscribed set has transcripts for comparison (`transcribed`), from which a student is trained as an upper bound."""
    tests: dict[str, str] = setting(dict)
    """Test sets, by name: files of `data` without their suffix."""
    targets: str = setting("posteriors", one_of=TARGETS)
    """What the students learn from: the teacher's `posteriors` as they are, or those of its `lattice`."""
    lattice: LatticeConfig = setting(LatticeConfig)
    """How the targets `lattice` are made."""
    codec: str = setting(DEFAULT_CODEC, form=parse_codec)
    """Codec of the targets."""
    frame_rate_map: str = same_as(SourceConfig, "frame_rate_map")
    """`sources.NAME.frame_rate_map` of the students, where the teacher's frames are others."""
    unit_hours: float = setting(0.1, above=0)
    """Hours of audio per work unit of labeling."""
    teachers: int = setting(1, at_least=1)
    """Teachers trained on the labeled set; several label as an ensemble."""
    shared_teacher: bool = False
    """One teacher for all seeds, trained and labeling once, as suits a pretrained one; its run and stores are in `shared`, next to `stores`."""
    teacher: SystemConfig = setting(SystemConfig)
    """The teacher."""
    generations: list[list[PhaseConfig]] = setting(list)
    """A schedule like `distilled` for every later generation: a teacher distilled from the one before labels the untranscribed set again (born-again networks, Furlanello et al. 2018)."""
    student: SystemConfig = setting(SystemConfig)
    """The student."""
    distilled: list[PhaseConfig] = setting(list)
    """Schedule of the distilled student, over the sources `soft` and `labeled`."""
    sequence: dict[str, SequenceStageConfig] = setting(dict)
    """Sequence training of the students `labeled` and `distilled`, by name (needs k2)."""
    variants: dict[str, VariantConfig] = setting(dict)
    """Further students, by name."""
    soft_loss: SoftLossConfig = setting(SoftLossConfig)
    """The loss on stored targets."""
    decoding: DecodingConfig = setting(DecodingConfig)
    """Decoding of every system."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def tokenizer(self) -> str:
        """The spec of what spells transcripts."""
        return self.lexicon or str(Path(self.data) / "lexicon.txt")

    @property
    def students(self) -> tuple[str, ...]:
        """Those of `STUDENTS` that this study trains."""
        return tuple(name for name in STUDENTS if self.upper or name != "upper")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.student.steps:
            yield "student.steps", "is 0, but a student has to be trained; give its updates"
        if not self.teacher.steps and (not self.teacher.init or self.teachers > 1):
            yield (
                "teacher.steps",
                "is 0, which is for one teacher that is there: name its run (teacher.init), and leave out teachers",
            )
        for test, cuts in self.decoding.dev.items():
            if test not in self.tests or cuts in self.tests.values():
                yield (
                    f"decoding.dev.{test}",
                    f"is {cuts!r}, but must name a set that is not a test, for one of the tests {', '.join(self.tests)}",
                )
        if self.align_rounds and not make_topology(self.topology).needs_alignment:
            yield (
                "align_rounds",
                f"is {self.align_rounds}, but topology {self.topology!r} trains on transcripts without an alignment; leave it out",
            )
        for name, variant in self.variants.items():
            if not re.fullmatch(r"[\w.-]+", name) or name in (*STUDENTS, "teacher", "first") or name.startswith(_RUNS):
                yield (
                    f"variants.{name}",
                    f"cannot be a folder next to those of {', '.join(STUDENTS)}; give another name of letters, digits, . _ and -",
                )
            if variant.of == "upper" and not self.upper:
                yield f"variants.{name}.of", "is 'upper', but this study has no upper bound (upper: false)"
            if variant.of == "teacher" and not self.teacher.steps and "schedule" not in variant.train:
                yield (
                    f"variants.{name}.train.schedule",
                    "is missing, and teacher.steps is 0, so it would have no updates; give a schedule",
                )
            if variant.of != "distilled":
                for key in _OF_SOFT:
                    if value := getattr(variant, key):
                        yield (
                            f"variants.{name}.{key}",
                            f"is {value!r}, but {variant.of!r} has no soft targets; leave it out, or let it be a variant of 'distilled'",
                        )
            for key in ("labeled", "upper"):
                if getattr(variant, key) not in (*STUDENTS, *self.variants):
                    yield f"variants.{name}.{key}", f"must be a student of this study, not {getattr(variant, key)!r}"
            # Raises what is wrong with its keys now rather than hours later.
            kinds = ("labeled", "soft") if variant.of == "distilled" else ("labeled",)
            base = TrainConfig(
                run="run",
                inventory=InventoryConfig("lexicon.txt", self.topology, self.states_per_phone),
                sources={kind: SourceConfig("store", kind) for kind in kinds}
                | ({"text": SourceConfig("store")} if variant.text_teacher else {})
                | ({"further": SourceConfig("store", "soft")} if variant.untranscribed else {}),
                schedule=[PhaseConfig(1, {"labeled": 1})],
                dev="dev",
                init=variant.init or None,
            )
            changed(base, variant.train, f"variants.{name}.train")
