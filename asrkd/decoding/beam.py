"""CTC prefix beam search with a language model and a lexicon, by flashlight-text.

flashlight's own CTC search through a lexicon ends a word at the first frame of its last token, so it is right only where words end in a token of
their own. Here blanks and repeated frames are part of the lexicon instead (`_Lexicon`), which is searched as it is, frame by frame. Where the tokens
are the words, its search without a lexicon does.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.topology import NOTHING
from asrkd.decoding.decode import Hypothesis, check_scores
from asrkd.decoding.language_model import LOG_10, NGram, check_flashlight
from asrkd.errors import ConfigError, CorpusError, MismatchError

# The most that the scores of nodes are moved apart that would have the same one.
_APART = 1e-3

# Of the table of pairs in the search through a lexicon, whose size is its square: 12 bytes a pair while it is made.
MAX_COLUMNS = 16_384


@dataclass(frozen=True)
class BeamSettings:
    """How wide the search is, and what its scores are.

    Attributes:
        beam_size: entries kept a frame; through a lexicon a prefix has up to three (in a token, in blanks behind it, in a word's last frame).
        token_beam: the best tokens of a frame, which alone are tried.
        beam: prefixes further below the best are dropped, in nats.
        lm_weight: factor of the language model's scores.
        word_score: added for every word.
    """

    beam_size: int = 200
    token_beam: int = 30
    beam: float = 24.0
    lm_weight: float = 1.0
    word_score: float = 0.0

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.token_beam < 1 or not self.beam > 0:
            raise ConfigError(
                f"the beam search keeps {self.beam_size} entries and {self.token_beam} tokens in a beam of {self.beam:g}, but needs at least one of "
                "each and a beam above 0"
            )


class BeamDecoder:
    """Searches the scores of one utterance at a time.

    The score of a sentence is the sum over all ways to say it (its words' pronunciations, and their alignments), times that of its words.

    Args:
        inventory: of the model, which has a blank.
        vocabulary: the tokens of each word's pronunciations; of tokens alone, each is a word.
        grammar: a language model of the words; those that it does not have are not found.

    Raises:
        MismatchError: a model without a blank.
        ConfigError: too many tokens for a search through a lexicon (`MAX_COLUMNS`).
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
        if not inventory.topology.collapses_repeats:
            raise MismatchError(
                f"the beam search sums over the alignments of CTC; the topology here is {inventory.topology_name!r}, which has no blank. Use a graph"
            )
        settings = settings or BeamSettings()
        spellings = [list(dict.fromkeys(tuple(inventory.ids(one)) for one in ways)) for ways in vocabulary.values()]
        names: Sequence[str] = tuple(vocabulary)
        word_of = {ways[0][0]: name for name, ways in zip(names, spellings, strict=True) if list(map(len, ways)) == [1]}
        # Each word is a token of its own.
        alone = len(word_of) == len(names) and not settings.word_score
        if alone:
            names = [word_of.get(token, f"\x02{token}") for token in range(len(inventory))]
        model = NGram(grammar, names) if grammar is not None else None
        self.inventory, self._words = inventory, names
        self._search: _Tokens | _Lexicon
        if alone:
            self._search = _Tokens(sorted(word_of), model, settings, len(inventory))
        else:
            self._search = _Lexicon(spellings, model, settings, len(inventory))

    def decode(self, scores: NDArray[np.float32], n_best: int = 1) -> list[Hypothesis]:
        """The `n_best` best sentences of (T, V) acoustic scores, the best first; fewer where the beam holds no more.

        Raises:
            MismatchError: V is not the inventory's.
            CorpusError: NaN among the scores, or no prefix survives the beam.
        """
        scores = check_scores(scores, self.inventory)
        if not len(scores):
            return [Hypothesis((), 0.0, np.zeros(0, dtype=np.int64))]
        columns = np.ascontiguousarray(self._search.columns(scores))
        found: dict[tuple[str, ...], Hypothesis] = {}
        for result in sorted(
            self._search.decoder.decode(columns.ctypes.data, *columns.shape), key=lambda result: -result.score
        ):
            if len(found) == n_best or not math.isfinite(result.score):
                break
            classes, numbers, promised = self._search.path(result)
            words = tuple(self._words[number] for number in numbers)
            if words not in found:
                found[words] = Hypothesis(words, result.score - (promised or 0.0), classes, promised is None)
        if not found:
            raise CorpusError(f"no prefix survives the beam over {len(scores)} frames; widen it (beam, beam_size)")
        return list(found.values())


class _Tokens:
    """The search of words that are tokens, and have their numbers."""

    def __init__(self, tokens: Sequence[int], model: NGram | None, settings: BeamSettings, count: int) -> None:
        from flashlight.lib.text.decoder import CriterionType, LexiconFreeDecoder, LexiconFreeDecoderOptions, ZeroLM

        known = [token for token in tokens if model is None or model.has[token]]
        self._left_out = np.setdiff1d(np.arange(count), [NOTHING, *known])
        options = LexiconFreeDecoderOptions(
            beam_size=settings.beam_size,
            beam_size_token=min(settings.token_beam, count),
            beam_threshold=settings.beam,
            lm_weight=settings.lm_weight * LOG_10,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        self.decoder = LexiconFreeDecoder(options, model.model if model is not None else ZeroLM(), -1, NOTHING, [])

    def columns(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, N) scores as the decoder takes them: without tokens that cannot come."""
        if not len(self._left_out):
            return scores
        scores = scores.copy()
        scores[:, self._left_out] = -np.inf
        return scores

    def path(self, result: Any) -> tuple[NDArray[np.int64], list[int], float | None]:
        """(T,) classes, the words, and what a word that the end cuts off was given in advance; None if there is no such word."""
        classes = result.tokens[1:-1]
        words = [token for n, token in enumerate(classes) if token != NOTHING and (not n or classes[n - 1] != token)]
        return np.array(classes, dtype=np.int64), words, None


class _Lexicon:
    """The search of words that are spelled: every way through a word's frames is in a tree of all spellings.

    A node is the frames of one token. Behind it are a node of blanks, other tokens, and at a word's end a last frame of the token, which brings the
    word and leads back to the root; there the search takes blanks by itself. A word that begins with the token that the one before ended with would
    follow it without a blank, so the last frame of such a token has a column of its own, behind which `transitions` forbid that token.

    Args:
        spellings: the tokens of each word's pronunciations.
    """

    def __init__(
        self, spellings: Sequence[Sequence[Sequence[int]]], model: NGram | None, settings: BeamSettings, count: int
    ) -> None:
        from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, Trie, ZeroLM

        ends = {spelling[-1] for ways in spellings for spelling in ways}
        doubled = sorted(ends & {spelling[0] for ways in spellings for spelling in ways})
        last = {token: count + n for n, token in enumerate(doubled)}
        self._tokens = np.array([*range(count), *doubled], dtype=np.int64)
        size = len(self._tokens)
        if size > MAX_COLUMNS:
            raise ConfigError(
                f"the beam search through a lexicon has a table of all pairs of tokens; {count} tokens, {len(doubled)} of them at the beginning and at the "
                f"end of words, are {size} columns, and above {MAX_COLUMNS} the table takes more than 3 GB. Use the decoder graph, or fewer tokens"
            )
        # What flashlight turns into its own vector: a list of numbers would take 32 bytes for each.
        table = array("f", bytes(4 * size * size))
        transitions = np.frombuffer(table, dtype=np.float32).reshape(size, size)
        for token, column in last.items():
            transitions[[token, column], column] = -np.inf
        self._trie = Trie(size, NOTHING)
        _grow(self._trie, spellings, model, last)
        self._lm_weight = settings.lm_weight * LOG_10
        options = LexiconDecoderOptions(
            beam_size=settings.beam_size,
            beam_size_token=min(settings.token_beam * (2 if last else 1), size),
            beam_threshold=settings.beam,
            lm_weight=self._lm_weight,
            word_score=settings.word_score,
            unk_score=-math.inf,
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.ASG,
        )
        scorer = model.model if model is not None else ZeroLM()
        self.decoder = LexiconDecoder(options, self._trie, scorer, NOTHING, NOTHING, -1, table, False)

    def columns(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, N) scores as the decoder takes them."""
        return scores[:, self._tokens]

    def path(self, result: Any) -> tuple[NDArray[np.int64], list[int], float | None]:
        """(T,) classes, the words, and what a word that the end cuts off was given in advance; None if there is no such word."""
        columns, labels = result.tokens[1:-1], result.words[1:-1]
        words = [label for label in labels if label >= 0]
        begun = max((n + 1 for n, label in enumerate(labels) if label >= 0), default=0)
        while begun < len(columns) and columns[begun] == NOTHING:
            begun += 1
        rest = [column for n, column in enumerate(columns) if n >= begun and (n == begun or columns[n - 1] != column)]
        promised = self._lm_weight * float(self._trie.search(rest).max_score) if rest else None
        return self._tokens[columns], words, promised


def _grow(
    trie: Any, spellings: Sequence[Sequence[Sequence[int]]], model: NGram | None, last: Mapping[int, int]
) -> None:
    """Put words into flashlight's tree.

    Within a word the best score of any word that begins so takes the place of the word's own, so that the beam compares like with like.

    Args:
        last: the column of a token's last frame, where it has one of its own.
    """
    from flashlight.lib.text.decoder import TrieNode

    followers: list[dict[int, int]] = [{}]
    words: list[list[int]] = [[]]
    best = [-math.inf]
    for word, ways in enumerate(spellings):
        if model is not None and not model.has[word]:
            continue
        score = model.log_10(word) if model is not None else 0.0
        for spelling in ways:
            place = 0
            for token in spelling:
                if token not in followers[place]:
                    followers[place][token] = len(followers)
                    followers.append({})
                    words.append([])
                    best.append(-math.inf)
                place = followers[place][token]
                best[place] = max(best[place], score)
            words[place].append(word)

    numbers = itertools.count(1)

    def node(token: int, place: int, children: dict[int, Any], labels: list[int]) -> Any:
        made = TrieNode(token)
        # Of prefixes with one score the search would keep those with the lower addresses. The difference is taken back at the word's end.
        made.max_score = best[place] - _APART * (0.618 * next(numbers) % 1)
        made.children, made.labels, made.scores = children, labels, [0.0] * len(labels)
        return made

    # By place the nodes that follow it, by column. Places come behind those that they follow.
    behind: list[dict[int, Any]] = [{} for _ in followers]
    for place in range(len(followers) - 1, -1, -1):
        for token, after in followers[place].items():
            column, onward, ended = last.get(token, token), behind[after], words[after]
            inside = {other: made for other, made in onward.items() if other not in (token, column)}
            if onward:
                inside[NOTHING] = node(NOTHING, after, onward, [])
            if ended:
                inside[column] = behind[place][column] = node(column, after, {}, ended)
            behind[place][token] = node(token, after, inside, ended if column == token else [])
            behind[after] = {}
    # The root itself cannot be had: Python would delete it.
    for column, made in behind[0].items():
        first = trie.insert([column], 0, 0.0)
        first.max_score, first.children, first.labels, first.scores = (
            made.max_score,
            made.children,
            made.labels,
            made.scores,
        )
