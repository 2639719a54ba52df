"""The errors of a test set by word, by speaker and by utterance."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from asrkd.errors import AsrkdError
from asrkd.evaluation.wer import Scored, bootstrap, by_speaker, total
from asrkd.report.clips import shortened
from asrkd.report.html import PlayableClip, Section
from asrkd.report.tables import Table

_MOST_WORDS, _MOST_SPEAKERS = 40, 60
_GAP = "*"

MakeClip = Callable[[str, str], PlayableClip | None]


def error_sections(
    scored: Sequence[Scored], *, name: str = "", utterances: int = 12, clip: MakeClip | None = None
) -> list[Section]:
    """What goes wrong: rates of speakers, the words that are missed most, and the utterances with the most errors.

    Args:
        scored: of a test set.
        name: of it, for the titles.
        utterances: how many of those with the most errors are shown.
        clip: makes the audio of an utterance from its id and a caption; None where it has none.
    """
    behind = f", {name}" if name else ""
    speakers = by_speaker(scored)
    errors = total(scored)
    low, high = bootstrap({speaker: [own] for speaker, own in speakers.items()})
    interval = f", 95 % interval over speakers {100 * low:.1f} to {100 * high:.1f}" if low == low else ""
    rate = f"{100 * errors.rate:.1f} %" if errors.reference else "undefined without reference words"
    said = (
        f"Word error rate {rate}{interval}: {errors.substitutions:,} substitutions, {errors.deletions:,} deletions, {errors.insertions:,} insertions; "
        f"{errors.reference:,} words, {len(scored):,} utterances, {len(speakers):,} speakers."
    )
    return [
        Section(f"Words{behind}", said, [_words(scored), *_inserted(scored)]),
        Section(f"Speakers{behind}", tables=[_speakers(scored)]),
        Section(
            f"Utterances with the most errors{behind}",
            "What was said, and below it what was recognized; [ ] are errors, and * is a word that one of the two lacks.",
            clips=[one for own in _worst(scored, utterances) for one in _lines(own, clip)],
        ),
    ]


def _words(scored: Sequence[Scored]) -> Table:
    """Words of the references by how often they are missed."""
    said: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    instead: dict[str, Counter[str]] = defaultdict(Counter)
    for one in scored:
        for reference, hypothesis in one.pairs:
            if reference is None:
                continue
            said[reference] += 1
            if reference != hypothesis:
                wrong[reference] += 1
                instead[reference][_GAP if hypothesis is None else hypothesis] += 1
    rows = [
        [
            shortened(word, 40),
            f"{said[word]:,}",
            f"{count:,}",
            f"{100 * count / said[word]:.0f}",
            ", ".join(f"{shortened(other, 20)} {times}" for other, times in instead[word].most_common(3)),
        ]
        for word, count in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:_MOST_WORDS]
    ]
    more = f" The {_MOST_WORDS} words with the most of {len(wrong):,}." if len(wrong) > _MOST_WORDS else ""
    return Table(
        ("word", "said", "missed", "missed, %", "recognized instead"),
        rows,
        f"Words that were missed, and what was recognized instead (* is nothing).{more}",
    )


def _inserted(scored: Sequence[Scored]) -> list[Table]:
    words = Counter(hypothesis for one in scored for reference, hypothesis in one.pairs if reference is None)
    rows = [[shortened(word or "", 40), f"{count:,}"] for word, count in words.most_common(_MOST_WORDS // 2)]
    return [Table(("word", "inserted"), rows, "Words that nobody said.")] if rows else []


def _speakers(scored: Sequence[Scored]) -> Table:
    rows = []
    utterances = Counter(one.speaker for one in scored)
    own = by_speaker(scored)
    for speaker in sorted(own, key=lambda name: -own[name].total / max(own[name].reference, 1))[:_MOST_SPEAKERS]:
        errors = own[speaker]
        rate = f"{100 * errors.rate:.1f}" if errors.reference else "-"
        rows.append([shortened(speaker, 40), f"{utterances[speaker]:,}", f"{errors.reference:,}", rate])
    more = f"The {_MOST_SPEAKERS} with the highest rates of {len(own):,}." if len(own) > _MOST_SPEAKERS else ""
    return Table(("speaker", "utterances", "words", "WER, %"), rows, more)


def _worst(scored: Sequence[Scored], count: int) -> list[Scored]:
    wrong = [one for one in scored if one.errors.total]
    return sorted(wrong, key=lambda one: (-one.errors.total, one.id))[:count]


def _lines(one: Scored, clip: MakeClip | None) -> list[PlayableClip]:
    """The words of both sides, errors marked, with the audio if there is any."""
    sides = []
    for side in (0, 1):
        words = [
            word if pair[0] == pair[1] else f"[{word}]"
            for pair in one.pairs
            for word in [_GAP if pair[side] is None else str(pair[side])]
        ]
        sides.append(" ".join(words))
    rate = f"{one.errors.total} errors in {one.errors.reference} words"
    caption = f"{shortened(one.id)}, {shortened(one.speaker)}, {rate}\n{sides[0]}\n{sides[1]}"
    made = None
    if clip:
        try:
            made = clip(one.id, caption)
        except AsrkdError as error:
            caption += f"\n(its audio cannot be read: {error})"
    return [made or PlayableClip(caption, "")]
