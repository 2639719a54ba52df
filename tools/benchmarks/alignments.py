"""Word boundaries of aligned stores against reference boundaries.

python tools/benchmarks/alignments.py reference STORE REFERENCE.tsv --lexicon FILE     (needs pocketsphinx: its English model)
python tools/benchmarks/alignments.py reference STORE SLOWER.tsv --lexicon FILE --slowed 0.9
python tools/benchmarks/alignments.py agree REFERENCE.tsv SLOWER.tsv
python tools/benchmarks/alignments.py compare REFERENCE.tsv STORE... --lexicon FILE [--states-per-phone N]
python tools/benchmarks/alignments.py exchanged STORE ALIGNER.npz --lexicon FILE

A reference has a line `id, word, start, end` (seconds) for each word, with these names in the first line, separated by tabs. Whatever made
the alignment column of a store can be compared: for an older version of asrkd, align with a checkout of it and compare with this one.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import click
import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

from asrkd.alignment.forced import transcript_graph, viterbi
from asrkd.alignment.frames import centers
from asrkd.alignment.phone_align import PhoneAligner
from asrkd.alignment.phone_model import PhoneModel
from asrkd.alignment.summary import ODDITY, deviations
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.errors import CorpusError
from asrkd.report.tables import text_table
from asrkd.store import Store

WORDS = dict[str, list[tuple[str, float, float]]]
# Windows of 25.6 ms every 10 ms: between two frames lies the middle of their centers.
_SPHINX_SHIFT, _SPHINX_FIRST = 0.01, 0.0078
# A silence at an end of an utterance that should be found.
_LEAST = 0.1


def read_reference(path: Path) -> WORDS:
    """Words of each utterance with their starts and ends."""
    words: WORDS = {}
    with open(path, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
            words.setdefault(row["id"], []).append((row["word"], float(row["start"]), float(row["end"])))
    return words


def words_of(labels: np.ndarray, text: str, lexicon: Lexicon, inventory: Inventory, edges: np.ndarray) -> list:
    """(start, end) in seconds of each word of hard labels; `edges` (T + 1,) are the times between frames."""
    graph = transcript_graph(text, lexicon, inventory, leave_early=True)
    # The path that agrees with most labels: a phone may have lost its only frame.
    agree = np.zeros((len(labels), len(inventory)))
    agree[np.arange(len(labels)), labels] = 1.0
    words = graph.words[viterbi(agree, graph)[0]]
    found = [np.flatnonzero(words == number) for number in range(len(text.split()))]
    return [(edges[own[0]], edges[own[-1] + 1]) for own in found]


def measure(store: Store, reference: WORDS, lexicon: Lexicon, inventory: Inventory) -> dict[str, float]:
    """Figures of one aligned store."""
    law, rate = store.identity.frame_law, store.identity.front_end.sampling_rate
    errors, begins, ends, silence, wanted = [], [], [], [], []
    utterances = left_out = 0
    for row in store.rows(["id", "text", "num_frames", "num_samples", "alignment"]):
        if row["id"] not in reference or row["alignment"] is None:
            continue
        words = reference[row["id"]]
        middle = centers(law, row["num_frames"]) / rate
        half = law.frame_shift / rate / 2
        edges = np.r_[middle - half, middle[-1] + half]
        labels = np.asarray(row["alignment"])
        try:
            found = words_of(labels, row["text"], lexicon, inventory, edges)
        except CorpusError:
            left_out += 1
            continue
        utterances += 1
        errors += [
            a - b for own, (_, *right) in zip(found, words, strict=True) for a, b in zip(own, right, strict=True)
        ]
        seconds = row["num_samples"] / rate
        if words[0][1] > _LEAST:
            begins.append(labels[0] == 0)
        if words[-1][2] < seconds - _LEAST:
            ends.append(labels[-1] == 0)
        silence.append((labels == 0).mean())
        wanted.append(1 - sum(end - start for _, start, end in words) / seconds)
    size = np.abs(errors)
    return {
        "utterances": utterances, "left out": left_out, "boundaries": len(size),
        "within 30 ms": np.mean(size <= 0.03), "within 60 ms": np.mean(size <= 0.06), "within 100 ms": np.mean(size <= 0.1),
        "median error, ms": 1000 * np.median(size), "mean shift, ms": 1000 * np.mean(errors),
        "silence at the beginning found": np.mean(begins), "at the end": np.mean(ends),
        "share of silence": np.mean(silence), "of the reference": np.mean(wanted),
    }  # fmt: skip


@click.group()
def main() -> None:
    """Reference alignments, and how near others come to them."""


@main.command()
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.argument("stores", nargs=-1, required=True)
@click.option("--lexicon", required=True)
@click.option("--states-per-phone", default=2)
def compare(reference: Path, stores: tuple[str, ...], lexicon: str, states_per_phone: int) -> None:
    """A column of figures for each aligned store."""
    words = Lexicon.read(lexicon)
    inventory = Inventory.from_lexicon(words, "hmm", states_per_phone=states_per_phone)
    boundaries = read_reference(reference)
    found = [measure(Store.open(root), boundaries, words, inventory) for root in stores]
    rows = [
        [name, *(f"{own[name]:.3f}" if isinstance(own[name], float) else f"{own[name]:,}" for own in found)]
        for name in found[0]
    ]
    click.echo(text_table(["", *(Path(root).name for root in stores)], rows))


@main.command()
@click.argument("references", nargs=2, type=click.Path(exists=True, path_type=Path))
def agree(references: tuple[Path, Path]) -> None:
    """How near two references are to each other: what may be asked of a comparison with one of them."""
    first, second = map(read_reference, references)
    size = np.abs([
        a - b
        for key in first.keys() & second.keys()
        for (_, *own), (_, *other) in zip(first[key], second[key], strict=True)
        for a, b in zip(own, other, strict=True)
    ])  # fmt: skip
    shares = ", ".join(
        f"{np.mean(size <= bound + 1e-5):.3f} within {1000 * bound:.0f} ms" for bound in (0.03, 0.06, 0.1)
    )
    click.echo(f"{len(size):,} boundaries: {shares}")


@main.command()
@click.argument("store")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--lexicon", required=True, help="Pronunciations in ARPAbet of words that pocketsphinx does not know.")
@click.option(
    "--slowed",
    default=1.0,
    help="Speed at which the model is given the audio: below 1 a child's voice is nearer to an adult's.",
)
def reference(store: str, out: Path, lexicon: str, slowed: float) -> None:
    """Boundaries by pocketsphinx's English model, from a store with audio at 16 kHz."""
    from pocketsphinx import Config, Decoder

    decoder = Decoder(
        Config(lm=None, cmn="batch", loglevel="FATAL", backtrace=False, beam=1e-80, wbeam=1e-60, pbeam=1e-80)
    )
    for word, spellings in Lexicon.read(lexicon).pronunciations.items():
        if decoder.lookup_word(word.lower()) is None:
            for number, phones in enumerate(spellings, 1):
                name = word.lower() if number == 1 else f"{word.lower()}({number})"
                decoder.add_word(name, " ".join(phone.rstrip("012") for phone in phones), True)
    done = failed = 0
    with open(out, "w", encoding="utf-8") as stream:
        stream.write("id\tword\tstart\tend\n")
        for row in Store.open(store).rows(["id", "text", "audio"]):
            audio, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")
            audio = resample(torch.from_numpy(audio), round(100 * slowed), 100).numpy()
            samples = (audio * 32767).clip(-32768, 32767).astype(np.int16)
            words = row["text"].split()
            try:
                decoder.set_align_text(" ".join(words).lower())
                decoder.start_utt()
                decoder.process_raw(samples.tobytes(), full_utt=True)
                decoder.end_utt()
                found = [own for own in decoder.seg() if own.word[0] not in "<[("] if decoder.hyp() else []
            except RuntimeError:
                found = []
            if [own.word.split("(")[0] for own in found] != [word.lower() for word in words]:
                failed += 1
                continue
            done += 1
            for word, own in zip(words, found, strict=True):
                edges = (own.start_frame, own.end_frame + 1)
                start, end = (slowed * (_SPHINX_SHIFT * at + _SPHINX_FIRST) for at in edges)
                stream.write(f"{row['id']}\t{word}\t{start:.4f}\t{end:.4f}\n")
    click.echo(f"aligned {done} utterances, {failed} did not fit")


@main.command()
@click.argument("store")
@click.argument("aligner", type=click.Path(exists=True))
@click.option("--lexicon", required=True)
@click.option("--every", default=3, help="One utterance in this many gets the transcript of another.")
def exchanged(store: str, aligner: str, lexicon: str, every: int) -> None:
    """What `align --from` leaves out of a store: of its own transcripts, and of ones exchanged at random."""
    words = read_tokenizer(lexicon)
    model = PhoneModel.load(aligner)
    judge = PhoneAligner(Store.open(store), words, Inventory.from_lexicon(words, "hmm", states_per_phone=2))
    spoken = [judge.speech.read(place) for unit in judge.store.units() for place in judge.speech.places(unit)]
    usual = judge.usual(model)
    rng = np.random.default_rng(0)
    scores: dict[str, list[float]] = {"own": [], "exchanged": []}
    for number, one in enumerate(spoken):
        texts = {"own": one.text}
        if number % every == 0 and (other := spoken[rng.integers(len(spoken))].text) != one.text:
            texts["exchanged"] = other
        for kind, text in texts.items():
            try:
                graph = judge.graph(one.id, text, len(one.cepstra), model.phones)
            except CorpusError:
                continue  # cannot be aligned at all, which is told
            scores[kind].append(model.align([one.cepstra], [graph])[0].gain)
    for kind, gains in scores.items():
        for name, measure_of in (("this set", usual), ("the aligner's own", model.usual)):
            odd = sum(deviations(gain, measure_of) > ODDITY for gain in gains)
            click.echo(
                f"{kind:<10} judged by {name:<18} {odd:5d} of {len(gains)} left out ({odd / max(len(gains), 1):.1%})"
            )


if __name__ == "__main__":
    main()
