"""Greedy, beam and graph (and k2, where it is installed) on one CTC model and test set: word error rate, speed, memory.

    python tools/benchmarks/decoders.py MODEL CUTS --lexicon FILE [--grammar ARPA] [--utterances N] [--beam-size N]...

Each decoder runs in a process of its own: the time is CPU time of making the search and of searching, on one thread; the memory is the peak of the whole process while it
does, and how much of that has come since the model, the scores and the libraries were there. The scores are made once. Greedy finds tokens, so its rate is of tokens (phones,
pieces) where the lexicon has words: the references are then the first pronunciation of each word.
The last column of `beam` counts the utterances whose words are not those of the largest --beam-size.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import load_model
from asrkd.corpus.tokenizer import Tokenizer, read_tokenizer, spell
from asrkd.decoding.beam import BeamSettings
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.evaluation.wer import score, total
from asrkd.report.tables import text_table

Scores = list[tuple[str, NDArray[np.float32]]]


def searched(spec: str, lexicon: str, options: dict[str, Any], scores: Scores, result: multiprocessing.Queue) -> None:
    """Put texts, CPU seconds of making the search and of searching, and peak bytes before and behind."""
    torch.set_num_threads(1)
    model, tokenizer = load_model(spec), read_tokenizer(lexicon)
    if options["decoder"] == "beam":
        import flashlight.lib.text.decoder  # noqa: F401 - so that its own bytes are not the search's
    # Starts the peak again, from what is held now (Linux).
    Path("/proc/self/clear_refs").write_text("5")
    before = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    search = Search(tokenizer, model, **options)
    made = time.process_time()
    texts = search.texts(scores)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result.put((texts, made - began, time.process_time() - made, before, peak))


def tokens_of(references: dict[str, str], tokenizer: Tokenizer) -> dict[str, str]:
    """The first pronunciations, as text."""
    return {
        key: " ".join(token for spellings in spell(tokenizer, text) for token in spellings[0])
        for key, text in references.items()
    }


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("cuts")
@click.option("--lexicon", required=True)
@click.option("--grammar", type=click.Path(dir_okay=False))
@click.option("--utterances", type=int, default=None, help="Number from the beginning; default: all.")
@click.option("--acoustic-scale", default=1.0)
@click.option("--beam", default=16.0)
@click.option("--beam-size", "beam_sizes", type=int, multiple=True, default=[BeamSettings.beam_size])
def main(
    model: str,
    cuts: str,
    lexicon: str,
    grammar: str | None,
    utterances: int | None,
    acoustic_scale: float,
    beam: float,
    beam_sizes: tuple[int, ...],
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    test_set, acoustic_model, tokenizer = EvaluationSet.read(cuts), load_model(model), read_tokenizer(lexicon)
    made = AcousticScores(acoustic_model, test_set, acoustic_scale=acoustic_scale)
    scores = list(islice(made, utterances))
    law = acoustic_model.front_end.frame_law(acoustic_model.subsampling_factor)
    seconds = sum(len(one) for _, one in scores) * law.frame_shift / acoustic_model.front_end.sampling_rate
    references = {key: test_set.references[key] for key, _ in scores}
    settings = {"grammar": grammar, "beam": beam}
    # The widest beam comes first, as the others are compared with it.
    widths = sorted(set(beam_sizes), reverse=True)
    runs: dict[str, dict[str, Any]] = {"greedy": {"decoder": "greedy"}}
    runs |= {f"beam {width}": settings | {"decoder": "beam", "beam_size": width} for width in widths}
    runs["graph"] = settings | {"decoder": "graph"}
    if find_spec("k2"):
        runs["k2"] = settings | {"decoder": "k2"}
    spawn, rows = multiprocessing.get_context("spawn"), []
    widest: list[str] = []
    for name, options in runs.items():
        result: multiprocessing.Queue = spawn.Queue()
        process = spawn.Process(target=searched, args=(model, lexicon, options, scores, result))
        process.start()
        texts, making, searching, before, peak = result.get()
        process.join()
        of_tokens = name == "greedy" and tokenizer.words is not None
        expected = tokens_of(references, tokenizer) if of_tokens else references
        rate = total(score(expected, texts, test_set.speakers)).rate
        others: int | str = ""
        if options["decoder"] == "beam":
            widest = widest or [texts[key] for key, _ in scores]
            others = sum(texts[key] != best for (key, _), best in zip(scores, widest, strict=True))
        what = "tokens" if of_tokens else "words"
        rows.append(
            [
                name,
                f"{100 * rate:.2f} ({what})",
                f"{seconds / searching:.0f}",
                f"{making:.1f}",
                f"{peak / 1e6:.0f}",
                f"{(peak - before) / 1e6:.0f}",
                str(others),
            ]
        )
    click.echo(f"{len(scores)} utterances, {seconds:.0f} s")
    click.echo(
        text_table(
            ["decoder", "error rate %", "search RTFx", "made in CPU s", "peak MB", "of the search", "other words"], rows
        )
    )


if __name__ == "__main__":
    main()
