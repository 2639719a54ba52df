"""Sequence training: the objective of a labeled batch in a phase with a sequence criterion."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokens import Tokens
from asrkd.errors import ConfigError, CorpusError
from asrkd.graphs import k2_graph, ngram_graph, topology_of, word_loop_graph
from asrkd.sequence.ctc import ctc_align
from asrkd.sequence.dependency import import_k2
from asrkd.sequence.grammar import phone_ngram
from asrkd.sequence.graphs import denominator, numerators, transcript_acceptor
from asrkd.sequence.lattice import Beam
from asrkd.sequence.losses import SequenceLoss, mmi, mwer, smbr
from asrkd.streaming.batch import Batch
from asrkd.streaming.source import Source
from asrkd.text import normal
from asrkd.text import words as words_of
from asrkd.training.config import SequenceConfig
from asrkd.training.objective import Objective


class SequenceObjective:
    """The sequence criteria of a run, over graphs made once.

    Attributes:
        skipped: why an utterance had no loss, by its id.

    Args:
        criteria: which of them the schedule has.
        frame: the frame loss, for smoothing.
        sources: the labeled ones that `lf_mmi` trains on, whose transcripts and alignments make its phone language model.
        log_prior: (V,) for `hmm`; None for `ctc`.

    Raises:
        ConfigError: a setting that cannot be used.
        DependencyError: k2 is not installed.
    """

    def __init__(
        self,
        criteria: Collection[str],
        settings: SequenceConfig,
        frame: Objective,
        sources: Sequence[Source],
        log_prior: Tensor | None,
        device: torch.device,
    ) -> None:
        check_settings(settings)
        lexicon, inventory = frame.lexicon, frame.inventory
        self.settings, self.lexicon, self.inventory, self.device = settings, lexicon, inventory, device
        smooth_with = "soft" if settings.smooth_with == "soft" else "labeled"
        self._weights = frame.weights
        self._frame = replace(
            frame, kinds=dict.fromkeys(frame.kinds, smooth_with), weights=dict.fromkeys(frame.weights, 1.0)
        )
        self.skipped: dict[str, str] = {}
        self._tokens = Tokens.of(inventory)
        self._topology = topology_of(inventory)
        self._log_prior = None if log_prior is None else log_prior.to(device)
        self._beam = Beam(settings.search_beam, settings.output_beam, settings.min_active, settings.max_active)
        self._numerators: dict[str, Any] = {}
        self._words = {word: number for number, word in enumerate(lexicon.words, 1)}
        self._phone_lm: Any = None
        self._denominator: Any = None
        self._word_graph: Any = None
        if "lf_mmi" in criteria:
            self._phone_lm = phone_ngram(token_sequences(sources, self._tokens, lexicon), settings.phone_order)
            self._denominator = denominator(self._topology, self._phone_lm).to(device)
        if set(criteria) - {"lf_mmi"}:
            self._word_graph = self._make_word_graph().to(device)

    def _make_word_graph(self) -> Any:
        if self.settings.grammar:
            graph = ngram_graph(self.lexicon, self.inventory, self.settings.grammar)
        else:
            graph = word_loop_graph(self.lexicon, self.inventory)
        return k2_graph(graph)

    def __call__(
        self, criterion: str, logits: Tensor, lengths: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, float]]:
        """Mean loss per frame of a labeled batch, smoothed; and for the log the criterion and the frame loss apart.

        Utterances without a path count 0 in the criterion, and are counted as `NAME_skipped`.

        Args:
            criterion: `mmi`, `lf_mmi`, `smbr` or `mwer`.
            logits: (N, T', V).
            lengths: (N,) frames of each.

        Raises:
            CorpusError: an utterance without a transcript, a transcript that the lexicon cannot spell, or an `hmm` utterance without an
                alignment.
        """
        name, share = batch.source[0], self.settings.smoothing
        found = self._criterion(criterion, logits, lengths, batch)
        self.skipped.update({batch.ids[n]: why for n, why in found.skipped.items()})
        loss = found.losses.sum() / max(int(lengths.sum()), 1)
        losses = {f"{name}_{criterion}": float(loss.detach())}
        if found.skipped:
            losses[f"{name}_skipped"] = float(len(found.skipped))
        if share:
            smooth, apart = self._frame(logits, lengths, batch)
            loss = (1 - share) * loss + share * smooth
            losses |= apart
        return loss * self._weights[name], losses

    def _criterion(self, criterion: str, logits: Tensor, lengths: Tensor, batch: Batch) -> SequenceLoss:
        settings = self.settings
        scores = logits.float().log_softmax(-1)
        if self._log_prior is not None:
            scores = scores - self._log_prior
        scores = scores * settings.acoustic_scale
        texts = [self._text(batch, n) for n in range(len(batch))]
        if criterion in ("mmi", "lf_mmi"):
            given = self._alignment(scores, lengths, batch) if settings.boost or settings.reject else None
            return mmi(
                scores,
                lengths,
                self._numerator_graphs(texts, batch.ids, criterion),
                self._denominator if criterion == "lf_mmi" else self._word_graph,
                beam=None if criterion == "lf_mmi" else self._beam,
                boost=settings.boost,
                reject=settings.reject,
                alignment=given,
            )
        if criterion == "smbr":
            ignore = [0] if settings.ignore_silence else []
            given = self._alignment(scores, lengths, batch)
            return smbr(scores, lengths, self._word_graph, given, beam=self._beam, ignore=ignore)
        words = [[self._words[word] for word in words_of(normal(text))] for text in texts]
        return mwer(scores, lengths, self._word_graph, words, beam=self._beam, num_paths=settings.num_paths)

    def _text(self, batch: Batch, number: int) -> str:
        text = batch.texts[number]
        if not text:
            raise CorpusError(
                f"utterance {batch.ids[number]!r} has no transcript, but its source is of kind 'labeled'; leave it out of the source"
            )
        self.lexicon.spell(text, what=f"utterance {batch.ids[number]!r}")
        return text

    def _numerator_graphs(self, texts: Sequence[str], ids: Sequence[str], criterion: str) -> Any:
        """Graphs of transcripts, each made once."""
        for text, key in zip(texts, ids, strict=True):
            if (name := f"{criterion} {text}") not in self._numerators:
                spelled = self._tokens.spell(text, self.lexicon, what=f"utterance {key!r}")
                acceptor = transcript_acceptor(spelled, silence=self._tokens.silence)
                lm = self._phone_lm if criterion == "lf_mmi" else None
                self._numerators[name] = numerators(self._topology, [acceptor], lm)[0]
        return import_k2().create_fsa_vec([self._numerators[f"{criterion} {text}"] for text in texts]).to(self.device)

    def _alignment(self, scores: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """(N, T') right classes, -1 behind the end."""
        if self.inventory.topology.needs_alignment:
            if batch.alignment is None:
                raise CorpusError(
                    f"source {batch.source[0]!r} has no alignments, which this criterion needs; make them with asrkd align"
                )
            return batch.alignment
        tokens = [
            [token for spellings in self._tokens.spell(text or "", self.lexicon) for token in spellings[0]]
            for text in batch.texts
        ]
        aligned = ctc_align(scores.detach(), lengths, tokens)
        padded: Tensor = torch.nn.utils.rnn.pad_sequence(aligned, batch_first=True, padding_value=-1)
        return torch.nn.functional.pad(padded, (0, scores.shape[1] - padded.shape[1]), value=-1).to(scores.device)


def token_sequences(sources: Iterable[Source], tokens: Tokens, lexicon: Lexicon) -> list[list[int]]:
    """What was said in the utterances of sources: with alignments the tokens that were spoken, otherwise first pronunciations.

    Raises:
        CorpusError: a transcript that the lexicon cannot spell.
    """
    sequences = []
    for source in sources:
        for facts in map(source.facts, range(len(source))):
            if facts["alignment"] is not None:
                sequences.append(tokens.read(facts["alignment"]))
            elif facts["text"]:
                spelled = tokens.spell(facts["text"], lexicon, what=f"utterance {facts['id']!r}")
                sequences.append([token for spellings in spelled for token in spellings[0]])
    return sequences


def check_settings(settings: SequenceConfig) -> None:
    """Raise `ConfigError` for what cannot be used."""
    if not settings.acoustic_scale > 0:
        raise ConfigError(f"sequence.acoustic_scale is {settings.acoustic_scale}, but must be above 0")
    if not 0 <= settings.smoothing < 1:
        raise ConfigError(f"sequence.smoothing is {settings.smoothing}, but must be from 0 to below 1")
    if settings.smooth_with not in ("labels", "soft"):
        raise ConfigError(f"sequence.smooth_with is {settings.smooth_with!r}, but must be labels or soft")
    if not 0 <= settings.reject < 1:
        raise ConfigError(f"sequence.reject is {settings.reject}, but is a probability from 0 to below 1")
    if settings.boost < 0:
        raise ConfigError(f"sequence.boost is {settings.boost}, but must be at least 0")
    if settings.phone_order < 2 or settings.num_paths < 1:
        raise ConfigError(
            f"sequence.phone_order is {settings.phone_order} and num_paths {settings.num_paths}, but they must be at least 2 and 1"
        )
