"""HLG by kaldifst, and the prefix beam, of a large lexicon and grammar: how long they take to make, how much memory, how large HLG is, how fast both search.

    python tools/benchmarks/large_graph.py MODEL CUTS --lexicon cmudict-en-us.dict [--upper] [--text transcripts.txt | --grammar ARPA] [--decoder graph] [--decoder beam]

Without --grammar a trigram is counted (absolute discounting) on sentences whose words are drawn by Zipf's law from the whole lexicon, and on the lines of TEXT,
each ten times. Making a search runs in a process of its own, whose peak memory is what is printed. Times are of one core (CPU time, and the wall clock); the scores are those of
MODEL on CUTS. Phones of the lexicon that MODEL does not have get a score of -30 in every frame.
"""

from __future__ import annotations

import math
import multiprocessing
import random
import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
import kaldifst
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd import text as texts
from asrkd.acoustic import load_model
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokenizer import vocabulary
from asrkd.corpus.tokens import Tokens
from asrkd.decoding.beam import BeamDecoder, BeamSettings
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.evaluation.wer import score, total
from asrkd.graphs import DecodingGraph, ngram_graph

DISCOUNT = 0.7
Gram = tuple[str, ...]
Scores = list[tuple[str, NDArray[np.float32]]]


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


@dataclass(frozen=True)
class Task:
    """What is searched: words and their grammar, by a decoder, which `graph` writes to `out`."""

    lexicon: Lexicon
    inventory: Inventory
    arpa: Path
    out: Path


def compose(task: Task, result: multiprocessing.Queue) -> None:
    """Write the graph, and tell what it took and its size."""
    began = Usage()
    graph = ngram_graph(task.lexicon, task.inventory, task.arpa)
    took = began.since()
    arcs = sum(graph.fst.num_arcs(state) for state in range(graph.fst.num_states))
    graph.fst.write(str(task.out))
    size = task.out.stat().st_size / 1e6
    result.put(f"graph made in {took}: {graph.fst.num_states:,} states, {arcs:,} arcs, {size:.0f} MB")


def search_by_beam(task: Task, scores: Scores, result: multiprocessing.Queue) -> None:
    """Tell what making the beam search took; then the texts, and the CPU seconds of the search."""
    import flashlight.lib.text.decoder  # noqa: F401 - so that its own bytes are not the search's

    began = Usage()
    decoder = BeamDecoder(task.inventory, vocabulary(task.lexicon), str(task.arpa), BeamSettings())
    result.put(f"beam of {BeamSettings.beam_size} made in {began.since()}")
    start = time.process_time()
    texts = {key: " ".join(decoder.decode(one)[0].words) for key, one in scores}
    result.put((texts, time.process_time() - start))


class Usage:
    """What this process and its children take from here on (Linux)."""

    def __init__(self) -> None:
        self._wall, self._busy = time.perf_counter(), time.process_time()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted again, from what is held now
        self._before = self._peak()

    def _peak(self) -> float:
        # What getrusage counts begins with the peak of the parent process.
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return 1024 * float(line.split()[1])

    def since(self) -> str:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = max(self._peak(), 1024 * children.ru_maxrss)
        busy = time.process_time() - self._busy + children.ru_utime + children.ru_stime
        return f"{busy:.0f} s of CPU time ({time.perf_counter() - self._wall:.0f} s), peak memory {peak / 1e9:.2f} GB ({self._before / 1e9:.2f} GB before)"


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.argument("cuts")
@click.option("--lexicon", "path", required=True, type=click.Path(dir_okay=False))
@click.option("--upper", is_flag=True, help="Take the words in upper case.")
@click.option("--text", "lines_of", type=click.Path(dir_okay=False), help="Sentences, one a line.")
@click.option("--grammar", type=click.Path(dir_okay=False), help="An ARPA file, in place of a trigram of drawn words.")
@click.option("--random-sentences", default=300_000)
@click.option("--utterances", default=100)
@click.option("--acoustic-scale", default=0.6)
@click.option("--decoder", "decoders", multiple=True, type=click.Choice(["graph", "beam"]), default=["graph"])
@click.option("--beam", multiple=True, type=float, default=[10.0, 13.0, 16.0], help="Of the graph's search.")
@click.option("--max-active", default=7000)
def main(
    model: str,
    cuts: str,
    path: str,
    upper: bool,
    lines_of: str | None,
    grammar: str | None,
    random_sentences: int,
    utterances: int,
    acoustic_scale: float,
    decoders: tuple[str, ...],
    beam: tuple[float, ...],
    max_active: int,
) -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    acoustic_model = load_model(model)
    lexicon = Lexicon.read(path)
    if upper:
        lexicon = Lexicon.from_pairs(
            [(word.upper(), phones) for word, spellings in lexicon.pronunciations.items() for phones in spellings]
        )
    known = set(lexicon.words)
    lines = [texts.words(line) for _, line in texts.numbered_lines(lines_of)] if lines_of else []
    test_set = EvaluationSet.read(cuts)
    kept = list(islice(AcousticScores(acoustic_model, test_set, acoustic_scale=acoustic_scale), utterances))
    inventory, own = acoustic_model.inventory, set(Tokens.of(acoustic_model.inventory).names)
    if missing := [phone for phone in lexicon.tokens if phone not in own]:
        click.echo(f"phones that the model does not have: {', '.join(missing)}")
        inventory = Inventory((*inventory.units, *missing), inventory.topology_name, inventory.states_per_phone)
        kept = [(key, np.pad(one, ((0, 0), (0, len(missing))), constant_values=-30.0)) for key, one in kept]
    frame = acoustic_model.front_end.frame_law(acoustic_model.subsampling_factor).frame_shift
    audio = sum(len(one) for _, one in kept) * frame / acoustic_model.front_end.sampling_rate

    def told(what: str, found: dict[str, str], seconds: float) -> None:
        rate = total(score({key: test_set.references[key] for key in found}, found, test_set.speakers)).rate
        click.echo(
            f"{what}: {audio / seconds:.1f} x real time over {audio:.0f} s of audio, {100 * rate:.1f} % WER of {len(found)} utterances"
        )

    with tempfile.TemporaryDirectory() as folder:
        task = Task(lexicon, inventory, Path(grammar or Path(folder) / "3gram.arpa"), Path(folder) / "HLG.fst")
        if grammar is None:
            of_lexicon = [line for line in lines if known.issuperset(line)]
            drawn = sentences(list(lexicon.words), of_lexicon, random_sentences)
            counts = write_trigram(list(lexicon.words), drawn, task.arpa)
            click.echo(f"{len(known):,} words, " + ", ".join(f"{n:,} {i}-grams" for i, n in enumerate(counts, 1)))
        context = multiprocessing.get_context("spawn")
        if "beam" in decoders:
            result = context.Queue()
            process = context.Process(target=search_by_beam, args=(task, kept, result))
            process.start()
            click.echo(result.get())
            told("beam", *result.get())
            process.join()
        if "graph" in decoders:
            result = context.Queue()
            process = context.Process(target=compose, args=(task, result))
            process.start()
            click.echo(result.get())
            process.join()
            words = ("<eps>", *lexicon.words)
            graph = DecodingGraph(kaldifst.StdVectorFst.read(str(task.out)), words, inventory, lexicon)
            for width in beam:
                began = time.process_time()
                found = {
                    key: " ".join(graph_decode(one, graph, beam=width, max_active=max_active).words)
                    for key, one in kept
                }
                told(f"graph, beam {width:g}", found, time.process_time() - began)


if __name__ == "__main__":
    main()
