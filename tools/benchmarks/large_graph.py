"""HLG of a large lexicon and a trigram by kaldifst: how long, how much memory, how large, and how fast it is searched.

    python tools/benchmarks/large_graph.py MODEL CUTS --lexicon cmudict-en-us.dict [--text transcripts.txt]

The trigram is counted (absolute discounting) on sentences whose words are drawn by Zipf's law from the whole lexicon, and on the lines of TEXT,
each ten times. Words are taken as the lexicon writes them, in upper case. Composing runs in a process of its own, whose peak memory is what is printed.
Times are of one core (CPU time, and the wall clock where something else may run); the scores are those of MODEL on CUTS.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import resource
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import click
import kaldifst
import torch

from asrkd import text as texts
from asrkd.acoustic import load_model
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.evaluation.wer import score, total
from asrkd.graphs import DecodingGraph, ngram_graph

DISCOUNT = 0.7
Gram = tuple[str, ...]


def sentences(words: list[str], lines: list[list[str]], count: int) -> list[list[str]]:
    """`count` random sentences, and the lines."""
    rng = random.Random(0)
    ranked = rng.sample(words, len(words))
    weights = [1 / rank for rank in range(1, len(ranked) + 1)]
    drawn = iter(rng.choices(ranked, weights, k=12 * count))
    return [list(islice(drawn, 12)) for _ in range(count)] + 10 * lines


def write_trigram(words: list[str], corpus: list[list[str]], path: Path) -> tuple[int, int, int]:
    """An ARPA file with the words, and all bigrams and trigrams that are in the corpus twice; how many of each."""
    grams: list[Counter[Gram]] = [Counter({(word,): 1 for word in words}), Counter(), Counter()]
    for sentence in corpus:
        whole = ["<s>", *sentence, "</s>"]
        grams[0].update((word,) for word in whole[1:])
        grams[1].update(zip(whole, whole[1:], strict=False))
        grams[2].update(zip(whole, whole[1:], whole[2:], strict=False))
    for own in grams[1:]:
        for gram in [gram for gram, times in own.items() if times < 2]:
            del own[gram]
    for gram in list(grams[2]):
        if gram[:2] not in grams[1] or gram[1:] not in grams[1]:
            del grams[2][gram]
    everything = grams[0].total()
    probabilities: list[dict[Gram, float]] = [{gram: times / everything for gram, times in grams[0].items()}]
    backoffs: list[dict[Gram, float]] = []
    for own, lower in zip(grams[1:], range(2), strict=True):
        histories: Counter[Gram] = Counter()
        for gram, times in own.items():
            histories[gram[:-1]] += times
        probability = {gram: (times - DISCOUNT) / histories[gram[:-1]] for gram, times in own.items()}
        kept: dict[Gram, float] = dict.fromkeys(histories, 1.0)
        below = dict.fromkeys(histories, 1.0)
        for gram, value in probability.items():
            kept[gram[:-1]] -= value
            below[gram[:-1]] -= probabilities[lower][gram[1:]]
        backoffs.append({history: max(kept[history], 1e-9) / max(below[history], 1e-9) for history in histories})
        probabilities.append(probability)
    probabilities[0][("<s>",)] = 1e-99
    with open(path, "w", encoding="utf-8") as file:
        file.write("\\data\\\n" + "".join(f"ngram {n}={len(own)}\n" for n, own in enumerate(probabilities, 1)))
        for order, own in enumerate(probabilities):
            file.write(f"\n\\{order + 1}-grams:\n")
            weights = backoffs[order] if order < 2 else {}
            for gram, value in own.items():
                backoff = f"\t{math.log10(weights[gram]):.5f}" if gram in weights else ""
                file.write(f"{math.log10(value):.5f}\t{' '.join(gram)}{backoff}\n")
        file.write("\n\\end\\\n")
    return len(probabilities[0]), len(probabilities[1]), len(probabilities[2])


def compose(lexicon: Lexicon, inventory: Inventory, arpa: Path, out: Path, result: multiprocessing.Queue) -> None:
    """Write the graph, and tell seconds and peak memory in bytes, of this process and of kaldilm."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, idle = time.perf_counter(), time.process_time()
    graph = ngram_graph(lexicon, inventory, arpa)
    seconds = time.perf_counter() - began
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    busy = sum(one.ru_utime + one.ru_stime for one in usage) - idle
    peaks = [1024 * one.ru_maxrss for one in usage]
    arcs = sum(graph.fst.num_arcs(state) for state in range(graph.fst.num_states))
    graph.fst.write(str(out))
    result.put((busy, seconds, 1024 * before, peaks, graph.fst.num_states, arcs))


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("cuts")
@click.option("--lexicon", "path", required=True, type=click.Path(dir_okay=False))
@click.option("--text", "lines_of", type=click.Path(dir_okay=False), help="Sentences, one a line.")
@click.option("--random-sentences", default=300_000)
@click.option("--utterances", default=100)
@click.option("--acoustic-scale", default=0.6)
@click.option("--beam", multiple=True, type=float, default=[10.0, 13.0, 16.0])
@click.option("--max-active", default=7000)
def main(
    model: str,
    cuts: str,
    path: str,
    lines_of: str | None,
    random_sentences: int,
    utterances: int,
    acoustic_scale: float,
    beam: tuple[float, ...],
    max_active: int,
) -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    acoustic_model = load_model(model)
    read = Lexicon.read(path)
    lexicon = Lexicon.from_pairs(
        [(word.upper(), phones) for word, spellings in read.pronunciations.items() for phones in spellings]
    )
    known = set(lexicon.words)
    lines = [texts.words(line) for _, line in texts.numbered_lines(lines_of)] if lines_of else []
    lines = [line for line in lines if known.issuperset(line)]
    with tempfile.TemporaryDirectory() as folder:
        arpa, fst = Path(folder) / "3gram.arpa", Path(folder) / "HLG.fst"
        counts = write_trigram(list(lexicon.words), sentences(list(lexicon.words), lines, random_sentences), arpa)
        click.echo(f"{len(known):,} words, " + ", ".join(f"{n:,} {i}-grams" for i, n in enumerate(counts, 1)))
        result: multiprocessing.Queue = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(
            target=compose, args=(lexicon, acoustic_model.inventory, arpa, fst, result)
        )
        process.start()
        busy, seconds, before, peaks, states, arcs = result.get()
        process.join()
        click.echo(
            f"composed in {busy:.0f} s of CPU time ({seconds:.0f} s), peak memory {max(peaks) / 1e9:.2f} GB ({before / 1e9:.2f} GB before): {states:,} states, {arcs:,} "
            f"arcs, {fst.stat().st_size / 1e6:.0f} MB"
        )
        words = ("<eps>", *lexicon.words)
        graph = DecodingGraph(kaldifst.StdVectorFst.read(str(fst)), words, acoustic_model.inventory, lexicon)
    test_set = EvaluationSet.read(cuts)
    scores = AcousticScores(acoustic_model, test_set, acoustic_scale=acoustic_scale)
    kept = list(islice(scores, utterances))
    frame = acoustic_model.front_end.frame_law(acoustic_model.subsampling_factor).frame_shift
    audio = sum(len(one) for _, one in kept) * frame / acoustic_model.front_end.sampling_rate
    for width in beam:
        began = time.process_time()
        found = {key: " ".join(graph_decode(one, graph, beam=width, max_active=max_active).words) for key, one in kept}
        took = time.process_time() - began
        rate = total(score({key: test_set.references[key] for key in found}, found, test_set.speakers)).rate
        click.echo(
            f"beam {width:g}: {audio / took:.1f} x real time over {audio:.0f} s of audio, {100 * rate:.1f} % WER of {len(found)} utterances"
        )


if __name__ == "__main__":
    main()
