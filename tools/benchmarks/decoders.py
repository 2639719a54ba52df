"""kaldi-decoder and k2 on one graph and one test set: the same words, the same scores, and how fast.

    python tools/benchmarks/decoders.py RUN CUTS --lexicon FILE

Times are of the search alone, on one thread; k2 gets 32 utterances at a time. The scores are those of the finished training run RUN.
"""

from __future__ import annotations

import time

import click
import torch

from asrkd.acoustic import load_model
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.k2_decode import K2Decoder
from asrkd.decoding.search import K2_BATCH
from asrkd.evaluation.wer import score, total
from asrkd.graphs import word_loop_graph
from asrkd.report.tables import text_table
from asrkd.sequence.lattice import Beam


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("cuts")
@click.option("--lexicon", required=True, type=click.Path(dir_okay=False))
@click.option("--acoustic-scale", default=1.0)
@click.option("--beam", default=24.0)
@click.option("--max-active", default=7000)
def main(run: str, cuts: str, lexicon: str, acoustic_scale: float, beam: float, max_active: int) -> None:
    """Print both, and where they differ."""
    torch.set_num_threads(1)
    model = load_model(f"checkpoint:{run}")
    test_set = EvaluationSet.read(cuts)
    scores = AcousticScores(model, test_set, acoustic_scale=acoustic_scale)
    graph = word_loop_graph(Lexicon.read(lexicon), model.inventory)
    of_utterances = dict(scores)
    keys, frames = list(of_utterances), list(of_utterances.values())
    began = time.perf_counter()
    ours = [graph_decode(one, graph, beam=beam, max_active=max_active) for one in frames]
    kaldi_seconds = time.perf_counter() - began
    search = K2Decoder(graph, beam=Beam.of_search(beam, max_active))
    began = time.perf_counter()
    theirs = []
    for at in range(0, len(frames), K2_BATCH):
        theirs += [one for (one,) in search.decode(frames[at : at + K2_BATCH])]
    k2_seconds = time.perf_counter() - began
    rows = []
    for name, found, seconds in (("kaldi-decoder", ours, kaldi_seconds), ("k2", theirs, k2_seconds)):
        texts = {key: " ".join(one.words) for key, one in zip(keys, found, strict=True)}
        rate = total(score(test_set.references, texts, test_set.speakers)).rate
        rows.append(
            [name, f"{100 * rate:.2f}", f"{scores.audio_seconds / seconds:.0f}", f"{kaldi_seconds / seconds:.2f}"]
        )
    click.echo(text_table(["decoder", "WER %", "search RTFx", "of kaldi-decoder's"], rows))
    same = sum(one.words == other.words for one, other in zip(ours, theirs, strict=True))
    apart = max(abs(one.score - other.score) for one, other in zip(ours, theirs, strict=True))
    click.echo(f"the same words: {same} of {len(keys)} utterances; scores at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
