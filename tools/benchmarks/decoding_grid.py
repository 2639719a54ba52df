"""Error rates of models with the decoding that is best for each on dev: acoustic scale, prior scale,
penalty, blank penalty (CTC), phones left early.

    python tools/benchmarks/decoding_grid.py RUN... --lexicon lexicon.txt --dev dev.jsonl.gz [--test test.jsonl.gz ...] [--phones]

RUN is a model as `asrkd decode` takes it, CUTS whatever `asrkd label plan` takes. Words are decoded with the loop of the lexicon's words. With
`--phones` a loop of its phones is searched, and the reference is the first pronunciation of each word: a phone error rate.
Prints every setting tried with its rate on dev, then the best one with its rates on all sets.
"""

from __future__ import annotations

import argparse
import itertools

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.evaluation.wer import score, total


def references(cuts: EvaluationSet, lexicon: Lexicon, phones: bool) -> dict[str, str]:
    """The transcript of each cut, or its phones."""
    if not phones:
        return cuts.references
    first = {word: " ".join(lexicon.pronunciations[word][0]) for word in lexicon.words}
    return {key: " ".join(first[word] for word in text.split()) for key, text in cuts.references.items()}


def rate(
    model: AcousticModel,
    cuts: EvaluationSet,
    expected: dict[str, str],
    words: Lexicon,
    setting: tuple[bool, float, float, float, float],
    beam: float,
) -> float:
    """Errors per reference word of one setting."""
    leave_early, scale, prior_scale, blank_penalty, penalty = setting
    search = Search(words, model, insertion_penalty=penalty, leave_early=leave_early, beam=beam)
    scores = AcousticScores(model, cuts, acoustic_scale=scale, prior_scale=prior_scale, blank_penalty=blank_penalty)
    return total(score(expected, search.texts(scores), cuts.speakers)).rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--lexicon", required=True)
    parser.add_argument("--dev", required=True, metavar="CUTS")
    parser.add_argument("--test", action="append", default=[], metavar="CUTS")
    parser.add_argument("--phones", action="store_true")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.4, 0.6, 0.8, 1.0, 1.2])
    parser.add_argument("--prior-scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--blank-penalties", type=float, nargs="+", default=[0.0])
    parser.add_argument("--penalties", type=float, nargs="+", default=[-4, -3, -2, -1, 0, 2])
    parser.add_argument("--beam", type=float, default=14.0)
    options = parser.parse_args()
    lexicon = Lexicon.read(options.lexicon)
    words = lexicon
    if options.phones:
        phones = {phone for spoken in lexicon.pronunciations.values() for one in spoken for phone in one}
        words = Lexicon.from_pairs([(phone, [phone]) for phone in sorted(phones)])
    sets = {path: EvaluationSet.read(path) for path in [options.dev, *options.test]}
    expected = {path: references(cuts, lexicon, options.phones) for path, cuts in sets.items()}
    for run in options.runs:
        model = load_model(run if ":" in run else f"checkpoint:{run}")
        early = [False, True] if model.inventory.states_per_phone > 1 else [False]
        tried = {}
        for setting in itertools.product(
            early, options.scales, options.prior_scales, options.blank_penalties, options.penalties
        ):
            tried[setting] = rate(model, sets[options.dev], expected[options.dev], words, setting, options.beam)
            print(
                f"{run} leave_early {setting[0]}, scale {setting[1]:g}, prior {setting[2]:g}, blank {setting[3]:g}, penalty {setting[4]:g}: dev {tried[setting]:.1%}",
                flush=True,
            )
        best = min(tried, key=lambda setting: (tried[setting], setting))
        rates = [
            f"{path} {rate(model, sets[path], expected[path], words, best, options.beam):.1%}" for path in options.test
        ]
        print(
            f"{run} best: leave_early {best[0]}, scale {best[1]:g}, prior {best[2]:g}, blank {best[3]:g}, penalty {best[4]:g}: "
            f"{', '.join([f'dev {tried[best]:.1%}', *rates])}",
            flush=True,
        )


if __name__ == "__main__":
    main()
