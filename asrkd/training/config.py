"""The config of one training run: what `asrkd train CONFIG key=value ...` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from asrkd.config import check, setting
from asrkd.corpus.augment.samples import CODECS
from asrkd.corpus.topology import make_topology
from asrkd.distributed.config import ScaleConfig
from asrkd.errors import ConfigError
from asrkd.losses.soft import POLICIES
from asrkd.streaming.source import BOUNDED
from asrkd.targets.frame_rate_map import FrameRateMap

KINDS = ("labeled", "soft")
CRITERIA = ("frame", "mmi", "lf_mmi", "smbr", "mwer")
# Losses of layers that compare vectors, and those that compare similarities between frames.
VECTORS, RELATIONS = ("mse", "cosine"), ("similarity", "attention")

# Marks of a key, by which a run that was stopped is compared with the config of the start that resumes it (`asrkd.training.run_folder`); a
# key without a mark changes results, so that it must be as it was.
MAY_CHANGE = "may change"
BY_CONTENT = "by content"


@dataclass
class ModelConfig:
    """The `nn.Module` to train."""

    factory: str = "asrkd.models:LSTMStudent"
    """`package.module:factory`, called with `input_dim`, `num_classes` and `args`."""
    args: dict[str, Any] = setting(dict)
    """Further arguments of the factory."""
    subsampling_factor: int = setting(1, at_least=1)
    """Input frames per output frame."""
    int8: bool = False
    """Train with the weights of LSTMs and linear layers rounded to 8 bits, for use as `int8:RUN`."""

    def __post_init__(self) -> None:
        check(self, "model")


@dataclass
class InventoryConfig:
    """The output units, made from `lexicon`: the path of one, or the spec of another tokenizer (`asrkd.corpus.tokenizer`)."""

    lexicon: str = setting(resume=BY_CONTENT)
    """File with the pronunciations of every word."""
    topology: str = setting("ctc", form=make_topology)
    """`hmm` (states of phones, trained on alignments) or `ctc` (phones and blank)."""
    states_per_phone: int = setting(2, at_least=1)
    """HMM states per phone; `ctc` ignores it."""

    def __post_init__(self) -> None:
        check(self, "inventory")


@dataclass
class SourceConfig:
    """A store to train from, by name."""

    store: str = setting(resume=BY_CONTENT)
    """Folder or URI of the store."""
    kind: str = setting("labeled", one_of=KINDS)
    """`labeled` (CTC, or cross-entropy with the alignment) or `soft` (cross-entropy with the stored targets)."""
    weight: float = setting(1.0, at_least=0)
    """Factor of this source's loss."""
    vocabulary_map: str = setting("", resume=BY_CONTENT)
    """File that maps the units of a teacher with another inventory: a teacher unit, a tab and a student unit per line."""
    lossy_map: bool = False
    """Allow the vocabulary map to leave out teacher units."""
    frame_rate_map: str = setting("", form=FrameRateMap)
    """`pick`, `pick:OFFSET` or `pool`, for a student whose frame shift is a multiple of the teacher's."""
    snapshot: str = ""
    """Train only from the work units pinned by `asrkd store snapshot` under this name."""
    bounds: dict[str, list[float | None]] = setting(dict, infinite=True)
    """Keep only utterances within a lowest and a highest value of `duration`, `num_frames`, `kept_mass`, `entropy` or `confidence`, e.g. `{confidence: [0.6, null]}`."""
    speakers: list[str] = setting(list)
    """Keep only utterances of these speakers; an empty list keeps all."""
    audio: str = setting("", resume=BY_CONTENT)
    """Manifest of lhotse with the audio of a store that embeds none."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for column, pair in self.bounds.items():
            if column not in BOUNDED:
                yield f"bounds.{column}", f"there is no such column to filter by; choose from {', '.join(BOUNDED)}"
            elif len(pair) != 2:
                yield f"bounds.{column}", f"must be a lowest and a highest value (null for none), not {pair!r}"


@dataclass
class PhaseConfig:
    """A stretch of the schedule (scheduled learning: Parthasarathi & Ström 2019, section 3.2)."""

    steps: int = setting(at_least=1)
    """Updates of this phase."""
    mixture: dict[str, int] = setting(dict, at_least=1)
    """Batches drawn from each source, as integer shares."""
    until: dict[str, int] = setting(dict, at_least=0)
    """Shares at the end of the phase, towards which those of `mixture` move linearly."""
    learning_rate_scale: float = setting(1.0, at_least=0)
    """Factor of the optimizer's learning rate in this phase."""
    learning_rate: float | None = setting(None, above=0)
    """Constant learning rate of this phase, in place of the optimizer's schedule."""
    criterion: str = setting("frame", one_of=CRITERIA)
    """Loss on labeled batches: `frame` (cross-entropy or CTC), or a sequence criterion (`mmi`, `lf_mmi`, `smbr`, `mwer`; needs k2)."""
    chunk_frames: int = setting(0, at_least=0)
    """Truncate backpropagation in a streaming model to chunks of N input frames; 0 trains on whole utterances."""

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.mixture:
            yield "mixture", f"must give at least one source a share, not {self.mixture!r}"
        if self.until and not any(self.until.values()):
            yield "until", f"must give at least one source a share, not {self.until!r}"


@dataclass
class SoftLossConfig:
    """The loss on stored targets."""

    missing_mass: str = setting("renormalize", one_of=POLICIES)
    """What to do with probability mass that was not stored (`asrkd.losses.soft`)."""
    temperature: float = setting(1.0, above=0)
    """Softmax temperature of both teacher and student."""
    alpha: float = setting(1.0, at_least=0, at_most=1)
    """Weight of the soft targets; 1 - alpha is that of the same utterances' hard labels (Hinton, Vinyals & Dean 2015)."""
    targets: str = setting("soft", one_of=("soft", "top"))
    """`soft`, or `top` to train on the teacher's top class (`hmm`) or best path (`ctc`) as a pseudo-label."""
    around_labels: int | None = setting(None, at_least=0)
    """With `ctc`, train only on frames whose top class is not blank and N frames on either side; null trains on all frames."""
    delay: int = setting(0, at_least=0)
    """Frames by which the student's output may lag behind the teacher's."""
    function: str = ""
    """A loss of your own, `package.module:function`, called with (logits (M, V), targets, batch) and returning a sum over the M frames."""

    def __post_init__(self) -> None:
        check(self, "soft_loss")


@dataclass
class HardLossConfig:
    """The loss on hard labels."""

    label_smoothing: float = setting(0.0, at_least=0, at_most=1)
    """Share of an alignment's label that is spread evenly over all classes."""

    def __post_init__(self) -> None:
        check(self, "hard_loss")


@dataclass
class LayerLossConfig:
    """The loss on a layer of the teacher, on soft sources labeled with `--layer` (`asrkd.training.layer_loss`)."""

    layer: str = ""
    """Module of the student that is compared with the teacher's layer; an empty name disables the loss."""
    loss: str = setting("mse", one_of=(*VECTORS, "codebooks", *RELATIONS))
    """`mse` or `cosine` (through a linear layer to the teacher's width), `similarity` or `attention` (between frames), or `codebooks` (for stored indexes)."""
    weight: float = setting(1.0, at_least=0)
    """Factor of this loss."""

    def __post_init__(self) -> None:
        check(self, "layer_loss")


@dataclass
class MutualConfig:
    """Mutual learning: students of one shape that teach each other in one run (Zhang et al. 2018)."""

    students: int = setting(1, at_least=1)
    """Number of students; the result is the first, the others are written as `peer-2.pt` and so on."""
    weight: float = setting(1.0, at_least=0)
    """Factor of the mean KL(peer || student) in each student's loss."""
    temperature: float = setting(1.0, above=0)
    """Softmax temperature of the students in that KL divergence."""

    def __post_init__(self) -> None:
        check(self, "mutual")


@dataclass
class SequenceConfig:
    """Phases with a sequence criterion (`asrkd.sequence.losses`; needs k2)."""

    acoustic_scale: float = setting(1.0, above=0)
    """Factor of the scores: log-posteriors, less the log-prior with `hmm`."""
    grammar: str = setting("", resume=BY_CONTENT)
    """ARPA file for the lattices of `mmi`, `smbr` and `mwer`; without it they allow any sequence of words."""
    phone_order: int = setting(2, at_least=2)
    """Order of the phone n-gram of `lf_mmi`."""
    boost: float = setting(0.0, at_least=0)
    """Boosting factor of boosted MMI; 0 is plain MMI."""
    reject: float = setting(0.0, at_least=0, below=1)
    """Frame rejection: ignore frames where the reference has less than this posterior; 0 keeps all."""
    ignore_silence: bool = False
    """Do not count errors in silence (`smbr`)."""
    smoothing: float = setting(0.1, at_least=0, below=1)
    """Weight of the frame loss that is mixed in (f-smoothing, Su et al. 2013)."""
    smooth_with: str = setting("labels", one_of=("labels", "soft"))
    """Targets of that frame loss: the source's `labels` or its stored `soft` targets."""
    search_beam: float = setting(20.0, above=0)
    """Drop a state whose score is worse than the frame's best by more than this."""
    output_beam: float = setting(8.0, above=0)
    """Drop an arc that is on no path within this of the best."""
    min_active: int = setting(30, at_least=0)
    """States kept in every frame, whatever the beam."""
    max_active: int = setting(10000, at_least=1)
    """Most states kept in a frame."""
    num_paths: int = setting(100, at_least=1)
    """Paths sampled from each lattice for `mwer`."""

    def __post_init__(self) -> None:
        check(self, "sequence")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.min_active >= self.max_active:
            yield "min_active", f"must be below max_active ({self.max_active}), not {self.min_active}"


@dataclass
class DevDecodingConfig:
    """Word error rate on the dev store during training, through any sequence of the lexicon's words."""

    every: int = setting(0, at_least=0)
    """Decode the dev store at every N-th evaluation; 0 disables it."""
    acoustic_scale: float = setting(1.0, above=0)
    """Factor of the acoustic scores."""
    insertion_penalty: float = 0.0
    """Cost of every word, in nats."""
    beam: float = setting(16.0, above=0)
    """Beam of the search."""

    def __post_init__(self) -> None:
        check(self, "dev_decoding")


@dataclass
class OptimizerConfig:
    """The optimizer and its learning rate: linear warm-up, then cosine decay over the whole schedule."""

    name: str = setting("adamw", one_of=("adamw", "sgd"))
    """`adamw`, or `sgd` with Nesterov momentum."""
    learning_rate: float = setting(0.001, above=0)
    """Peak learning rate."""
    momentum: float = setting(0.9, at_least=0, below=1)
    """Nesterov momentum of `sgd`; 0 disables it."""
    weight_decay: float = setting(0.0, at_least=0)
    """Weight decay."""
    warmup_steps: int = setting(100, at_least=0)
    """Updates of linear warm-up."""
    final_scale: float = setting(0.02, at_least=0)
    """Learning rate at the end, as a fraction of the peak."""
    clip_norm: float = setting(5.0, above=0, infinite=True)
    """Largest norm of the gradient; `.inf` disables clipping."""
    ema_decay: float = setting(0.99, at_least=0, below=1)
    """Decay of the exponential moving average of the weights, which is the trained model; 0 disables averaging."""

    def __post_init__(self) -> None:
        check(self, "optimizer")


@dataclass
class AugmentConfig:
    """Augmentation of the training audio and features; the targets stay those of the clean audio (`asrkd.corpus.augment`)."""

    noise: list[str] = setting(list, resume=BY_CONTENT)
    """Files and folders of noise."""
    noise_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that get noise."""
    snr: list[float] = setting(lambda: [0.0, 20.0])
    """Lowest and highest signal-to-noise ratio in dB."""
    gain_db: float = setting(0.0, at_least=0)
    """Largest random change of volume in dB, up or down."""
    time_masks: int = setting(0, at_least=0)
    """SpecAugment time masks per utterance."""
    time_mask_frames: int = setting(5, at_least=0)
    """Largest width of a time mask, in frames."""
    frequency_masks: int = setting(0, at_least=0)
    """SpecAugment frequency masks per utterance."""
    frequency_mask_bins: int = setting(8, at_least=0)
    """Largest width of a frequency mask, in mel bins."""
    frequency_warp: float = setting(0.0, at_least=0, below=0.5)
    """Largest change of the vocal tract length (VTLP), as a fraction; 0 disables it."""
    reverb_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that get reverberation."""
    reverb: list[str] = setting(list, resume=BY_CONTENT)
    """Files and folders of impulse responses; without any, rooms are simulated."""
    reverb_rooms: int = setting(40, at_least=1)
    """Number of simulated rooms."""
    codec_probability: float = setting(0.0, at_least=0, at_most=1)
    """Share of utterances that pass through a lossy codec."""
    codecs: list[str] = setting(lambda: list(CODECS), one_of=CODECS)
    """Lossy codecs to draw from."""
    time_warp: int = setting(0, at_least=0)
    """Largest shift of a frame by SpecAugment's time warp, in frames, which moves the targets too; 0 disables it."""
    speed: list[float] = setting(list)
    """Must stay empty: speed perturbation would change the frames that the teacher labeled."""

    def __post_init__(self) -> None:
        check(self, "augment")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if len(self.snr) != 2 or self.snr[0] > self.snr[1]:
            yield "snr", f"must be a lowest and a highest value in dB, not {self.snr!r}"
        if self.codec_probability and not self.codecs:
            yield "codecs", f"must name at least one of {', '.join(CODECS)}, not {self.codecs!r}"
        if self.speed:
            yield (
                "speed",
                f"must stay empty, not {self.speed!r}: stored targets are those of the audio at its own speed, frame by frame; use time_warp, which "
                "moves the targets with the speech, or label copies of the cuts at other speeds (lhotse's perturb_speed)",
            )


@dataclass
class BatchConfig:
    """How utterances are grouped into batches."""

    max_frames: int = setting(4000, at_least=1)
    """Budget of a batch in padded frames of the front end: utterances times frames of the longest."""
    max_utterances: int = setting(64, at_least=1)
    """Most utterances in a batch."""
    streams: int = setting(1, at_least=1)
    """Batches per update; processes share them, and their gradients add up."""
    block_utterances: int = setting(2048, at_least=1)
    """Utterances of a stream among which batches are formed: more give less padding and better shuffling, and take more memory."""

    def __post_init__(self) -> None:
        check(self, "batch")


@dataclass
class LoaderConfig:
    """How batches are read, which changes no batch."""

    num_workers: int = setting(0, at_least=0)
    """Processes that read batches; 0 reads in a thread."""
    prefetch: int = setting(4, at_least=1)
    """Batches that each worker, or the thread, prepares ahead."""
    cache_mb: float = setting(1024.0, at_least=0)
    """Memory for decoded audio or features, in MB, shared among the workers."""
    unpack_on_device: bool = False
    """Keep targets packed until they are on the device."""
    disk_cache: str = ""
    """Local folder that caches row groups of stores on an object store; an empty name disables it."""
    disk_cache_gb: float = setting(50.0, above=0)
    """Size of that folder, in GB."""

    def __post_init__(self) -> None:
        check(self, "loader")


def _device(name: str) -> None:
    try:
        torch.device(name)
    except RuntimeError:
        raise ConfigError(f"must be a device of torch such as cpu, cuda or cuda:1, not {name!r}") from None


@dataclass(kw_only=True)
class TrainConfig:
    """One training run, which follows from this and from the stores that it names."""

    run: str = setting(resume=MAY_CHANGE)
    """Folder of the run: config, checkpoints, metrics and result."""
    seed: int = setting(1, at_least=0)
    """Seed of everything random."""
    device: str = setting("cpu", form=_device, resume=MAY_CHANGE)
    """`cpu`, `cuda` or `cuda:N`; with several processes `cuda` gives each its own GPU."""
    threads: int = setting(0, at_least=0, resume=MAY_CHANGE)
    """CPU threads of torch; 0 leaves the number to torch."""
    model: ModelConfig = setting(ModelConfig)
    """The model."""
    front_end: dict[str, Any] = setting(dict)
    """Keys of the front end that differ from its defaults (`asrkd.corpus.front_end`)."""
    inventory: InventoryConfig
    """The output units."""
    sources: dict[str, SourceConfig] = setting(dict)
    """The stores to train from, by name."""
    schedule: list[PhaseConfig] = setting(list)
    """The phases, one after another."""
    soft_loss: SoftLossConfig = setting(SoftLossConfig)
    """The loss on stored targets."""
    hard_loss: HardLossConfig = setting(HardLossConfig)
    """The loss on hard labels."""
    layer_loss: LayerLossConfig = setting(LayerLossConfig)
    """The loss on a layer of the teacher."""
    mutual: MutualConfig = setting(MutualConfig)
    """Mutual learning."""
    sequence: SequenceConfig = setting(SequenceConfig)
    """Sequence training."""
    optimizer: OptimizerConfig = setting(OptimizerConfig)
    """The optimizer."""
    scale: ScaleConfig = setting(ScaleConfig)
    """Processes and precision."""
    augment: AugmentConfig = setting(AugmentConfig)
    """Augmentation."""
    batch: BatchConfig = setting(BatchConfig)
    """Batches."""
    loader: LoaderConfig = setting(LoaderConfig, resume=MAY_CHANGE)
    """Reading."""
    dev: str | None = setting(None, resume=BY_CONTENT)
    """Labeled store for the dev loss; null evaluates nothing."""
    dev_decoding: DevDecodingConfig = setting(DevDecodingConfig, resume=MAY_CHANGE)
    """Word error rate on the dev store."""
    init: str | None = setting(None, resume=BY_CONTENT)
    """Checkpoint whose weights to start from, e.g. `RUN/final.pt`; null starts from random weights."""
    prior: str = setting("", resume=BY_CONTENT)
    """Store whose mean posterior is the prior of an `hmm` model; without it, the mean posterior of the finished model, or with sequence criteria the prior of `init`."""
    log_steps: int = setting(20, at_least=1, resume=MAY_CHANGE)
    """Updates between two lines of metrics."""
    eval_steps: int = setting(200, at_least=1)
    """Updates between two evaluations on the dev store."""
    checkpoint_steps: int = setting(200, at_least=1, resume=MAY_CHANGE)
    """Updates between two checkpoints."""
    keep_best: int = setting(0, at_least=0)
    """Keep the N checkpoints with the lowest dev loss and average them into the result; 0 takes the last."""
    patience: int = setting(0, at_least=0)
    """Stop after N consecutive evaluations without improvement; 0 disables early stopping."""

    def __post_init__(self) -> None:
        check(self)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if not self.schedule:
            yield "schedule", f"must have at least one phase with steps and a mixture, not {self.schedule!r}"
        for number, phase in enumerate(self.schedule):
            for key, shares in (("mixture", phase.mixture), ("until", phase.until)):
                yield from _unknown(shares, self.sources, f"schedule[{number}].{key}")
        students = self.mutual.students
        if students > 1 and self.init:
            yield (
                "mutual.students",
                f"is {students}, but init {self.init!r} would start all of them alike, and they would have nothing to tell each other; leave one of "
                "the two out",
            )
        if students > 1 and any(phase.criterion != "frame" for phase in self.schedule):
            yield (
                "mutual.students",
                f"is {students}, but the schedule has a sequence criterion, which trains one student; train it on from the finished run (init)",
            )
        if self.layer_loss.layer and (students > 1 or any(phase.chunk_frames for phase in self.schedule)):
            yield (
                "layer_loss.layer",
                f"is {self.layer_loss.layer!r}, but mutual.students or chunk_frames is set, too; the layer of one model over whole utterances is "
                "compared, so leave one of them out",
            )
        for key in ("keep_best", "patience"):
            if getattr(self, key) and not self.dev:
                yield key, f"is {getattr(self, key)}, but the config names no dev store to tell the best by; set dev"


def _unknown(shares: Mapping[str, int], sources: Mapping[str, SourceConfig], key: str) -> Iterator[tuple[str, str]]:
    for name in shares:
        if name not in sources:
            yield f"{key}.{name}", f"there is no such source; choose from {', '.join(sources) or 'none'}"
