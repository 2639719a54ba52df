"""Aligns a store by an HMM-GMM at 10 ms: a flat start on its own utterances, or a model that was saved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asrkd.alignment.features import frame_law
from asrkd.alignment.flat_start import flat_start
from asrkd.alignment.forced import TooFewFrames
from asrkd.alignment.frames import frame_labels, nearest_frames
from asrkd.alignment.left_out import LeftOut
from asrkd.alignment.phone_graph import STATES, PhoneGraph, phone_graph
from asrkd.alignment.phone_model import PhoneModel, spell_phones
from asrkd.alignment.speech import Speech, Spoken
from asrkd.alignment.summary import ODDITY, Example, Summary, UtteranceProgress, usual_here
from asrkd.alignment.timeline import of_phone_path
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.tokens import Tokens
from asrkd.corpus.topology import SILENCE
from asrkd.errors import CorpusError, MismatchError
from asrkd.store import Store
from asrkd.store.rewrite import rewrite
from asrkd.streaming.rows import Place

# A flat start takes its utterances from everywhere in the store, together at most this long, into memory: about 120 MB an hour.
TRAIN_HOURS = 5.0
# From as many hours it is seen how well a store's utterances fit an aligner that was made from others.
_JUDGED = 0.5
_TOGETHER = 64
_HOUR = 360_000


class PhoneAligner:
    """Aligns the utterances of one store.

    Args:
        oddity: deviations above which an utterance does not fit its transcript (`Summary.oddity`).
    """

    def __init__(self, store: Store, words: Tokenizer, inventory: Inventory, *, oddity: float = ODDITY) -> None:
        self.store, self.words, self.inventory = store, words, inventory
        self.speech = Speech(store)
        # Not the tokens of the tokenizer, whose table may have a blank.
        self.phones = tuple(name for name in Tokens.of(inventory).names if name != SILENCE)
        self.oddity = oddity
        self.summary = Summary(0.01, STATES)
        self.left_out = LeftOut()

    def train(self, progress: UtteranceProgress | None = None, *, hours: float = TRAIN_HOURS) -> PhoneModel:
        """A flat start on at most `hours` hours.

        Raises:
            CorpusError: no utterance can be aligned.
        """
        utterances, graphs = [], []
        for place in self._places(hours):
            try:
                spoken, graph = self._read(place, self.phones)
            except CorpusError:
                # Named where the store is written.
                continue
            graphs.append(graph)
            utterances.append(spoken.cepstra)
        show = (lambda done, total: progress("flat start", done, total, None)) if progress else None
        return flat_start(utterances, graphs, self.phones, self.speech.sampling_rate, progress=show)

    def usual(self, model: PhoneModel) -> tuple[float, float]:
        """Median and robust deviation of the score among this store's utterances, for a model that was made from others.

        Whole speakers that it does not know fit it worse than those it was made from, and are not to be taken for wrong transcripts.
        """
        gains = []
        unusable: dict[str, str] = {}
        for group in self._groups(self._places(_JUDGED), unusable, model):
            paths = model.align([spoken.cepstra for spoken, _ in group], [graph for _, graph in group])
            gains += [path.gain for path in paths]
        self.summary.too_fast = 0  # counted again when the copy is written
        return usual_here(gains, model.usual)

    def write(
        self,
        out: str,
        model: PhoneModel,
        check: Callable[[], None],
        progress: UtteranceProgress | None = None,
        *,
        from_here: bool = True,
    ) -> Summary:
        """Write the aligned copy.

        Args:
            from_here: the model was made from this store's utterances.
            check: called before the copy becomes a store.

        Raises:
            MismatchError: the model is for another sampling rate, or without a phone of the lexicon.
            StoreError: `out` is a store already, or cannot be written.
        """
        if model.sampling_rate != self.speech.sampling_rate:
            raise MismatchError(
                f"the aligner is for {model.sampling_rate} Hz, but {self.store.root!r} holds audio at {self.speech.sampling_rate} Hz"
            )
        self.summary.usual, self.summary.made_from = model.usual, None if from_here else model.usual
        if not from_here:
            self.summary.usual = self.usual(model)
        total, done, seconds = self.store.num_rows(), 0, 0.0

        def fill(unit: int) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
            nonlocal done, seconds
            columns: dict[str, dict[str, Any]] = {}
            left_out: dict[str, str] = {}
            places = self.speech.places(unit)
            for group in self._groups(places, left_out, model):
                for key, labels in self._aligned(group, left_out, model):
                    columns[key] = {"alignment": labels}
            self.left_out.add(left_out)
            done += len(places)
            seconds += sum(row["duration"] for row in self.store.unit_rows(unit, ["duration"]))
            if progress:
                progress("align", done, total, seconds)
            return columns, left_out

        rewrite(self.store, out, fill, check=check)
        return self.summary

    def unusable(self, phones: Sequence[str]) -> LeftOut:
        """Utterances that cannot be aligned, and why, as far as transcripts and lengths tell; no audio is read."""
        law = frame_law(self.speech.sampling_rate)
        found = LeftOut()
        for row in self.store.rows(["id", "text", "num_samples"]):
            try:
                self.graph(row["id"], row["text"], law.num_frames(row["num_samples"]), phones)
            except CorpusError as error:
                found.add({row["id"]: str(error)})
        return found

    def graph(self, key: str, text: str | None, frames: int, phones: Sequence[str]) -> PhoneGraph:
        """The graph of an utterance's transcript; `frames` are of 10 ms.

        Raises:
            CorpusError: it cannot be aligned, with the reason.
        """
        what = f"utterance {key!r}"
        if text is None:
            raise CorpusError(f"{what} has no transcript, so it cannot be aligned; leave it out")
        graph = phone_graph(spell_phones(text, self.words, phones, what=what))
        if frames < graph.min_frames:
            raise TooFewFrames(
                f"{what}: {frames} frames of 10 ms are too few for the transcript {text[:200]!r}, which needs at least {graph.min_frames}, so "
                "it cannot be aligned; check the transcript or leave the cut out"
            )
        return graph

    def _places(self, hours: float) -> Iterator[Place]:
        """Every utterance, or about as many as are `hours` long, evenly from the whole store, in its order."""
        seconds, count = 0.0, 0
        for part in self.store.indexes(["duration"]):
            seconds, count = seconds + float(part["duration"].to_numpy().sum()), count + len(part)
        most = count if seconds <= hours * 3600 else max(1, int(count * hours * 3600 / seconds))
        chosen = np.unique(np.linspace(0, count - 1, most).astype(int))
        begin = 0
        for unit in self.store.walk():
            places = self.speech.places(unit)
            first, last = np.searchsorted(chosen, [begin, begin + len(places)])
            yield from (places[n - begin] for n in chosen[first:last].tolist())
            begin += len(places)

    def _read(self, place: Place, phones: Sequence[str]) -> tuple[Spoken, PhoneGraph]:
        spoken = self.speech.read(place)
        if spoken.cepstra.silent:
            raise CorpusError(f"utterance {spoken.id!r} is digital silence: all its samples are equal; leave it out")
        return spoken, self.graph(spoken.id, spoken.text, len(spoken.cepstra), phones)

    def _groups(
        self, places: Iterable[Place], left_out: dict[str, str], model: PhoneModel
    ) -> Iterator[list[tuple[Spoken, PhoneGraph]]]:
        """Utterances that have a graph, some at a time; the others with their reasons go to `left_out`."""
        group: list[tuple[Spoken, PhoneGraph]] = []
        frames = 0
        for place in places:
            try:
                group.append(self._read(place, model.phones))
                frames += len(group[-1][0].cepstra)
            except CorpusError as error:
                self.summary.too_fast += isinstance(error, TooFewFrames)
                left_out[self.speech.id(place)] = str(error)
            if len(group) == _TOGETHER or frames > _HOUR / 6:
                yield group
                group, frames = [], 0
        if group:
            yield group

    def _aligned(
        self, group: list[tuple[Spoken, PhoneGraph]], left_out: dict[str, str], model: PhoneModel
    ) -> Iterator[tuple[str, Any]]:
        """(id, labels) of the utterances that fit their transcripts."""
        fine = frame_law(self.speech.sampling_rate)
        paths = model.align([spoken.cepstra for spoken, _ in group], [graph for _, graph in group])
        for (spoken, graph), path in zip(group, paths, strict=True):
            oddity = self.summary.oddity(path.gain)
            if oddity > self.oddity:
                self.summary.odd += 1
                left_out[spoken.id] = (
                    f"utterance {spoken.id!r} does not fit its transcript {spoken.text!r}: {oddity:.1f} deviations below the usual score a "
                    f"frame, of which {self.oddity:g} are allowed; correct the transcript, or raise --oddity"
                )
                continue
            timeline = of_phone_path(path.nodes, graph, spoken.text or "", model.phones)
            example = Example(spoken.id, spoken.text or "", path.gain, timeline)
            self.summary.add(example, quiet_start=spoken.quiet_start)
            at = nearest_frames(self.store.identity.frame_law, spoken.num_frames, fine, len(path.nodes))
            yield spoken.id, frame_labels(path.nodes, graph, at, model.phones, self.inventory).astype(np.int32)


def load_phone_model(file: str | Path, words: Tokenizer) -> PhoneModel:
    """A saved aligner, for a lexicon.

    Raises:
        CorpusError: the file cannot be read.
        MismatchError: the lexicon has phones that the aligner does not know.
    """
    model = PhoneModel.load(file)
    unknown = set(words.tokens) - set(model.phones) - {SILENCE}
    if unknown:
        raise MismatchError(
            f"aligner {str(file)!r} does not know the phones {', '.join(map(repr, sorted(unknown)[:5]))} of the lexicon; use the lexicon that it "
            "was made with, or make another with a flat start"
        )
    return model
