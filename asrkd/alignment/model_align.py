"""Aligns a store by the scores of an acoustic model: best paths of transcripts, and posteriors given them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd import fingerprint
from asrkd.acoustic import AcousticModel
from asrkd.alignment.forced import TooFewFrames, TranscriptGraph, too_few_frames, transcript_graph, viterbi
from asrkd.alignment.left_out import LeftOut
from asrkd.alignment.speech import Speech, Spoken
from asrkd.alignment.summary import Example, Summary, UtteranceProgress
from asrkd.alignment.timeline import of_state_path
from asrkd.corpus.inventory import Inventory, InventoryConfig
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.tokens import Tokens
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.graphs import topology_of
from asrkd.labeling.encoding import encoded_columns
from asrkd.labeling.teacher_identity import teacher_identity
from asrkd.sequence.decode import best_paths
from asrkd.sequence.graphs import numerators, transcript_acceptor
from asrkd.sequence.lattice import lattices, occupancies
from asrkd.store import Store
from asrkd.store.rewrite import rewrite
from asrkd.streaming.rows import Place
from asrkd.targets.codecs import parse_codec
from asrkd.targets.streams import POSTERIORS

# Far below any score: a path of labels is the only one worth taking.
_NEVER = -1e6


class ModelAligner:
    """Aligns the utterances of one store.

    Args:
        model: whose scores they are.
        kind: `viterbi` or `k2`.
        leave_early: an `hmm` phone may end after any of its states.
        soft: a codec spec, for posteriors given the transcript; none if empty.

    Raises:
        MismatchError: the model is of another inventory or frame law.
        ModelError: an `hmm` model without priors.
        ConfigError: soft alignments for a store that has soft targets.
    """

    def __init__(
        self,
        store: Store,
        words: Tokenizer,
        model: AcousticModel,
        *,
        kind: str = "viterbi",
        states_per_phone: int = InventoryConfig.states_per_phone,
        leave_early: bool = False,
        soft: str = "",
    ) -> None:
        self.store, self.words, self.kind, self.leave_early = store, words, kind, leave_early
        model.check_prior()
        self.model, self.inventory = model, model.inventory
        self.tokens = Tokens.of(self.inventory)
        self.speech = Speech(store)
        self._check(states_per_phone)
        law = store.identity.frame_law
        self.summary = Summary(
            law.frame_shift / self.speech.sampling_rate,
            1 if leave_early else self.inventory.states_per_phone,
            has_blank=self.inventory.topology.has_blank,
        )
        self.left_out = LeftOut()
        self.identity = self._soft_identity(soft) if soft else None

    def write(self, out: str, check: Callable[[], None], progress: UtteranceProgress | None = None) -> None:
        """Write the aligned copy, a work unit at a time.

        Args:
            check: called before the copy becomes a store.
        """
        total, done, seconds = self.store.num_rows(), 0, 0.0

        def fill(unit: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
            nonlocal done, seconds
            columns: dict[str, dict[str, Any]] = {}
            left_out: dict[str, str] = {}
            for place in self.speech.places(unit):
                try:
                    spoken = self.speech.read(place)
                    columns[spoken.id] = self._columns(place, spoken)
                except CorpusError as error:
                    self.summary.too_fast += isinstance(error, TooFewFrames)
                    left_out[self.speech.id(place)] = str(error)
                done, seconds = done + 1, seconds + self.speech.seconds(place)
                if progress:
                    progress("align", done, total, seconds)
            self.left_out.add(left_out)
            return columns, left_out

        rewrite(self.store, out, fill, self.identity, check=check)

    def _columns(self, place: Place, spoken: Spoken) -> dict[str, Any]:
        """The columns of an utterance.

        Raises:
            CorpusError: it cannot be aligned.
        """
        what, text = f"utterance {spoken.id!r}", spoken.text or ""
        if spoken.cepstra.silent:
            raise CorpusError(f"{what} is digital silence: all its samples are equal; leave it out")
        graph = self._graph(what, spoken.text, spoken.num_frames)
        features = self.speech.features(place, self.model.front_end)
        self.model.check_length(len(features), what)
        scores = self._scores(features)
        path = self._path(what, text, scores, graph)
        timeline = of_state_path(path, graph, text, self.inventory)
        self.summary.add(Example(spoken.id, text, _gain(scores, path, graph), timeline), quiet_start=spoken.quiet_start)
        columns: dict[str, Any] = {"alignment": graph.classes[path].astype(np.int32)}
        if self.identity is not None:
            columns |= encoded_columns(spoken.id, self._occupancies(what, text, scores), self.identity)
        return columns

    def unusable(self) -> LeftOut:
        """Utterances that cannot be aligned, and why, as far as transcripts and lengths tell; no audio is read."""
        found = LeftOut()
        for row in self.store.rows(["id", "text", "num_frames"]):
            try:
                self._graph(f"utterance {row['id']!r}", row["text"], row["num_frames"])
            except CorpusError as error:
                found.add({row["id"]: str(error)})
        return found

    def _graph(self, what: str, text: str | None, frames: int) -> TranscriptGraph:
        if text is None:
            raise CorpusError(f"{what} has no transcript, so it cannot be aligned; leave it out")
        graph = transcript_graph(text, self.words, self.inventory, leave_early=self.leave_early, what=what)
        if frames < graph.min_frames:
            raise too_few_frames(frames, graph, what=what)
        return graph

    def _scores(self, features: Tensor) -> Tensor:
        """(T, F) -> (T', V) acoustic scores, in the host's memory."""
        scores, _ = self.model.scores(features[None], torch.tensor([len(features)]))
        return scores[0].cpu()

    def _path(self, what: str, text: str, scores: Tensor, graph: TranscriptGraph) -> NDArray[np.int64]:
        """(T',) states of the best path."""
        if self.kind == "viterbi":
            return viterbi(scores.numpy(), graph)[0]
        lattice = lattices(scores[None], torch.tensor([len(scores)]), self._k2_graph(what, text))
        classes = best_paths(lattice)[0].classes.numpy()
        # k2 finds classes; the states are those of a path that emits them.
        only = np.full(scores.shape, _NEVER)
        only[np.arange(len(classes)), classes] = 0.0
        return viterbi(only, graph)[0]

    def _occupancies(self, what: str, text: str, scores: Tensor) -> Tensor:
        """(T', V) natural log of the posteriors of the classes given the transcript."""
        found = occupancies(scores[None], torch.tensor([len(scores)]), self._k2_graph(what, text))[0]
        if not bool(found.any()):
            raise CorpusError(f"{what}: no path of its transcript has a finite score; look at the model")
        return (found / found.sum(1, keepdim=True)).log()

    def _k2_graph(self, what: str, text: str) -> Any:
        acceptor = transcript_acceptor(self.tokens.spell(text, self.words, what=what), silence=self.tokens.silence)
        return numerators(topology_of(self.inventory, leave_early=self.leave_early), [acceptor])

    def _check(self, states_per_phone: int) -> None:
        model, inventory = self.model, self.inventory
        wanted = Inventory.from_lexicon(self.words, inventory.topology_name, states_per_phone=states_per_phone)
        # A CTC model may bring units of its own, as long as they spell the lexicon.
        if inventory != wanted and (
            not inventory.topology.collapses_repeats or set(wanted.units) - set(inventory.units)
        ):
            raise MismatchError(
                f"model {model.spec!r} has {len(inventory)} units of topology {inventory.topology_name!r}, which are not those that the lexicon "
                "makes with its states; give the same lexicon and states_per_phone"
            )
        law = model.front_end.frame_law(model.subsampling_factor)
        if self.store.identity.frame_law != law:
            raise MismatchError(
                f"{self.store.root!r} has the frame law {self.store.identity.frame_law}, but model {model.spec!r} gives {law}; its labels would "
                "not fit the store's frames. Plan the store with the model's front end"
            )
        if self.speech.sampling_rate != model.front_end.sampling_rate:
            raise MismatchError(
                f"{self.store.root!r} holds audio at {self.speech.sampling_rate} Hz, but model {model.spec!r} takes "
                f"{model.front_end.sampling_rate} Hz"
            )

    def _soft_identity(self, codec: str) -> Any:
        if POSTERIORS in self.store.identity.streams:
            raise ConfigError(
                f"{self.store.root!r} has soft targets already; soft alignments go into a copy of a store of transcripts"
            )
        aligned = dataclasses.replace(
            self.model,
            spec=f"{self.model.spec} given the transcripts",
            fingerprint=fingerprint.of_json(["aligned", self.model.fingerprint]),
        )
        return teacher_identity(aligned, codec=parse_codec(codec), embed=self.store.identity.embed)


def _gain(scores: Tensor, path: NDArray[np.int64], graph: TranscriptGraph) -> float:
    """Mean over the frames of phones of the score of the path less that of the best class."""
    values = scores.numpy()
    lost = values[np.arange(len(path)), graph.classes[path]] - values.max(axis=1)
    return float(lost[graph.phones[path] >= 0].mean())
