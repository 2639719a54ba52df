"""Words with their times and confidences, from a path of classes; and tokens of a model that has no tokenizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd import text
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.tokens import Tokens
from asrkd.corpus.topology import NOTHING


@dataclass(frozen=True)
class TimedWord:
    """A word.

    Attributes:
        word: as it is written.
        start, end: seconds.
        confidence: the geometric mean of what its classes have of the frames that it takes, by the softmax of the acoustic scores: for `ctc` at
            scale 1 the posteriors of its tokens.
    """

    word: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class _Run:
    """Frames `begin` to `end` (after the last) of one token, and the sum of their log-posteriors."""

    token: str
    begin: int
    end: int
    log_prob: float


def timed_words(
    words: Sequence[str],
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    frame_seconds: float,
    inventory: Inventory,
    tokenizer: Tokenizer,
) -> list[TimedWord]:
    """Where the words of a path are.

    Args:
        words: of the path; of a tokenizer without a list of words its tokens.
        classes: (T,) of the path.
        scores: (T, V) acoustic scores.
    """
    runs = _runs(classes, scores, inventory)
    if tokenizer.words is None:
        return _of_tokens(runs, frame_seconds, tokenizer)
    spelled = [[tuple(tokenizer.tokens[token] for token in ids) for ids in tokenizer.encode(word)[0]] for word in words]
    spans = _spans(spelled, [run.token for run in runs])
    return [_timed(word, runs[begin:end], frame_seconds) for word, (begin, end) in zip(words, spans, strict=True)]


def _runs(classes: NDArray[np.int64], scores: NDArray[np.float32], inventory: Inventory) -> list[_Run]:
    """The tokens of a path, without silence and blanks."""
    if not len(classes):
        return []
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    log_probs = shifted[np.arange(len(classes)), classes] - np.log(np.exp(shifted).sum(axis=1))
    tokens = Tokens.of(inventory)
    first = {states[0]: name for name, states in zip(tokens.names, tokens.states, strict=True)}
    runs: list[_Run] = []
    for frame, label in enumerate(classes.tolist()):
        begins = label in first and (not frame or classes[frame - 1] != label)
        if label == NOTHING:
            continue
        if begins:
            runs.append(_Run(first[label], frame, frame + 1, float(log_probs[frame])))
        elif runs:
            last = runs[-1]
            runs[-1] = _Run(last.token, last.begin, frame + 1, last.log_prob + float(log_probs[frame]))
    return runs


def _spans(spelled: Sequence[Sequence[Sequence[str]]], tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Which tokens are those of each word.

    A last word may be cut off. Where an `hmm` has one state a phone, two equal phones in a row are one run of frames, so both may be one token.
    """
    # For each place in `tokens` where the words so far may end: where each of them ended before.
    before: list[dict[int, int]] = []
    places = {0}
    for spellings in spelled:
        reached: dict[int, int] = {}
        for place in sorted(places):
            for spelling in spellings:
                for end in _ends(spelling, tokens, place):
                    reached.setdefault(end, place)
        if not reached:  # not a path of these words
            reached = {len(tokens): min(places)}
        before.append(reached)
        places = set(reached)
    end = max(places)
    spans = []
    for reached in reversed(before):
        spans.append((reached[end], end))
        end = reached[end]
    return spans[::-1]


def _ends(spelling: Sequence[str], tokens: Sequence[str], place: int) -> list[int]:
    """Where a spelling that begins at a place may end."""
    ends = [place]
    for number, token in enumerate(spelling):
        after = [end + 1 for end in ends if end < len(tokens) and tokens[end] == token]
        if number and spelling[number - 1] == token:
            after += [end for end in ends if end not in after]
        if not after:
            return [len(tokens)] if max(ends) == len(tokens) else []  # cut off, or another word
        ends = after
    return ends


def _of_tokens(runs: Sequence[_Run], frame_seconds: float, tokenizer: Tokenizer) -> list[TimedWord]:
    """Words that tokens spell: a token belongs to the last word that it changes."""
    number = {token: place for place, token in enumerate(tokenizer.tokens)}
    ids = [number[run.token] for run in runs]
    groups: list[list[_Run]] = []
    said: list[str] = []
    for count, run in enumerate(runs, 1):
        now = text.words(tokenizer.decode(ids[:count]))
        if len(now) > len(groups):
            groups.append([run])
        elif groups and now != said:
            groups[-1].append(run)
        said = now
    return [_timed(word, group, frame_seconds) for word, group in zip(said, groups, strict=False)]


def _timed(word: str, runs: Sequence[_Run], frame_seconds: float) -> TimedWord:
    if not runs:
        return TimedWord(word, 0.0, 0.0, 0.0)
    frames = sum(run.end - run.begin for run in runs)
    mean = sum(run.log_prob for run in runs) / frames
    return TimedWord(word, runs[0].begin * frame_seconds, runs[-1].end * frame_seconds, math.exp(min(mean, 0.0)))
