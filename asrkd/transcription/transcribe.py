"""From a recording to the words of its utterances, one after the other.

A recording is cut where nothing is said for a while, so what is found in an utterance does not depend on how long the recording is: it is read twice,
block by block for the pauses and utterance by utterance for the words.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from asrkd.acoustic import AcousticModel
from asrkd.corpus.cut_json import CutJson
from asrkd.decoding.evaluation_set import AcousticScores, Utterances
from asrkd.decoding.search import Decoded, Search
from asrkd.errors import CorpusError
from asrkd.segmentation.run import segment_cut
from asrkd.segmentation.settings import SegmentSettings

# Utterances end at pauses of a second, and keep what is around their words.
UTTERANCES = SegmentSettings(vad="energy", min_speech=0.1, merge=1.0, pad=0.4, min_seconds=1.0)


@dataclass(frozen=True)
class TranscribedUtterance:
    """What was said between two pauses.

    Attributes:
        start, end: seconds from the recording's beginning.
        decoded: its words, their times from the recording's beginning, too.
    """

    start: float
    end: float
    decoded: Decoded


class Transcriber:
    """A model and a search.

    Args:
        settings: where utterances end.
        acoustic_scale, blank_penalty: as in `AcousticModel.scores`.
        batch: utterances that the model is given at a time.

    Attributes:
        audio_seconds: of the recordings so far.

    Raises:
        ModelError: a model that needs priors has none.
        ConfigError: a blank penalty for a model without blank.
    """

    def __init__(
        self,
        model: AcousticModel,
        search: Search,
        settings: SegmentSettings = UTTERANCES,
        *,
        acoustic_scale: float = 1.0,
        blank_penalty: float = 0.0,
        batch: int = 4,
    ) -> None:
        model.check_prior()
        model.check_blank_penalty(blank_penalty)
        # No utterance is longer than what the model takes.
        longest = min(settings.max_seconds, model.max_seconds)
        self._model, self._search, self._batch = model, search, batch
        self._settings = dataclasses.replace(settings, max_seconds=longest)
        self._scales = {"acoustic_scale": acoustic_scale, "blank_penalty": blank_penalty}
        self.audio_seconds = 0.0

    def utterances(self, recording: CutJson) -> Iterator[TranscribedUtterance]:
        """The utterances of a recording, as they are found.

        Raises:
            CorpusError: the recording cannot be read, or nothing survives the search.
            DependencyError: the detector of speech is not installed.
        """
        segmented = segment_cut(recording, self._settings)
        if segmented.unreadable:
            raise CorpusError(segmented.unreadable)
        offset, parts = recording.get("start", 0.0), tuple(segmented.parts(self._settings))
        if not parts and segmented.seconds <= self._settings.max_seconds:
            # No pause to measure speech against: words that were cut out closely.
            parts = (dict(recording) | {"start": offset},)
        places = {part["id"]: (part["start"] - offset, part["duration"]) for part in parts}
        self.audio_seconds += segmented.seconds
        if not places:
            return
        named = Utterances(recording["id"], parts)
        scores = AcousticScores(self._model, named, batch=self._batch, **self._scales)
        for decoded in self._search.decode(scores):
            start, duration = places[decoded.key]
            yield TranscribedUtterance(start, start + duration, _later(decoded, start))


def _later(decoded: Decoded, seconds: float) -> Decoded:
    words = tuple(
        dataclasses.replace(word, start=word.start + seconds, end=word.end + seconds) for word in decoded.words
    )
    return dataclasses.replace(decoded, words=words)


def transcript(utterances: Iterator[TranscribedUtterance]) -> str:
    """The text of a recording."""
    texts = (utterance.decoded.text for utterance in utterances)
    return " ".join(itertools.filterfalse(lambda text: not text, texts))
