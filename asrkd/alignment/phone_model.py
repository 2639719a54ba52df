"""The HMM-GMM that a flat start makes: phones of three states, mixtures, transitions; saved and used again without pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.features import Cepstra, with_deltas
from asrkd.alignment.mixtures import Mixtures
from asrkd.alignment.phone_graph import SILENCE_STATE, Costs, PhoneGraph, states_of, viterbi_paths
from asrkd.alignment.summary import usual_of
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.tokenizer import spell as names_of
from asrkd.corpus.topology import SILENCE
from asrkd.errors import CorpusError, MismatchError

FORMAT = "asrkd aligner 1"
# Transition probabilities weigh so much more than those of frames, whose neighbors are not independent witnesses (Kaldi: 1 / acoustic scale).
_SCALE = 10.0
# Those of staying in a phone's state: with 1, the last phone of an utterance swallows quiet breath behind it.
_STAY_SCALE = 3.0
# Nats a frame: a phone's state may have learned the noise of a room, and would fill a pause.
_IN_PAUSE = 30.0


@dataclass(frozen=True)
class BestPath:
    """The best path of an utterance, T frames of 10 ms.

    Attributes:
        nodes: (T,) nodes of the graph.
        states: (T,) their HMM states.
        gain: mean over the spoken frames of the log-likelihood of the state, less that of the state that fits best: at most 0.
    """

    nodes: NDArray[np.int64]
    states: NDArray[np.int64]
    gain: float


@dataclass(frozen=True)
class PhoneModel:
    """What aligns transcripts.

    Attributes:
        phones: without silence.
        sampling_rate: hertz.
        mixtures: of silence, then of each phone's states.
        stay: (V,) probability of another frame in a state.
        silence: probabilities of silence at the beginning, after a word within, and at the end of an utterance.
        usual: median and robust deviation of `BestPath.gain` over the utterances that it was made from.
    """

    phones: tuple[str, ...]
    sampling_rate: int
    mixtures: Mixtures
    stay: NDArray[np.float64]
    silence: tuple[float, float, float] = (0.9, 0.2, 0.9)
    usual: tuple[float, float] = (0.0, 1.0)

    @property
    def costs(self) -> Costs:
        """Transition costs as the search takes them."""
        start, within, end = (np.log([1 - p, p]) * _SCALE for p in np.clip(self.silence, 1e-3, 1 - 1e-3))
        stay = np.clip(self.stay, 0.02, 0.98)
        staying = np.log(stay) * np.where(np.arange(len(stay)) == SILENCE_STATE, 1.0, _STAY_SCALE)
        return Costs(staying, np.log(1 - stay), np.array([*within, 0.0]), start, end)

    def features(self, utterance: Cepstra) -> NDArray[np.float32]:
        """(T, D) what the mixtures are over."""
        return with_deltas(utterance.values)

    def align(self, utterances: Sequence[Cepstra], graphs: Sequence[PhoneGraph]) -> list[BestPath]:
        """The best path of each utterance; each has at least the frames of its graph's shortest path."""
        features = [self.features(utterance) for utterance in utterances]
        bounds = np.cumsum([len(own) for own in features])[:-1]
        scores = np.split(self.mixtures.log_likelihoods(np.concatenate(features)), bounds)
        found = []
        for own, utterance in zip(scores, utterances, strict=True):
            own[np.ix_(utterance.pause, np.arange(own.shape[1]) != SILENCE_STATE)] -= _IN_PAUSE
        for (nodes, _), own, graph in zip(viterbi_paths(scores, graphs, self.costs), scores, graphs, strict=True):
            states = graph.states[nodes]
            frames = np.arange(len(nodes))
            lost = own[frames, states] - own.max(axis=1)
            spoken = states != SILENCE_STATE
            found.append(BestPath(nodes, states, float(lost[spoken].mean())))
        return found

    def spell(self, text: str, tokenizer: Tokenizer, *, what: str) -> list[list[list[int]]]:
        """For each word of a transcript its pronunciations as numbers of phones, -1 for silence.

        Raises:
            CorpusError: the transcript is empty, or a word is not in the lexicon.
            MismatchError: a phone that the model does not know.
        """
        return spell_phones(text, tokenizer, self.phones, what=what)

    def save(self, file: str | Path) -> None:
        """Write an `.npz` file: arrays and one string of JSON.

        Raises:
            CorpusError: it cannot be written.
        """
        arrays: dict[str, Any] = {
            name: getattr(self.mixtures, name).astype(np.float32) for name in ("weights", "means", "variances")
        }
        arrays["stay"] = self.stay
        facts = {
            "format": FORMAT, "phones": self.phones, "sampling_rate": self.sampling_rate, "silence": self.silence, "usual": self.usual,
        }  # fmt: skip
        temporary = Path(file).with_name(f".{Path(file).name}.{os.getpid()}.tmp")
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as stream:
                np.savez_compressed(stream, facts=np.array(json.dumps(facts)), **arrays)
            os.replace(temporary, file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CorpusError(f"aligner {str(file)!r} cannot be written: {error.strerror or error}") from None

    @classmethod
    def load(cls, file: str | Path) -> PhoneModel:
        """The inverse of `save`.

        Raises:
            CorpusError: it cannot be read, or is another kind of file.
        """
        try:
            with np.load(file, allow_pickle=False) as content:
                facts = json.loads(str(content["facts"]))
                if facts.pop("format") != FORMAT:
                    raise ValueError("of another format")
                arrays = {name: content[name] for name in content.files if name != "facts"}
            mixtures = Mixtures(*(arrays[name].astype(np.float64) for name in ("weights", "means", "variances")))
            return cls(
                tuple(facts["phones"]), int(facts["sampling_rate"]), mixtures, arrays["stay"], tuple(facts["silence"]),
                tuple(facts["usual"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CorpusError(
                f"aligner {str(file)!r} cannot be read ({error}); give a file that asrkd align --save has written"
            ) from None

    def with_usual(self, gains: Sequence[float]) -> PhoneModel:
        """This model, with what is usual among these utterances."""
        return dataclasses.replace(self, usual=usual_of(gains))


def spell_phones(text: str, tokenizer: Tokenizer, phones: Sequence[str], *, what: str) -> list[list[list[int]]]:
    """See `PhoneModel.spell`."""
    numbers = {phone: number for number, phone in enumerate(phones)} | {SILENCE: -1}
    spelled = names_of(tokenizer, text, what=what)
    if not spelled:
        raise CorpusError(f"{what} is empty, so there is nothing to align; leave the cut out of the labeled set")
    unknown = {phone for spellings in spelled for own in spellings for phone in own} - set(numbers)
    if unknown:
        raise MismatchError(
            f"{what} is spelled with phone {min(unknown)!r}, which is not among the {len(phones)} phones of the aligner; use the lexicon that "
            "it was made with, or make another"
        )
    return [[[numbers[phone] for phone in own] for own in spellings] for spellings in spelled]


def num_states(phones: int) -> int:
    """States of silence and of N phones."""
    return states_of(phones - 1).stop if phones else 1
