"""The error of a teacher, or of another model, on a transcribed set, before anything is labeled: with each decoder that fits it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asrkd.acoustic import AcousticModel
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer import Tokenizer, units_are_no_text
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.language_model import is_kenlm_binary
from asrkd.decoding.search import Search
from asrkd.decoding.units import spelling_of
from asrkd.errors import AsrkdError, ConfigError, CorpusError, DependencyError
from asrkd.evaluation.wer import as_characters, score, total
from asrkd.text_teachers.teacher import TextTeacher, failure

_log = logging.getLogger(__name__)

# Models write in cases and signs of their own, which are not what they are compared by.
RULES = TextRules(case="lower", punctuation="remove", form="nfkc")
# The decoder of a text teacher: its own.
OWN = "own text"


@dataclass(frozen=True)
class ErrorRates:
    """The error of a model with a decoder.

    Attributes:
        model: its spec.
        decoder: `greedy`, `beam` or `graph`, or `own text` of a text teacher.
        wer, cer: share of wrong words, and of wrong characters, blanks between words counted, of texts in lower case without punctuation.
        words, utterances: of the references.
    """

    model: str
    decoder: str
    wer: float
    cer: float
    words: int
    utterances: int


def errors_of(
    model: AcousticModel | TextTeacher,
    dev: EvaluationSet,
    *,
    tokenizer: Tokenizer | None = None,
    grammar: str | None = None,
) -> list[ErrorRates]:
    """The errors of a model with each decoder that fits it, the best first. It is run once over the set.

    `greedy` fits CTC units that spell text; `beam` (CTC) and `graph` fit where there are a lexicon or a language model. A decoder that is not installed is
    left out with a warning.

    Args:
        tokenizer: the words to find; the model's own if None. Of no use to a text teacher, nor is `grammar`.
        grammar: a language model, as `Search` takes it.

    Raises:
        CorpusError: audio that cannot be read, or longer than a text teacher takes.
        ConfigError: no decoder fits, or a grammar that cannot be used.
        ModelError: the model fails, or needs priors and has none.
    """
    if isinstance(model, TextTeacher):
        rules = model.settings.text
        references = {key: rules(said) for key, said in dev.references.items()}
        return [_error(model.spec, OWN, references, dict(_written(model, dev)))]
    searches = _searches(model, tokenizer or model.tokenizer, grammar)
    texts: dict[str, dict[str, str]] = {search.decoder: {} for search in searches}
    for scores in AcousticScores(model, dev):
        for search in searches:
            texts[search.decoder] |= search.texts([scores])
    found = [
        _error(model.spec, search.decoder, search.references(dev.references), texts[search.decoder])
        for search in searches
    ]
    return sorted(found, key=lambda one: one.wer)


def not_better(teacher: Sequence[ErrorRates], other: Sequence[ErrorRates], what: str) -> str:
    """A line where the best of a teacher's errors is not below the best of another model's; empty where it is."""
    ours, theirs = (min(errors, key=lambda one: one.wer) for errors in (teacher, other))
    if ours.wer < theirs.wer:
        return ""
    return (
        f"teacher {ours.model!r} has {100 * ours.wer:.2f} % word error rate on {what} ({ours.decoder}), which is not below the {100 * theirs.wer:.2f} % "
        f"of {theirs.model!r} ({theirs.decoder}), so there is little that a student could learn from it; take a better teacher"
    )


def _searches(model: AcousticModel, tokenizer: Tokenizer | None, grammar: str | None) -> list[Search]:
    """What fits a model; at least one.

    Raises:
        ConfigError: nothing does.
    """
    ctc = model.inventory.topology.collapses_repeats
    has_words = grammar is not None or (tokenizer is not None and tokenizer.words is not None)
    make: dict[str, Callable[[], Search]] = {}
    units = model.tokenizer if tokenizer is None or tokenizer.words is not None else tokenizer
    if ctc and _are_text(spelling_of(units, model.inventory)):
        make["greedy"] = lambda: Search(units, model, decoder="greedy")
    if ctc and has_words:
        make["beam"] = lambda: Search(tokenizer, model, decoder="beam", grammar=grammar)
    if has_words and not (grammar is not None and is_kenlm_binary(grammar)):
        make["graph"] = lambda: Search(tokenizer, model, decoder="graph", grammar=grammar)
    found, missing = [], []
    for name, search in make.items():
        try:
            found.append(search())
        except DependencyError as error:
            missing.append(error)
            _log.warning("decoder %s is left out: %s", name, error)
    if found:
        return found
    if missing:
        raise missing[0]
    raise ConfigError(
        f"model {model.spec!r} has units of topology {model.inventory.topology_name!r} that are not text by themselves, so no decoder finds words; give the "
        "lexicon of the words to find (--lexicon)"
    )


def _are_text(units: Tokenizer) -> bool:
    """Whether a model's tokens are text by themselves, rather than phones of a lexicon."""
    return units.words is None and not units_are_no_text(units)


def _written(teacher: TextTeacher, dev: EvaluationSet) -> Iterator[tuple[str, str]]:
    """Ids and normalized texts."""
    rate = teacher.sampling_rate
    cuts = iter(dev.cuts)
    while part := list(itertools.islice(cuts, teacher.batch_size)):
        for cut in part:
            if cut["duration"] > teacher.max_seconds:
                raise CorpusError(
                    f"cut {cut['id']!r} of {dev.name!r} has {cut['duration']:.2f} s, and text teacher {teacher.spec!r} takes at most {teacher.max_seconds:g}; "
                    "cut it (asrkd segment), or leave it out"
                )
        samples = [np.clip(read_audio(to_cut(cut), rate), -1, 1) for cut in part]
        try:
            transcriptions = teacher(samples)
        except AsrkdError:
            raise
        except Exception as error:  # every runtime has its own kinds
            raise failure(teacher.spec, error, f"it fails on {part[0]['id']!r} and what follows") from error
        for cut, one in zip(part, transcriptions, strict=True):
            yield cut["id"], teacher.settings.text(one.hypotheses[0].text)


def _error(model: str, decoder: str, references: Mapping[str, str], texts: Mapping[str, str]) -> ErrorRates:
    said, found = ({key: RULES(text) for key, text in side.items()} for side in (references, texts))
    words = total(score(said, found, {}))
    spelled = [{key: as_characters(text) for key, text in side.items()} for side in (said, found)]
    characters = total(score(spelled[0], spelled[1], {}))
    return ErrorRates(model, decoder, words.rate, characters.rate, words.reference, len(said))
