"""The loss of every frame: against soft targets or hard labels, by the kind of a batch's source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asrkd.callables import check_spec, find_callable
from asrkd.config import check, setting
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.spelling import CannotSpell
from asrkd.corpus.tokenizer import Tokenizer, spell
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.losses.delay_window import delay_window_cross_entropy
from asrkd.losses.frames import around_labels, best_path, delayed, top_classes
from asrkd.losses.hard import ctc_loss, frame_cross_entropy
from asrkd.losses.soft import POLICIES, POLICY, soft_cross_entropy
from asrkd.streaming.batch import Batch
from asrkd.targets.sparse import SparseTargets
from asrkd.targets.streams import POSTERIORS, TOKENS
from asrkd.targets.token_codec import TokenTargets
from asrkd.training.student import Losses, Student, StudentOutput


@dataclass
class SoftLossConfig:
    """The loss on stored targets."""

    missing_mass: str = setting(POLICY, one_of=POLICIES)
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
    delay_window: int = setting(0, at_least=0)
    """Further frames that it may lag, by as many as suit each frame best (Delayed-KD, Li et al. 2025); 0 leaves `delay` fixed."""
    function: str = setting("", form=check_spec)
    """A loss of your own, `package.module:function`, called with (logits (M, V), targets, batch) and returning a sum over the M frames."""

    def __post_init__(self) -> None:
        check(self, "soft_loss")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        for key, other in (("targets", self.targets == "top"), ("function", bool(self.function))):
            if self.delay_window and other:
                yield (
                    "delay_window",
                    f"is {self.delay_window}, but {key} is {getattr(self, key)!r}, which has no divergence to choose a frame by; leave one of the two out",
                )


@dataclass
class HardLossConfig:
    """The loss on hard labels."""

    label_smoothing: float = setting(0.0, at_least=0, at_most=1)
    """Share of an alignment's label that is spread evenly over all classes."""

    def __post_init__(self) -> None:
        check(self, "hard_loss")


@dataclass(frozen=True)
class FrameObjective:
    """Loss of a batch, per frame: soft cross-entropy, cross-entropy with the alignment, or CTC.

    Attributes:
        kinds: by source name, `soft` or `labeled`.
        n_best: by source name, texts of an utterance to learn from; 1 where not given.

    Raises:
        ConfigError: a setting does not go with the topology, or `function` cannot be found.
    """

    lexicon: Tokenizer
    inventory: Inventory
    kinds: Mapping[str, str]
    soft: SoftLossConfig
    hard: HardLossConfig = field(default_factory=HardLossConfig)
    n_best: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        soft, topology = self.soft, self.inventory.topology
        if soft.around_labels is not None and not topology.has_blank:
            raise ConfigError(
                f"soft_loss.around_labels: is {soft.around_labels}, but topology {topology.name!r} has no blank; leave it out"
            )
        if soft.targets == "top" and not topology.needs_alignment:
            for key, left_out in (("delay", 0), ("around_labels", None), ("function", "")):
                if (value := getattr(soft, key)) != left_out:
                    raise ConfigError(
                        f"soft_loss.{key}: is {value!r}, but with targets 'top' and topology {topology.name!r} the best path is a transcript, which has no "
                        "frames to choose or compare; leave one of the two out"
                    )
        if self.hard.label_smoothing and not topology.needs_alignment:
            raise ConfigError(
                f"hard_loss.label_smoothing: is {self.hard.label_smoothing}, but topology {topology.name!r} has no label for a frame; leave it out"
            )
        if soft.function:
            find_callable(soft.function, what="soft_loss.function")

    def __call__(self, student: Student, batch: Batch) -> Losses:
        """Mean loss per frame of a batch from one source, and the same by name of the source.

        Utterances whose frames are too few for their CTC tokens count 0, and are counted as `NAME_too_short`. Where soft and hard
        loss are summed up, they are also given apart, as `NAME_soft` and `NAME_hard`.

        Raises:
            MismatchError: the model's frames are not the targets' frames.
            CorpusError: a labeled utterance without a transcript or alignment.
        """
        name, (logits, lengths, _) = batch.source[0], student.output
        if self.kinds[name] != "soft":
            loss, counted = self._labeled(logits, lengths, batch)
        elif self.soft.alpha == 1:
            loss, counted = self._soft(logits, lengths, batch)
        else:
            soft, counted = self._soft(logits, lengths, batch)
            hard, hard_counted = self._labeled(logits, lengths, batch)
            loss = self.soft.alpha * soft + (1 - self.soft.alpha) * hard
            counted |= hard_counted | {f"{name}_soft": float(soft.detach()), f"{name}_hard": float(hard.detach())}
        return loss, {name: float(loss.detach()), **counted}

    def _labeled(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Losses:
        loss, counted = _HARD_LOSSES[self.inventory.topology.hard_loss](self, logits, lengths, batch)
        return loss / max(int(lengths.sum()), 1), counted

    def _ctc(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Losses:
        tokens = [self.tokens(text, what=key) for key, text in zip(batch.ids, batch.texts, strict=True)]
        most = self.n_best.get(batch.source[0], 1)
        if most > 1:
            total, too_short = self._ctc_of_several(logits, lengths, batch, tokens, most)
        else:
            total, too_short = ctc_loss(logits, lengths, tokens)
        return total, {f"{batch.source[0]}_too_short": float(too_short)} if too_short else {}

    def _ctc_of_several(
        self, logits: Tensor, lengths: Tensor, batch: Batch, best: Sequence[Sequence[int]], most: int
    ) -> tuple[Tensor, int]:
        """CTC of the n best texts of each utterance, weighted by their probabilities; of these `best` are the first, which can be spelled.

        Others that cannot be are left out; their weight is the others'.
        """
        targets = batch.streams.get(TOKENS)
        if not isinstance(targets, TokenTargets) or not bool(batch.has[TOKENS].all()):
            raise MismatchError(
                f"batch of source {batch.source[0]!r}: utterances without the n best texts; label them first"
            )
        rows: list[int] = []
        tokens: list[Sequence[int]] = []
        weights: list[Tensor] = []
        for row, (texts, scores) in enumerate(zip(targets.texts(), targets.scores_of_each(), strict=True)):
            kept = [0]
            tokens.append(best[row])
            for number, text in enumerate(texts[1:most], 1):
                try:
                    tokens.append(self.tokens(text, what=batch.ids[row]))
                except CannotSpell:
                    continue
                kept.append(number)
            rows += [row] * len(kept)
            weights.append(scores[kept].nan_to_num(0.0).softmax(0))
        at = torch.tensor(rows, device=logits.device)
        return ctc_loss(logits[at], lengths[at], tokens, weights=torch.cat(weights))

    def _soft(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Losses:
        mask = StudentOutput(logits, lengths).mask
        targets = self._targets(int(mask.sum()), batch)
        if self.soft.targets == "top" and not self.inventory.topology.needs_alignment:
            top = top_classes(targets)
            total, too_short = ctc_loss(logits, lengths, best_path(top, lengths))
            counted = {f"{batch.source[0]}_too_short": float(too_short)} if too_short else {}
            return total / max(len(top), 1), counted
        frames = logits[mask]
        kept = torch.ones(len(frames), dtype=torch.bool, device=frames.device)
        if self.soft.around_labels is not None:
            kept = around_labels(top_classes(targets), lengths, self.soft.around_labels)
        if self.soft.delay_window:
            return self._within_window(frames, targets, lengths, kept, batch.source[0])
        if self.soft.delay or self.soft.around_labels is not None:
            student, teacher = delayed(lengths, self.soft.delay)
            student, teacher = student[kept[teacher]], teacher[kept[teacher]]
            frames, targets = frames[student], targets.frames(teacher)
        return self._frame_loss(frames, targets, batch) / max(len(frames), 1), {}

    def _within_window(
        self, logits: Tensor, targets: SparseTargets, lengths: Tensor, kept: Tensor, name: str
    ) -> Losses:
        """The figure `NAME_delay` is the mean delay of the frames whose top class is not nothing (blank, silence)."""
        losses, delays = delay_window_cross_entropy(
            logits,
            targets,
            lengths,
            window=self.soft.delay_window,
            delay=self.soft.delay,
            missing_mass=self.soft.missing_mass,
            temperature=self.soft.temperature,
        )
        kept = kept & (delays >= 0)
        labels = kept & (top_classes(targets) > 0)
        figures = {f"{name}_delay": float(delays[labels].float().mean())} if bool(labels.any()) else {}
        return losses[kept].sum() / kept.sum().clamp(min=1), figures

    def _frame_loss(self, logits: Tensor, targets: SparseTargets, batch: Batch) -> Tensor:
        if self.soft.function:
            loss: Tensor = find_callable(self.soft.function, what="soft_loss.function")(logits, targets, batch)
            return loss
        if self.soft.targets == "top":
            top = top_classes(targets)
            return frame_cross_entropy(logits[None], top[None])[0]
        return soft_cross_entropy(
            logits,
            targets,
            missing_mass=self.soft.missing_mass,
            temperature=self.soft.temperature,
            reduction="sum",
        )

    def _targets(self, num_frames: int, batch: Batch) -> SparseTargets:
        targets = batch.targets
        if targets is None or not bool(batch.has[POSTERIORS].all()):
            raise MismatchError(
                f"batch of source {batch.source[0]!r}: utterances without soft targets; label them first"
            )
        if targets.num_frames != num_frames:
            raise MismatchError(
                f"the model gives {num_frames} frames for this batch, the stored targets have {targets.num_frames}; "
                "the model's subsampling factor or its frames are not those of the teacher"
            )
        return targets

    def _aligned(self, logits: Tensor, lengths: Tensor, batch: Batch) -> Losses:
        if batch.alignment is None:
            raise CorpusError(
                f"source {batch.source[0]!r} has no alignments, which the {self.inventory.topology_name!r} topology trains on; make them with asrkd align"
            )
        return frame_cross_entropy(logits, batch.alignment, label_smoothing=self.hard.label_smoothing)[0], {}

    def tokens(self, text: str | None, *, what: str) -> list[int]:
        """CTC tokens of a transcript: the first pronunciation of each word."""
        if text is None:
            raise CorpusError(
                f"utterance {what!r} has no transcript, which its hard labels are made of; set its source's kind to 'soft' and "
                "soft_loss.alpha to 1"
            )
        spelled = spell(self.lexicon, text, what=f"utterance {what!r}")
        return [unit for spellings in spelled for unit in self.inventory.ids(spellings[0])]


# Sum over a batch by the name that a topology gives its hard loss.
_HARD_LOSSES = {"frame_cross_entropy": FrameObjective._aligned, "ctc_loss": FrameObjective._ctc}
