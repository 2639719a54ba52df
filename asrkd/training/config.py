"""The config of one training run: what `asrkd train CONFIG key=value ...` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from asrkd.distributed.config import ScaleConfig

KINDS = ("labeled", "soft")

# Marks of a field, by which a run that was stopped is compared with the config of the start that resumes it (`asrkd.training.run_folder`); a
# field without a mark changes results, so that it must be as it was.
MAY_CHANGE = "may change"
BY_CONTENT = "by content"
_MAY_CHANGE = {"resume": MAY_CHANGE}
_BY_CONTENT = {"resume": BY_CONTENT}


@dataclass
class ModelConfig:
    """`package.module:factory` of an `nn.Module`, called with `input_dim`, `num_classes` and `args`. `int8`: train it with the weights of LSTMs
    and linear layers rounded to eight bits (`asrkd.models.int8`); the finished run is then used as `int8:RUN`."""

    factory: str = "asrkd.models:LSTMStudent"
    args: dict[str, Any] = field(default_factory=dict)
    subsampling_factor: int = 1
    int8: bool = False


@dataclass
class InventoryConfig:
    """The output units, made from `lexicon`: the path of one, or the spec of another tokenizer (`asrkd.corpus.tokenizer`)."""

    lexicon: str = field(default=MISSING, metadata=_BY_CONTENT)
    topology: str = "ctc"
    states_per_phone: int = 2


@dataclass
class SourceConfig:
    """A store to train from. `kind` says which loss its utterances have: `labeled` (CTC, or cross-entropy with
    the alignment) or `soft` (soft cross-entropy with the stored targets). `vocabulary_map` is a table, a teacher unit, a tab and
    a student unit a line, for a teacher with another inventory; `lossy_map` lets it leave teacher units out. `frame_rate_map`
    (`pick`, `pick:OFFSET` or `pool`) is for a student whose frame shift is a multiple of the teacher's. `snapshot` names the units
    to train from, pinned by `asrkd store snapshot` while labeling goes on. `bounds` and `speakers` choose utterances: lowest and
    highest `duration`, `num_frames`, `kept_mass`, `entropy` or `confidence`, e.g. {confidence: [0.6, null]}. `audio` is the lhotse
    manifest with the audio of a store that embeds none."""

    store: str = field(default=MISSING, metadata=_BY_CONTENT)
    kind: str = "labeled"
    weight: float = 1.0
    vocabulary_map: str = field(default="", metadata=_BY_CONTENT)
    lossy_map: bool = False
    frame_rate_map: str = ""
    snapshot: str = ""
    bounds: dict[str, list[float | None]] = field(default_factory=dict)
    speakers: list[str] = field(default_factory=list)
    audio: str = field(default="", metadata=_BY_CONTENT)


@dataclass
class PhaseConfig:
    """A stretch of the schedule: `steps` updates, with batches drawn from the sources in these integer shares, which move to those
    of `until` if it is given.

    Scheduled learning (Parthasarathi & Ström 2019, section 3.2) interleaves shares of unlabeled and labeled data
    and ends on labeled data alone. `learning_rate` holds for the phase as it is, in place of the optimizer's schedule. `criterion`
    is what labeled batches are trained with: `frame` (cross-entropy or CTC), or a sequence criterion, `mmi`, `lf_mmi`, `smbr` or `mwer`.
    `chunk_frames`: input frames through which the gradient flows back at most, in a model that streams; 0 for whole utterances.
    """

    steps: int = MISSING
    mixture: dict[str, int] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    learning_rate_scale: float = 1.0
    learning_rate: float | None = None
    criterion: str = "frame"
    chunk_frames: int = 0


@dataclass
class SoftLossConfig:
    """The loss on stored targets: policy for the mass not kept, temperature.

    `alpha` is the weight of the soft targets, 1 - alpha that of the utterance's own hard labels (Hinton, Vinyals & Dean 2015), which its store
    must then have. `targets`: `soft`, or `top` for the teacher's most probable class alone as a hard pseudo-label (`hmm`) or its best path as
    a pseudo-transcript (`ctc`). `around_labels` (`ctc`) keeps the frames whose top class is no blank and so many on either side; all without
    it. `delay`: the student answers so many frames later. `function` is a loss of your own, `package.module:function`, called
    with (logits (M, V), targets, batch) of the M frames that are kept, for a sum over frames."""

    missing_mass: str = "renormalize"
    temperature: float = 1.0
    alpha: float = 1.0
    targets: str = "soft"
    around_labels: int | None = None
    delay: int = 0
    function: str = ""


@dataclass
class HardLossConfig:
    """The loss on hard labels: `label_smoothing` is the share of an alignment's label that is spread over all classes."""

    label_smoothing: float = 0.0


@dataclass
class LayerLossConfig:
    """What a layer of the teacher gave, of soft sources that were labeled with `--layer` (`asrkd.training.layer_loss`). `layer`: the student's that is
    compared with it, a module of the model, empty for none. `loss`: `mse`, `cosine` (through a linear layer to the teacher's width),
    `similarity` or `attention` (of frames among each other) for numbers, `codebooks` for indexes. `weight`: its factor."""

    layer: str = ""
    loss: str = "mse"
    weight: float = 1.0


@dataclass
class MutualConfig:
    """Mutual learning (Zhang et al. 2018): `students` of the same shape, from other random weights, learn in one run; each adds `weight` times the
    mean of KL(peer || student) to its loss. The run's result is the first; the others are `peer-2.pt` and so on."""

    students: int = 1
    weight: float = 1.0
    temperature: float = 1.0


@dataclass
class SequenceConfig:
    """Phases with a sequence criterion (`asrkd.sequence.losses`; needs k2). The lattices of `mmi`, `smbr` and `mwer` are made on the fly with
    the loop of the lexicon's words or the ARPA file `grammar`, and pruned by the beams; `lf_mmi` has a phone n-gram of `phone_order` and keeps
    every path. Scores (log-posteriors less `prior` for `hmm`) are multiplied by `acoustic_scale`. `boost` and `reject`: boosted MMI and frame
    rejection. `smoothing` is the share of the frame loss (Su et al. 2013, f-smoothing), with the source's labels or its stored soft targets."""

    acoustic_scale: float = 1.0
    grammar: str = field(default="", metadata=_BY_CONTENT)
    phone_order: int = 2
    boost: float = 0.0
    reject: float = 0.0
    ignore_silence: bool = False
    smoothing: float = 0.1
    smooth_with: str = "labels"
    search_beam: float = 20.0
    output_beam: float = 8.0
    min_active: int = 30
    max_active: int = 10000
    num_paths: int = 100


@dataclass
class DevDecodingConfig:
    """Word error rate on the dev store in training, as `dev_wer`: after each `every`-th evaluation, 0 never. Decoded through the loop of the
    lexicon's words; priors of an `hmm` model are its mean posteriors on the dev store."""

    every: int = 0
    acoustic_scale: float = 1.0
    insertion_penalty: float = 0.0
    beam: float = 16.0


@dataclass
class OptimizerConfig:
    """`name`: `adamw`, or `sgd` with Nesterov's `momentum` (0 for none); see `asrkd.training.optimizer`. Linear warm-up, then cosine decay to
    `final_scale` of the peak over the whole schedule."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_steps: int = 100
    final_scale: float = 0.02
    clip_norm: float = 5.0
    ema_decay: float = 0.99


@dataclass
class AugmentConfig:
    """Augmentation of the training audio and features; the targets stay those of the clean audio. See `asrkd.corpus.augment`."""

    noise: list[str] = field(default_factory=list, metadata=_BY_CONTENT)
    noise_probability: float = 0.0
    snr: list[float] = field(default_factory=lambda: [0.0, 20.0])
    gain_db: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 5
    frequency_masks: int = 0
    frequency_mask_bins: int = 8
    frequency_warp: float = 0.0
    reverb_probability: float = 0.0
    reverb: list[str] = field(default_factory=list, metadata=_BY_CONTENT)
    reverb_rooms: int = 40
    codec_probability: float = 0.0
    codecs: list[str] = field(default_factory=lambda: ["opus", "mp3", "vorbis", "gsm"])
    time_warp: int = 0
    speed: list[float] = field(default_factory=list)


@dataclass
class BatchConfig:
    """Padded frames and utterances of a batch, at the front end's frame rate. An update adds up the gradients of one batch from each
    of the `streams`; a stream's batches are made among `block_utterances` at a time."""

    max_frames: int = 4000
    max_utterances: int = 64
    streams: int = 1
    block_utterances: int = 2048


@dataclass
class LoaderConfig:
    """How batches are read, which changes no batch: `num_workers` processes (0: a thread), each with `prefetch` batches ahead; memory for
    decoded audio; whether targets stay packed until they are on the device; and, for stores on an object store, `disk_cache_gb` of a local folder `disk_cache` for row groups."""

    num_workers: int = 0
    prefetch: int = 4
    cache_mb: float = 1024
    unpack_on_device: bool = False
    disk_cache: str = ""
    disk_cache_gb: float = 50


@dataclass
class TrainConfig:
    """One training run. Everything that the run does follows from this and from the stores that it names. `init` is a checkpoint to start
    from. `prior` is a store whose mean posterior is the prior of an `hmm` model; without it, it is the mean posterior of the finished model,
    or, with sequence criteria, that of `init`. `keep_best`: the result is the mean of the weights of so many checkpoints with the lowest dev
    loss, kept as `best-STEP.pt`; with 0, of the last one. `patience`: stop after so many evaluations in a row without a new lowest; 0 never."""

    run: str = field(default=MISSING, metadata=_MAY_CHANGE)
    seed: int = 1
    device: str = field(default="cpu", metadata=_MAY_CHANGE)
    threads: int = field(default=0, metadata=_MAY_CHANGE)
    model: ModelConfig = field(default_factory=ModelConfig)
    front_end: dict[str, Any] = field(default_factory=dict)
    inventory: InventoryConfig = field(default_factory=InventoryConfig)
    sources: dict[str, SourceConfig] = field(default_factory=dict)
    schedule: list[PhaseConfig] = field(default_factory=list)
    soft_loss: SoftLossConfig = field(default_factory=SoftLossConfig)
    hard_loss: HardLossConfig = field(default_factory=HardLossConfig)
    layer_loss: LayerLossConfig = field(default_factory=LayerLossConfig)
    mutual: MutualConfig = field(default_factory=MutualConfig)
    sequence: SequenceConfig = field(default_factory=SequenceConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig, metadata=_MAY_CHANGE)
    dev: str | None = field(default=None, metadata=_BY_CONTENT)
    dev_decoding: DevDecodingConfig = field(default_factory=DevDecodingConfig, metadata=_MAY_CHANGE)
    init: str | None = field(default=None, metadata=_BY_CONTENT)
    prior: str = field(default="", metadata=_BY_CONTENT)
    log_steps: int = field(default=20, metadata=_MAY_CHANGE)
    eval_steps: int = 200
    checkpoint_steps: int = field(default=200, metadata=_MAY_CHANGE)
    keep_best: int = 0
    patience: int = 0
