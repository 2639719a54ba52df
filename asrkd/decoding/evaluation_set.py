"""Test sets: their cuts with references, and the acoustic scores that a model gives them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd import text
from asrkd.acoustic import AcousticModel
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import CutJson, to_cut
from asrkd.corpus.cuts import iterate, iterate_json
from asrkd.corpus.transcripts import speaker_of, transcript_of
from asrkd.errors import CorpusError


@dataclass(frozen=True)
class EvaluationSet:
    """Cuts that can be scored.

    Attributes:
        name: of the corpus, for messages.
        cuts: in lhotse's JSON form.
        references, speakers: by utterance id.
    """

    name: str
    cuts: list[CutJson]
    references: dict[str, str]
    speakers: dict[str, str]

    @classmethod
    def read(cls, path: str) -> EvaluationSet:
        """Read the manifest, once; no audio is read.

        Raises:
            CorpusError: a cut that cannot be read or without a transcript, an id more than once, or no words at all.
        """
        found = cls(path, [], {}, {})
        for cut in iterate_json(path):
            key = cut["id"]
            if "unreadable" in cut:
                raise CorpusError(cut["unreadable"])
            if key in found.references:
                raise CorpusError(
                    f"cut id {key!r} is in {path!r} more than once; hypotheses are found by id, so one would be lost. Make the ids unique "
                    "(lhotse: cuts.modify_ids)"
                )
            transcript = transcript_of(cut)
            if transcript.text is None:
                why = transcript.problem or "has no transcript"
                raise CorpusError(f"cut {key!r} of {path!r} {why}; it cannot be scored, so leave it out")
            found.cuts.append(cut)
            found.references[key], found.speakers[key] = transcript.text, speaker_of(cut) or key
        if not any(map(text.words, found.references.values())):
            raise CorpusError(
                f"the transcripts of {path!r} hold no words, so there is no word error rate; give transcripts"
            )
        return found


class Utterances(NamedTuple):
    """Cuts to give acoustic scores of, in lhotse's JSON form, and what they are of, for messages."""

    name: str
    cuts: Sequence[CutJson]


class AcousticScores:
    """A model's acoustic scores of a test set, (utterance id, (T, V) float32) pairs that are computed as they are iterated.

    Args:
        acoustic_scale, prior_scale, blank_penalty: as in `AcousticModel.scores`.
        batch: utterances that the model is given at a time.

    Attributes:
        audio_seconds: of audio so far.
        model_seconds: of computation in the model alone, so far.

    Raises:
        ModelError: a model that needs priors has none.
        ConfigError: a blank penalty for a model without blank.
        CorpusError: while it is iterated, audio that cannot be read, or is longer than what the model takes.
    """

    def __init__(
        self,
        model: AcousticModel,
        test_set: EvaluationSet | Utterances,
        *,
        acoustic_scale: float = 1.0,
        prior_scale: float = 1.0,
        blank_penalty: float = 0.0,
        batch: int = 16,
    ) -> None:
        model.check_prior()
        model.check_blank_penalty(blank_penalty)
        self.model, self.test_set, self.batch = model, test_set, batch
        self.audio_seconds = self.model_seconds = 0.0
        self._scales = {
            "acoustic_scale": acoustic_scale,
            "prior_scale": prior_scale,
            "blank_penalty": blank_penalty,
        }

    def __iter__(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        rate = self.model.front_end.sampling_rate
        pending: list[tuple[str, Tensor]] = []
        for cut in iterate(map(to_cut, self.test_set.cuts), what=self.test_set.name):
            samples = read_audio(cut, rate)
            self.audio_seconds += len(samples) / rate
            features = self.model.front_end(torch.from_numpy(samples))
            self.model.check_length(len(features), f"cut {cut.id!r} of {self.test_set.name!r}")
            pending.append((cut.id, features))
            if len(pending) == self.batch:
                yield from self._scores(pending)
                pending = []
        if pending:
            yield from self._scores(pending)

    def _scores(self, pending: list[tuple[str, Tensor]]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        features = torch.nn.utils.rnn.pad_sequence([one for _, one in pending], batch_first=True)
        feature_lengths = torch.tensor([len(one) for _, one in pending])
        began = time.perf_counter()
        scores, lengths = self.model.scores(features, feature_lengths, **self._scales)
        scores, lengths = scores.cpu(), lengths.cpu()  # a GPU has finished only now
        self.model_seconds += time.perf_counter() - began
        for (key, _), frames, length in zip(pending, scores, lengths.tolist(), strict=True):
            yield key, frames[:length].numpy()


def latency_ratio(model: AcousticModel, *, seconds: float = 10.0, repeats: int = 5) -> float:
    """Seconds of computation for one second of audio (real-time factor), one utterance at a time on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        noise = torch.randn(int(seconds * model.front_end.sampling_rate), generator=torch.Generator().manual_seed(0))
        features = model.front_end(0.1 * noise)[None]
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            model.log_probs(features, torch.tensor([features.shape[1]]))
            times.append(time.perf_counter() - began)
        return min(times) / seconds
    finally:
        torch.set_num_threads(threads)
