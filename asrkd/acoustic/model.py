"""An acoustic model: a network, and what makes its output meaningful."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asrkd import fingerprint
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.units import tokenizer_of_units
from asrkd.corpus.waveform import AnyFrontEnd, longest_seconds
from asrkd.errors import AsrkdError, ConfigError, CorpusError, ModelError, one_line


class ModelFailure(ModelError):
    """A teacher's model, or the runtime below it, failed on a batch.

    Attributes:
        reason: what it said, in one line.
    """

    def __init__(self, spec: str, reason: str) -> None:
        super().__init__(f"model {spec!r} fails: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class AcousticModel:
    """A model that gives posteriors for every frame.

    Attributes:
        network: `logits, lengths = network(features, feature_lengths)`; (N, T, F), (N,) -> (N, T', V), (N,).
        front_end: what makes its features: log-mel, or the samples themselves.
        inventory: what its classes mean.
        subsampling_factor: T' is T over this, rounded up.
        spec: the spec string it was loaded from.
        fingerprint: over weights, code identity, front end and inventory.
        device: where the model runs.
        log_prior: (V,) natural logs of the priors of its classes, by which an `hmm` model's posteriors are divided; None where they are not known.
        autocast: name of the type in which torch's autocast computes what is safe in it, `bfloat16` or `float16`; empty for none.
        one_by_one: the model gets one utterance at a time, without padding, because its output would depend on the others of a batch.
        tokenizer: what its units spell; None where it brings none.
        own: the model is one of asrkd's, whose tests show that its output does not depend on the batch.
        max_features: frames of an utterance's features that the model takes at most, such as a Whisper encoder's 30 s; None for any number.
        int8_trained: training rounded its weights to 8 bits, as `int8:` computes; those here are the ones before it.
    """

    network: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    front_end: AnyFrontEnd
    inventory: Inventory
    subsampling_factor: int
    spec: str
    fingerprint: str
    device: str = "cpu"
    log_prior: Tensor | None = field(default=None, compare=False, repr=False)
    autocast: str = ""
    one_by_one: bool = False
    own: bool = False
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)
    max_features: int | None = None
    int8_trained: bool = False

    def __post_init__(self) -> None:
        try:
            self.inventory.check_first_unit()
        except ConfigError as error:
            raise ModelError(f"model {self.spec!r}: {error}") from None
        if self.log_prior is not None:
            self._check_log_prior(self.log_prior)

    def _check_log_prior(self, log_prior: Tensor) -> None:
        if log_prior.shape != (len(self.inventory),):
            raise ModelError(
                f"model {self.spec!r} has priors of shape {tuple(log_prior.shape)}, but needs one for each of its {len(self.inventory)} classes"
            )
        if not bool(log_prior.isfinite().all()):
            raise ModelError(
                f"model {self.spec!r} has log-priors that are NaN or infinite, which its posteriors cannot be divided by; give each class a "
                "prior above 0"
            )

    @property
    def max_seconds(self) -> float:
        """The longest utterance that the model takes."""
        return longest_seconds(self.front_end, self.max_features)

    def check_length(self, num_features: int, what: str) -> None:
        """Raise `CorpusError` for an utterance, named by `what`, of more frames of features than the model takes."""
        if self.max_features is not None and num_features > self.max_features:
            seconds = self.front_end.frame_law().lengths_of(num_features)[0] / self.front_end.sampling_rate
            raise CorpusError(
                f"{what} is {seconds:.2f} s long, but model {self.spec!r} takes {self.max_seconds:g} s at a time; split it (asrkd segment --max-seconds)"
            )

    def log_probs(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> natural-log posteriors (N, T', V) float32, and lengths (N,).

        Raises:
            ModelError: the model's output is not (N, T', V) and (N,), or its classes are not its inventory's.
            ModelFailure: the model fails. Running out of memory is raised as it is.
        """
        logits, out_lengths = self.logits(features, lengths)
        return logits.float().log_softmax(-1), out_lengths

    def text_tokenizer(self) -> Tokenizer:
        """What turns its units into text: the tokenizer that it brings, or else what the names of `ctc` units say.

        Raises:
            ModelError: an `hmm` model that brings none.
        """
        if self.tokenizer is not None:
            return self.tokenizer
        if not self.inventory.topology.collapses_repeats:
            raise ModelError(
                f"model {self.spec!r} is of topology {self.inventory.topology_name!r} and brings no lexicon (checkpoints of earlier versions have none), "
                "so its states are not text; give --lexicon"
            )
        return tokenizer_of_units(self.inventory)

    def check_prior(self) -> None:
        """Raise `ModelError` for a model that needs priors and has none: before it runs over audio, so that nothing is lost."""
        if self.inventory.topology.needs_prior and self.log_prior is None:
            raise ModelError(
                f"model {self.spec!r} is of topology {self.inventory.topology_name!r}, whose posteriors a search divides by the priors of the classes, "
                "but it brings none; give a run of asrkd train (checkpoint:RUN), or add log_prior, a natural logarithm for each class, to the "
                "PATH.json of the model or to the AcousticModel of a python: factory"
            )

    def check_blank_penalty(self, blank_penalty: float) -> None:
        """Raise `ConfigError` for a penalty of a blank that the model does not have."""
        if blank_penalty and not self.inventory.topology.has_blank:
            raise ConfigError(
                f"blank_penalty is {blank_penalty:g}, but model {self.spec!r} is of topology {self.inventory.topology_name!r}, which has no blank; leave it out"
            )

    def scores(
        self,
        features: Tensor,
        lengths: Tensor,
        *,
        acoustic_scale: float = 1.0,
        prior_scale: float = 1.0,
        blank_penalty: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """(N, T, F), (N,) -> acoustic scores (N, T', V) float32 and lengths (N,): what every search and lattice is given; see `scores_of`.

        Raises:
            ModelError: as `log_probs`, or a model that needs priors has none.
            ConfigError: a blank penalty for a model without blank.
        """
        self.check_prior()
        log_probs, out_lengths = self.log_probs(features, lengths)
        scales = {"acoustic_scale": acoustic_scale, "prior_scale": prior_scale, "blank_penalty": blank_penalty}
        return self.scores_of(log_probs, **scales), out_lengths

    def scores_of(
        self, log_probs: Tensor, *, acoustic_scale: float = 1.0, prior_scale: float = 1.0, blank_penalty: float = 0.0
    ) -> Tensor:
        """(..., V) log-posteriors -> acoustic scores, `acoustic_scale (log p(s|x) - prior_scale log p(s))`.

        Models that need priors give pseudo-likelihoods p(x|s) = p(s|x) / p(s) (Bourlard & Morgan 1994); posteriors of the others are used as
        they are, but for `blank_penalty`, in nats, which is taken off the blank's: a CTC model that is unsure says blank, and words are left out.

        Raises:
            ModelError: a model that needs priors has none.
            ConfigError: a blank penalty for a model without blank.
        """
        self.check_prior()
        self.check_blank_penalty(blank_penalty)
        if self.inventory.topology.needs_prior and self.log_prior is not None:
            log_probs = log_probs - prior_scale * self.log_prior.to(log_probs.device)
        if blank_penalty:
            log_probs = torch.cat([log_probs[..., :1] - blank_penalty, log_probs[..., 1:]], dim=-1)
        return acoustic_scale * log_probs

    @torch.no_grad()
    def logits(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The same before the softmax, in the model's own type."""
        features, lengths = features.to(self.device, non_blocking=True), lengths.to(self.device)
        if not self.one_by_one or not len(features):
            return self._run(features, lengths)
        rows = [
            self._run(features[n : n + 1, :length], lengths[n : n + 1]) for n, length in enumerate(lengths.tolist())
        ]
        logits = pad_sequence([logits[0] for logits, _ in rows], batch_first=True)
        return logits, torch.cat([out_lengths for _, out_lengths in rows])

    def _run(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        kind = getattr(torch, self.autocast) if self.autocast else None
        try:
            with torch.autocast(torch.device(self.device).type, kind, enabled=kind is not None):
                output = self.network(features, lengths)
        except AsrkdError:
            raise
        except Exception as error:  # every runtime has its own kinds
            if is_out_of_memory(error):
                raise
            raise ModelFailure(self.spec, one_line(error)) from error
        self._check(output, len(features))
        return output

    def _check(self, output: Any, num_utterances: int) -> None:
        """Raise `ModelError` unless a model's output has the form that the protocol wants."""
        pair = tuple(output) if isinstance(output, (tuple, list)) else ()
        if len(pair) != 2 or not all(isinstance(one, Tensor) for one in pair):
            raise ModelError(
                f"model {self.spec!r} returns a {type(output).__name__}{f' of {len(pair)}' if pair else ''}, but must return the "
                "pair of tensors (logits, logit_lengths); return both from forward"
            )
        logits, lengths = pair
        if logits.dim() != 3 or len(logits) != num_utterances or lengths.shape != (num_utterances,):
            raise ModelError(
                f"model {self.spec!r} gives logits of shape {tuple(logits.shape)} and lengths of shape {tuple(lengths.shape)} for "
                f"{num_utterances} utterances, but they must be (utterances, frames, classes) and (utterances,); the batch comes first"
            )
        if logits.shape[-1] != len(self.inventory):
            raise ModelError(
                f"model {self.spec!r} gives {logits.shape[-1]} classes, its inventory has {len(self.inventory)}; the "
                "classes would have no names. Correct the inventory next to the model"
            )
        if not logits.is_floating_point() or lengths.is_floating_point() or lengths.is_complex():
            raise ModelError(
                f"model {self.spec!r} gives logits of {logits.dtype} and lengths of {lengths.dtype}, but logits must be floating-point "
                "numbers and lengths whole ones; change the types that the model returns"
            )


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the host, was short of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error)
    # Of torch on a CPU, and of onnxruntime (its arenas on a CPU and on CUDA).
    signs = ("can't allocate memory", "not enough memory", "Failed to allocate memory", "CUDA out of memory")
    return any(sign in text for sign in signs)


def identity(weights: Any, code: Any, front_end: AnyFrontEnd, inventory: Inventory, subsampling_factor: int) -> str:
    """The fingerprint of a model: over its weights, what computes with them, front end, inventory and subsampling factor."""
    return fingerprint.of_json([weights, code, front_end.fingerprint, inventory.fingerprint, subsampling_factor])


def check_device(device: str) -> None:
    """Raise `ConfigError` for a device that torch cannot use."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {device!r} cannot be used ({' '.join(str(error).split())}); give cpu, or cuda:0 where torch finds a GPU"
        ) from None
