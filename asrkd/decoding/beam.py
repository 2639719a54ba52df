"""CTC prefix beam search with a language model and a lexicon, by flashlight-text.

flashlight's search without a lexicon sums over the alignments of each sequence of tokens, whatever the tokens are. Its search with one is
right only where words end in a token of their own: behind a word's last token it takes no further frame of that token. So the lexicon
is part of what it takes for a language model of tokens (`_Sentences`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.topology import NOTHING
from asrkd.decoding.decode import Hypothesis, check_scores
from asrkd.decoding.language_model import NGram, check_flashlight
from asrkd.errors import ConfigError, CorpusError, MismatchError

if TYPE_CHECKING:
    from flashlight.lib.text.decoder import LMState

# Ways to cut one prefix into words that are kept.
_MAX_WAYS = 50
# Of a sentence that the audio's end cuts off: below any that is complete, and a number that sums do not break.
_CUT_OFF = -1e5


@dataclass(frozen=True)
class BeamSettings:
    """How wide the search is, and what its scores are.

    Attributes:
        beam_size: prefixes kept a frame.
        token_beam: the best tokens of a frame, which alone are tried.
        beam: prefixes further below the best are dropped, in nats.
        lm_weight: factor of the language model's scores.
        word_score: added for every word.
    """

    beam_size: int = 50
    token_beam: int = 30
    beam: float = 24.0
    lm_weight: float = 1.0
    word_score: float = 0.0

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.token_beam < 1 or not self.beam > 0:
            raise ConfigError(
                f"the beam search keeps {self.beam_size} prefixes and {self.token_beam} tokens in a beam of {self.beam:g}, but needs at least one of "
                "each and a beam above 0"
            )


@dataclass(frozen=True)
class _Way:
    """One way to cut a prefix into words: the node of the lexicon it is at, the words so far, and their scores."""

    node: int
    words: tuple[Any, ...]  # (words before, the last one), or empty
    state: Any
    score: float


class BeamDecoder:
    """Searches the scores of one utterance at a time.

    The score of a prefix is the sum over its alignments, times that of the best way to cut it into words.

    Args:
        inventory: of the model, which has a blank.
        vocabulary: the tokens of each word's pronunciations; of tokens alone, each is a word.
        grammar: a language model of the words; those that it does not have are not found.

    Raises:
        MismatchError: a model without a blank.
        CorpusError: a word that the inventory cannot spell, or a language model that cannot be used.
        DependencyError: flashlight-text is not installed.
    """

    def __init__(
        self,
        inventory: Inventory,
        vocabulary: Mapping[str, Sequence[Sequence[str]]],
        grammar: str | None = None,
        settings: BeamSettings | None = None,
    ) -> None:
        check_flashlight()
        from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions

        if not inventory.topology.collapses_repeats:
            raise MismatchError(
                f"the beam search sums over the alignments of CTC; the topology here is {inventory.topology_name!r}, which has no blank. Use a graph"
            )
        self.inventory, self.settings = inventory, settings or BeamSettings()
        self._sentences = _sentences(inventory, vocabulary, grammar, self.settings)
        options = LexiconFreeDecoderOptions(
            beam_size=self.settings.beam_size,
            beam_size_token=min(self.settings.token_beam, len(inventory)),
            beam_threshold=self.settings.beam,
            lm_weight=1.0,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        self._decoder = LexiconFreeDecoder(options, self._sentences, -1, NOTHING, [])

    def decode(self, scores: NDArray[np.float32], n_best: int = 1) -> list[Hypothesis]:
        """The `n_best` best sentences of (T, V) acoustic scores, the best first; fewer where the beam holds no more.

        Raises:
            MismatchError: V is not the inventory's.
            CorpusError: NaN among the scores, or no prefix survives the beam.
        """
        scores = check_scores(scores, self.inventory)
        if not len(scores):
            return [Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))]
        results = self._decoder.decode(scores.ctypes.data, *scores.shape)
        found: dict[tuple[str, ...], Hypothesis] = {}
        for result in sorted(results, key=lambda result: -result.score):
            if len(found) == n_best or not math.isfinite(result.score):
                break
            path = result.tokens[1:-1]
            tokens = [token for n, token in enumerate(path) if token != NOTHING and (not n or path[n - 1] != token)]
            words, complete = self._sentences.words_of(tokens)
            if words in found:
                continue
            score = result.score - (0.0 if complete else _CUT_OFF)
            found[words] = Hypothesis(words, score, _aligned(scores, tokens), complete)
        if not found:
            raise CorpusError(f"no prefix survives the beam over {len(scores)} frames; widen it (beam, beam_size)")
        return list(found.values())


def _aligned(scores: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.int64]:
    """(T,) classes of the best alignment of tokens."""
    if not tokens:
        return np.full(len(scores), NOTHING, dtype=np.int64)
    log_probs = torch.from_numpy(scores).log_softmax(-1)[None]
    path, _ = torchaudio.functional.forced_align(log_probs, torch.tensor([list(tokens)]), blank=NOTHING)
    classes: NDArray[np.int64] = path[0].numpy().astype(np.int64)
    return classes


def _sentences(
    inventory: Inventory,
    vocabulary: Mapping[str, Sequence[Sequence[str]]],
    grammar: str | None,
    settings: BeamSettings,
) -> Any:
    """What flashlight asks for the score of each token: an `LM` of its own.

    A prefix of tokens is at one or several places of the lexicon's tree; its score is that of the best. Within a word the best score of any word that
    begins so is used in place of the word's own, so that the beam compares like with like.
    """
    from flashlight.lib.text.decoder import LM

    names = list(vocabulary)
    model = NGram(grammar, names) if grammar is not None else None
    followers: list[dict[int, int]] = [{}]
    ends: list[list[int]] = [[]]
    below = [-math.inf]
    for number, name in enumerate(names):
        if model is not None and not model.has[number]:
            continue
        alone = settings.word_score
        if model is not None:
            alone += settings.lm_weight * model.score(model.start(), number)[1]
        for spelling in vocabulary[name]:
            node = 0
            for token in inventory.ids(spelling):
                if token not in followers[node]:
                    followers[node][token] = len(followers)
                    followers.append({})
                    ends.append([])
                    below.append(-math.inf)
                node = followers[node][token]
                below[node] = max(below[node], alone)
            ends[node].append(number)

    class Sentences(LM):  # type: ignore[misc]
        """Sentences of the words, token by token."""

        def __init__(self) -> None:
            super().__init__()
            self._ways: dict[LMState, list[_Way]] = {}
            self._deltas: dict[LMState, float] = {}

        def start(self, start_with_nothing: bool) -> LMState:
            from flashlight.lib.text.decoder import LMState

            self._ways.clear()
            self._deltas.clear()
            self._first = LMState()
            self._ways[self._first] = [_Way(0, (), model.start() if model else None, 0.0)]
            return self._first

        def score(self, state: LMState, token: int) -> tuple[LMState, float]:
            after = state.child(token)
            if after not in self._deltas:
                ways = _follow(self._ways[state], token)
                self._ways[after] = ways
                self._deltas[after] = _best(ways) - _best(self._ways[state]) if ways else -math.inf
            return after, self._deltas[after]

        def finish(self, state: LMState) -> tuple[LMState, float]:
            ways = self._ways[state]
            if not ways:
                return state, -math.inf
            return state, _ended(ways)[1] - _best(ways)

        def words_of(self, tokens: Sequence[int]) -> tuple[tuple[str, ...], bool]:
            """The words of a sequence of tokens, and whether it ends where a word does."""
            ways = self._ways[self._first]
            for token in tokens:
                ways = _follow(ways, token)
            way, _ = _ended(ways)
            words, rest = [], way.words
            while rest:
                rest, word = rest
                words.append(names[word])
            return tuple(reversed(words)), not way.node

    def _best(ways: list[_Way]) -> float:
        return max(map(_promise, ways))

    def _follow(ways: list[_Way], token: int) -> list[_Way]:
        found = []
        for way in ways:
            node = followers[way.node].get(token)
            if node is None:
                continue
            if followers[node]:
                found.append(_Way(node, way.words, way.state, way.score))
            for word in ends[node]:
                state, score = way.state, way.score + settings.word_score
                if model is not None:
                    state, more = model.score(state, word)
                    score += settings.lm_weight * more
                found.append(_Way(0, (way.words, word), state, score))
        return found if len(found) <= _MAX_WAYS else heapq.nlargest(_MAX_WAYS, found, key=_promise)

    def _promise(way: _Way) -> float:
        return way.score + (below[way.node] if way.node else 0.0)

    def _ended(ways: list[_Way]) -> tuple[_Way, float]:
        """The way that ends best, and its score with the sentence's end."""
        scored = []
        for way in ways:
            score = way.score + (_CUT_OFF if way.node else 0.0)
            if model is not None:
                score += settings.lm_weight * model.finish(way.state)
            scored.append((score, way))
        score, way = max(scored, key=lambda pair: pair[0])
        return way, score

    return Sentences()
