"""The words of sherpa-onnx next to those of `asrkd decode`, over every utterance of a test set.

    python tools/benchmarks/sherpa_parity.py MODEL CORPUS [--lexicon FILE] [--grammar FILE]

The student is exported into a temporary folder, and sherpa-onnx decodes every utterance of CORPUS (cuts with transcripts): online and offline, with the float32
and the int8 graph, greedily and, with `--lexicon`, through its graph of words. The reference is asrkd's own search in the same run, as `asrkd decode` searches.

- differing: words, as a share of asrkd's; of them, `silence`: those of utterances with digital silence; `end`: after the last word that both have;
  `other`.
- times: tokens that both have at the same place of the text, and how many are a frame or more away; of them, those of utterances with digital silence.
- WER of both, and the difference with its 95 % interval (bootstrap over speakers, paired).
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import kaldialign
import numpy as np
import torch
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel, load_model
from asrkd.cli import options, run_command
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.topology import NOTHING
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.evaluation_set import EvaluationSet
from asrkd.decoding.greedy import greedy_decode
from asrkd.decoding.search import Search
from asrkd.export.sherpa import export_sherpa, sherpa_graph
from asrkd.export.sherpa_check import offline_recognizer, online_recognizer, silence_behind
from asrkd.report.tables import text_table

Audio = NDArray[np.float32]
# Words; tokens; and the time of each token.
Heard = tuple[list[str], list[str], list[float]]
# Seconds of digital silence in a row that a stream may take for the end, and what is below one and a half 16-bit steps.
_INSIDE, _STEP = 0.05, 1.5 / 2**15


@dataclass
class Column:
    """What a runtime made of the test set."""

    name: str
    texts: dict[str, list[str]] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)
    utterances: int = 0
    tokens: int = 0
    away: int = 0
    away_in_silent: int = 0
    worst: float = 0.0


def asrkd_search(model: AcousticModel, search: Search, **scales: float) -> Callable[[Audio], Heard]:
    """asrkd's search."""
    rate, law = model.front_end.sampling_rate, model.front_end.frame_law()

    def found(samples: Audio) -> Heard:
        features = model.front_end(torch.from_numpy(samples))[None]
        scores, _ = model.scores(features, torch.tensor([features.shape[1]]), **scales)
        frames = scores[0].numpy()
        if search.decoder == "greedy":
            path = greedy_decode(frames, model.inventory)
        else:
            path = graph_decode(frames, search.graph)
        classes = path.classes
        begins = [t for t, one in enumerate(classes) if one != NOTHING and (not t or classes[t - 1] != one)]
        tokens = [model.inventory.units[classes[t]] for t in begins]
        return search.text(path.words).split(), tokens, [t * law.frame_shift / rate for t in begins]

    return found


def sherpa_search(folder: Path, search: Search, rate: int, *, online: bool, kind: str) -> Callable[[Audio], Heard]:
    """sherpa-onnx's search of a folder's graph."""
    graph = search.graph if search.decoder != "greedy" else None
    name = ("model" if online else "offline") + kind
    recognizer: Any = (online_recognizer if online else offline_recognizer)(folder, graph=graph is not None, model=name)
    behind = np.zeros(int(silence_behind(folder) * rate), dtype=np.float32)

    def found(samples: Audio) -> Heard:
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, samples)
        if online:
            stream.accept_waveform(rate, behind)
            stream.input_finished()
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
            result = json.loads(recognizer.get_result_as_json_string(stream))
        else:
            recognizer.decode_stream(stream)
            result = {part: getattr(stream.result, part) for part in ("tokens", "timestamps", "words")}
        tokens = [token.replace(" ", "▁") for token in result["tokens"]]
        words = [graph.words[number] for number in result["words"]] if graph else search.text(tokens).split()
        return words, tokens, list(result["timestamps"])

    return found


def cause(expected: list[str], heard: list[str], *, silent: bool) -> str:
    if silent:
        return "silence"
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(expected, heard, strict=False)))
    return "end" if same >= min(len(expected), len(heard)) - 1 else "other"


def longest_silence(samples: Audio) -> int:
    """The most samples in a row of at most one 16-bit step, whose features are those of digital silence."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], abs(samples) < _STEP, [0]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def compare_times(column: Column, expected: Heard, heard: Heard, frame: float, *, silent: bool) -> None:
    times, others = iter(expected[2]), iter(heard[2])
    for one, other in kaldialign.align(expected[1], heard[1], "\0"):
        time = next(times) if one != "\0" else None
        place = next(others) if other != "\0" else None
        if one == other and time is not None and place is not None:
            column.tokens += 1
            column.away += abs(time - place) > frame / 2
            column.away_in_silent += silent and abs(time - place) > frame / 2
            column.worst = max(column.worst, abs(time - place) / frame)


def wer_difference(
    references: dict[str, list[str]], first: Column, second: Column, speakers: dict[str, str]
) -> tuple[float, float, float, float, float]:
    """WER of both in percent, and the difference (second less first) with its 95 % interval over speakers."""
    names = sorted(set(speakers.values()))
    counts = np.zeros((len(names), 3))
    for key, reference in references.items():
        row = names.index(speakers[key])
        counts[row] += [
            kaldialign.edit_distance(reference, first.texts[key])["total"],
            kaldialign.edit_distance(reference, second.texts[key])["total"],
            len(reference),
        ]
    drawn = np.random.default_rng(0).integers(0, len(names), (10_000, len(names)))
    sums = counts[drawn].sum(axis=1)
    differences = 100 * (sums[:, 1] - sums[:, 0]) / sums[:, 2]
    one, other, words = counts.sum(axis=0)
    low, high = np.quantile(differences, [0.025, 0.975])
    return 100 * one / words, 100 * other / words, 100 * (other - one) / words, float(low), float(high)


def searches(
    model: AcousticModel, lexicon: str | None, grammar: str | None, penalty: float
) -> Iterator[tuple[Search, Any]]:
    """asrkd's search, and the graph that sherpa-onnx gets."""
    tokenizer = options.tokenizer_of(model, lexicon)
    if model.inventory.topology.collapses_repeats:
        yield Search(model.tokenizer, model, decoder="greedy"), None
    if lexicon or grammar or not model.inventory.topology.collapses_repeats:
        search = Search(tokenizer, model, decoder="graph", grammar=grammar, insertion_penalty=penalty)
        yield search, sherpa_graph(model, tokenizer, grammar=grammar, insertion_penalty=penalty)


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("model", metavar="MODEL")
@click.argument("corpus")
@options.LEXICON
@click.option("--grammar", type=click.Path(dir_okay=False), help="Language model (ARPA) or sentences (NAME.fst.txt).")
@click.option("--acoustic-scale", default=1.0, help="With a graph.")
@click.option("--blank-penalty", default=0.0, help="Taken off the blank's score, in nats.")
@click.option("--insertion-penalty", default=0.0, help="Cost of every word of the loop, in nats.")
@click.option("--skip-greedy", is_flag=True, help="The graph alone.")
def main(
    model: str,
    corpus: str,
    lexicon: str | None,
    grammar: str | None,
    acoustic_scale: float,
    blank_penalty: float,
    insertion_penalty: float,
    skip_greedy: bool,
) -> None:
    torch.set_num_threads(1)
    acoustic_model, test_set = load_model(model), EvaluationSet.read(corpus)
    rate, law = acoustic_model.front_end.sampling_rate, acoustic_model.front_end.frame_law()
    frame = law.frame_shift / rate
    rows, errors, examples = [], [], []
    for search, graph in searches(acoustic_model, lexicon, grammar, insertion_penalty):
        if graph is None and skip_greedy:
            continue
        scales = {"acoustic_scale": acoustic_scale if graph else 1.0, "blank_penalty": blank_penalty}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            export_sherpa(acoustic_model, out, graph=graph, **scales)
            ours = asrkd_search(acoustic_model, search, **scales)
            theirs = {
                f"{'online' if online else 'offline'}{' int8' if 'int8' in kind else ''}": sherpa_search(
                    out, search, rate, online=online, kind=kind
                )
                for online in (True, False)
                for kind in (".onnx", ".int8.onnx")
            }
            reference, columns = Column("asrkd"), {name: Column(name) for name in theirs}
            for cut in test_set.cuts:
                samples = read_audio(to_cut(cut), rate)
                silent = longest_silence(samples) >= _INSIDE * rate
                expected = ours(samples)
                reference.texts[cut["id"]] = expected[0]
                for name, hear in theirs.items():
                    heard, column = hear(samples), columns[name]
                    column.texts[cut["id"]] = heard[0]
                    compare_times(column, expected, heard, frame, silent=silent)
                    if heard[0] != expected[0]:
                        why = "int8" if "int8" in name else cause(expected[0], heard[0], silent=silent)
                        column.causes[why] += kaldialign.edit_distance(expected[0], heard[0])["total"]
                        column.utterances += 1
                        if why != "int8":
                            examples.append([search.decoder, name, why, " ".join(expected[0]), " ".join(heard[0])])
            words = sum(map(len, reference.texts.values()))
            references = {key: text.split() for key, text in search.references(test_set.references).items()}
            for name, column in columns.items():
                differing = sum(column.causes.values())
                told = ", ".join(f"{why} {count}" for why, count in column.causes.most_common())
                times = f"{column.away} of {column.tokens} (silence {column.away_in_silent}), at most {column.worst:.1f} frames"
                rows.append(
                    [
                        search.decoder,
                        name,
                        str(words),
                        f"{differing} ({100 * differing / max(words, 1):.2f} %)",
                        str(column.utterances),
                        told,
                        times,
                    ]
                )
                one, other, more, low, high = wer_difference(references, reference, column, test_set.speakers)
                errors.append(
                    [search.decoder, name, f"{one:.2f}", f"{other:.2f}", f"{more:+.2f} [{low:+.2f}, {high:+.2f}]"]
                )
    click.echo(f"{len(test_set.cuts)} utterances of {len(set(test_set.speakers.values()))} speakers")
    click.echo(
        text_table(["search", "sherpa-onnx", "asrkd's words", "differing", "utterances", "causes", "times away"], rows)
    )
    click.echo(text_table(["search", "sherpa-onnx", "WER of asrkd, %", "of sherpa-onnx", "difference"], errors))
    for example in examples[:20]:
        click.echo(" | ".join(example))


if __name__ == "__main__":
    run_command(main)
