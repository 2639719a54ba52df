"""HLG by kaldifst, searched by kaldi-decoder, against HLG by k2, searched by k2, on a test set: the same words and scores.

    python tools/benchmarks/graph_parity.py MODEL CUTS --lexicon FILE --grammar ARPA [--utterances N] [--acoustic-scale 1]

Both search with a beam so wide that it does not decide. Prints how many utterances have other words, and how far the scores are apart; where words differ, both have been
found with scores that are equal within the printed difference. Needs k2.
"""

from __future__ import annotations

import time
from itertools import islice

import click
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import load_model
from asrkd.corpus.tokenizer import read_tokenizer, vocabulary
from asrkd.corpus.tokens import Tokens
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.evaluation.wer import score, total
from asrkd.graphs import ngram_graph, topology_of
from asrkd.report.tables import text_table
from asrkd.sequence.decode import one_best
from asrkd.sequence.grammar import ngram
from asrkd.sequence.graphs import decoding_graph
from asrkd.sequence.lattice import Beam

Found = dict[str, tuple[str, float]]


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("cuts")
@click.option("--lexicon", required=True)
@click.option("--grammar", required=True, type=click.Path(dir_okay=False))
@click.option("--utterances", type=int, default=None, help="Number from the beginning; default: all.")
@click.option("--acoustic-scale", default=1.0)
@click.option("--beam", default=40.0)
@click.option("--max-active", default=30_000)
def main(
    model: str,
    cuts: str,
    lexicon: str,
    grammar: str,
    utterances: int | None,
    acoustic_scale: float,
    beam: float,
    max_active: int,
) -> None:
    """Print the table and the differences."""
    torch.set_num_threads(1)
    acoustic_model, test_set, tokenizer = load_model(model), EvaluationSet.read(cuts), read_tokenizer(lexicon)
    scores = list(islice(AcousticScores(acoustic_model, test_set, acoustic_scale=acoustic_scale), utterances))
    inventory, words = acoustic_model.inventory, tuple(vocabulary(tokenizer))
    tokens = Tokens.of(inventory)

    def by_kaldifst() -> Found:
        graph = ngram_graph(tokenizer, inventory, grammar)
        made.append(time.process_time())
        paths = {key: graph_decode(one, graph, beam=beam, max_active=max_active) for key, one in scores}
        return {key: (" ".join(path.words), path.score) for key, path in paths.items()}

    def by_k2() -> Found:
        graph = decoding_graph(
            topology_of(inventory),
            tokens.pronunciations(tokenizer),
            ngram(grammar, words),
            num_tokens=len(tokens.names),
            num_words=len(words),
            silence=tokens.silence,
        )
        made.append(time.process_time())
        return {key: searched_by_k2(one, graph) for key, one in scores}

    def searched_by_k2(one: NDArray[np.float32], graph: object) -> tuple[str, float]:
        wide = Beam(search=beam, output=1.0, max_active=max_active)
        path = one_best(torch.from_numpy(one)[None], torch.tensor([len(one)]), graph, beam=wide)[0]
        return " ".join(words[word - 1] for word in path.words), path.score

    references = {key: test_set.references[key] for key, _ in scores}
    found, made, rows = [], [], []
    for name, search in (("kaldifst", by_kaldifst), ("k2", by_k2)):
        began = time.process_time()
        texts = search()
        ended = time.process_time()
        rate = total(score(references, {key: text for key, (text, _) in texts.items()}, test_set.speakers)).rate
        rows.append([name, f"{made[-1] - began:.1f}", f"{ended - made[-1]:.1f}", f"{100 * rate:.2f}"])
        found.append(texts)
    click.echo(text_table(["HLG by", "composed in CPU s", "searched in CPU s", "WER %"], rows))
    ours, theirs = found
    apart = [abs(ours[key][1] - theirs[key][1]) for key in ours]
    other = [key for key in ours if ours[key][0] != theirs[key][0]]
    click.echo(f"{len(ours)} utterances, {len(other)} with other words, largest difference of scores {max(apart):.2g}")
    for key in other:
        click.echo(f"{key}: {ours[key][0]!r} {ours[key][1]:.5f}, by k2 {theirs[key][0]!r} {theirs[key][1]:.5f}")


if __name__ == "__main__":
    main()
