"""Whether a model is as often right as it is sure: its posteriors against the best path of what was said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel
from asrkd.alignment.forced import transcript_graph, viterbi
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.errors import CorpusError

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Frames by the probability of their likeliest class, the confidence, in `BINS` equal parts of 0..1.

    Attributes:
        frames, right: (BINS,) number of frames, and of those whose likeliest class is that of the transcript's best path.
        confidence: (BINS,) sum of their confidences.
        left_out: utterances without such a path.
    """

    frames: NDArray[np.int64]
    right: NDArray[np.int64]
    confidence: NDArray[np.float64]
    left_out: int = 0

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / max(self.frames.sum(), 1))

    @property
    def mean_confidence(self) -> float:
        return float(self.confidence.sum() / max(self.frames.sum(), 1))

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over frames of how far the accuracy of a frame's bin is from its mean confidence (Guo et al. 2017)."""
        return float(np.abs(self.right - self.confidence).sum() / max(self.frames.sum(), 1))

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean confidence and accuracy of each bin that holds frames."""
        held = self.frames > 0
        return self.confidence[held] / self.frames[held], self.right[held] / self.frames[held]


def calibrate(log_probs: NDArray[np.float32], path: NDArray[np.int64]) -> Calibration:
    """Of the frames of one utterance: (T, V) natural-log posteriors, and the (T,) classes that are right."""
    sure = np.exp(log_probs.max(axis=1).astype(np.float64))
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    right = log_probs.argmax(axis=1) == path
    return Calibration(
        np.bincount(bins, minlength=BINS),
        np.bincount(bins[right], minlength=BINS),
        np.bincount(bins, weights=sure, minlength=BINS).astype(np.float64),
    )


def calibration_of(model: AcousticModel, dev: EvaluationSet, tokenizer: Tokenizer | None = None) -> Calibration:
    """The calibration of a model on a transcribed set.

    The right class of a frame is that of the best path of the transcript through the model's own scores, as in `asrkd align --model`, whatever the topology:
    words that the model has wrong count against it, and where it puts their borders does not.

    Args:
        tokenizer: of the transcripts; by default the model's own.

    Raises:
        ModelError: it needs priors and has none, or brings no tokenizer.
        CorpusError: audio that cannot be read, or no transcript that has a path.
    """
    words = tokenizer or model.text_tokenizer()
    total = Calibration(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS))
    left_out = 0
    for key, log_probs in AcousticScores(model, dev, prior_scale=0.0):
        try:
            graph = transcript_graph(dev.references[key], words, model.inventory, leave_early=True, what=f"cut {key!r}")
            path, _ = viterbi(model.scores_of(torch.from_numpy(log_probs)).numpy(), graph)
        except CorpusError:
            left_out += 1
            continue
        one = calibrate(log_probs, graph.classes[path])
        total = Calibration(
            total.frames + one.frames, total.right + one.right, total.confidence + one.confidence, left_out
        )
    if not total.frames.sum():
        raise CorpusError(
            f"none of the {len(dev.cuts)} transcripts of {dev.name!r} has a path through the scores of model {model.spec!r}, so nothing says which frames are right; "
            "give the tokenizer that spells its units"
        )
    return Calibration(total.frames, total.right, total.confidence, left_out)
