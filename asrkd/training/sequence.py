"""Sequence training: the objective of a labeled batch in a phase with a sequence criterion."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asrkd import files, text
from asrkd.config import BY_CONTENT, MAY_CHANGE, check, setting
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer, searched, vocabulary
from asrkd.corpus.tokens import Tokens
from asrkd.errors import CorpusError
from asrkd.graphs import k2_graph, ngram_graph, topology_of, word_loop_graph
from asrkd.sequence.ctc import ctc_best_paths
from asrkd.sequence.grammar import phone_ngram
from asrkd.sequence.graphs import denominator
from asrkd.sequence.lattice import Beam
from asrkd.sequence.losses import SequenceLoss, mmi, mwer, smbr
from asrkd.sequence.numerators import NumeratorGraphs
from asrkd.streaming.batch import Batch
from asrkd.streaming.source import Source
from asrkd.training.callback import Callback
from asrkd.training.student import Losses, Student

if TYPE_CHECKING:
    from asrkd.training.trainer import Trainer


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
    search_beam: float = setting(Beam.search, above=0)
    """Drop a state whose score is worse than the frame's best by more than this."""
    output_beam: float = setting(Beam.output, above=0)
    """Drop an arc that is on no path within this of the best."""
    min_active: int = setting(Beam.min_active, at_least=0)
    """States kept in every frame, whatever the beam."""
    max_active: int = setting(Beam.max_active, at_least=1)
    """Most states kept in a frame."""
    num_paths: int = setting(100, at_least=1)
    """Paths sampled from each lattice for `mwer`."""
    cache_mb: float = setting(256.0, at_least=0, resume=MAY_CHANGE)
    """Memory for the graphs of transcripts (`mmi`, `lf_mmi`), in MB: those that fit are made once, others for every batch."""

    def __post_init__(self) -> None:
        check(self, "sequence")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.min_active >= self.max_active:
            yield "min_active", f"must be below max_active ({self.max_active}), not {self.min_active}"


class SequenceObjective:
    """The sequence criteria of a run, over graphs made once.

    Attributes:
        skipped: why an utterance had no loss, by its id.

    Args:
        criteria: which of them the schedule has.
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
        lexicon: Tokenizer,
        inventory: Inventory,
        sources: Sequence[Source],
        log_prior: Tensor | None,
        device: torch.device,
    ) -> None:
        self.settings, self.lexicon, self.inventory, self.device = settings, lexicon, inventory, device
        self.skipped: dict[str, str] = {}
        self._tokens = Tokens.of(inventory)
        self._topology = topology_of(inventory)
        self._log_prior = None if log_prior is None else log_prior.to(device)
        self._beam = Beam(settings.search_beam, settings.output_beam, settings.min_active, settings.max_active)
        self._words = {word: number for number, word in enumerate(vocabulary(lexicon), 1)}
        self._denominator: Any = None
        self._word_graph: Any = None
        self._numerators: dict[str, NumeratorGraphs] = {}
        silence, max_bytes = self._tokens.silence, int(settings.cache_mb * 1e6)
        if "mmi" in criteria:
            self._numerators["mmi"] = NumeratorGraphs(self._topology, silence=silence, max_bytes=max_bytes)
        if "lf_mmi" in criteria:
            phone_lm = phone_ngram(token_sequences(sources, self._tokens, lexicon), settings.phone_order)
            self._denominator = denominator(self._topology, phone_lm).to(device)
            self._numerators["lf_mmi"] = NumeratorGraphs(self._topology, phone_lm, silence=silence, max_bytes=max_bytes)
        if set(criteria) - {"lf_mmi"}:
            self._word_graph = self._make_word_graph().to(device)

    def _make_word_graph(self) -> Any:
        if self.settings.grammar:
            graph = ngram_graph(self.lexicon, self.inventory, self.settings.grammar)
        else:
            graph = word_loop_graph(self.lexicon, self.inventory)
        return k2_graph(graph)

    def __call__(self, criterion: str, student: Student, batch: Batch) -> Losses:
        """Mean loss per frame of a labeled batch, as `NAME_CRITERION`.

        Utterances without a path count 0, and are counted as `NAME_skipped`.

        Args:
            criterion: `mmi`, `lf_mmi`, `smbr` or `mwer`.

        Raises:
            CorpusError: an utterance without a transcript, a transcript that the lexicon cannot spell, or an `hmm` utterance without an
                alignment.
        """
        name, (logits, lengths, _) = batch.source[0], student.output
        found = self._criterion(criterion, logits, lengths, batch)
        self.skipped.update({batch.ids[n]: why for n, why in found.skipped.items()})
        loss = found.losses.sum() / max(int(lengths.sum()), 1)
        skipped = {f"{name}_skipped": float(len(found.skipped))} if found.skipped else {}
        return loss, {f"{name}_{criterion}": float(loss.detach())} | skipped

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
        words = [[self._words[word] for word in searched(self.lexicon, transcript)] for transcript in texts]
        return mwer(scores, lengths, self._word_graph, words, beam=self._beam, num_paths=settings.num_paths)

    def _text(self, batch: Batch, number: int) -> str:
        transcript = batch.texts[number]
        if not transcript:
            raise CorpusError(
                f"utterance {batch.ids[number]!r} has no transcript, but its source is of kind 'labeled'; leave it out of the source"
            )
        self.lexicon.encode(transcript, what=f"utterance {batch.ids[number]!r}")
        return transcript

    def _numerator_graphs(self, texts: Sequence[str], ids: Sequence[str], criterion: str) -> Any:
        def spell(number: int) -> list[list[tuple[int, ...]]]:
            return self._tokens.spell(texts[number], self.lexicon, what=f"utterance {ids[number]!r}")

        return self._numerators[criterion](texts, spell).to(self.device)

    def _alignment(self, scores: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """(N, T') right classes, -1 after the end."""
        if self.inventory.topology.needs_alignment:
            if batch.alignment is None:
                raise CorpusError(
                    f"source {batch.source[0]!r} has no alignments, which this criterion needs; make them with asrkd align"
                )
            return batch.alignment
        tokens = [
            [token for spellings in self._tokens.spell(transcript or "", self.lexicon) for token in spellings[0]]
            for transcript in batch.texts
        ]
        aligned = ctc_best_paths(scores.detach(), lengths, tokens)
        padded: Tensor = torch.nn.utils.rnn.pad_sequence(aligned, batch_first=True, padding_value=-1)
        return torch.nn.functional.pad(padded, (0, scores.shape[1] - padded.shape[1]), value=-1).to(scores.device)


class SkippedUtterances(Callback):
    """Lists the utterances without a loss in `skipped.tsv`, with those of an earlier part of the run."""

    def __init__(self, sequence: SequenceObjective) -> None:
        self.sequence = sequence

    def end(self, trainer: Trainer) -> None:
        if not self.sequence.skipped:
            return
        path = trainer.run / ("skipped.tsv" if trainer.ranks.first else f"skipped-{trainer.ranks.rank}.tsv")
        lines = text.lines(text.read(path)) if path.exists() else []
        listed = {key: why for key, _, why in (line.partition("\t") for line in lines)}
        # A tab or a line end in an id would be one of the table's.
        listed |= {" ".join(text.words(key)): " ".join(text.words(why)) for key, why in self.sequence.skipped.items()}
        files.write(path, "".join(f"{key}\t{why}\n" for key, why in sorted(listed.items())))


def token_sequences(sources: Iterable[Source], tokens: Tokens, lexicon: Tokenizer) -> list[list[int]]:
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
