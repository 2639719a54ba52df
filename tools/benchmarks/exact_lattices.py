"""What exact lattices cost a frame: CPU time of the forward-backward algorithm over loops of words, next to products with a matrix of all pairs of states.

    python tools/benchmarks/exact_lattices.py [--words 50 --words 500 --words 2500] [--frames 100]

Random words of 2 to 9 letters, `ctc`, random scores, a batch of 16, one thread. The reference, in the same run, is what the algorithm over states alone needs at the
least: two products of the batch's states with a dense matrix a frame, forward and backward, in double precision.
"""

from __future__ import annotations

import random
import string
import time

import click
import torch

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.graphs import ForwardBackward, word_loop_graph

BATCH = 16


@click.command(context_settings={"show_default": True})
@click.option(
    "--words",
    "sizes",
    default=(50, 500, 2500),
    type=click.IntRange(1, 100_000),
    multiple=True,
    help="Of a loop; may be given more than once.",
)
@click.option("--frames", default=100, type=click.IntRange(1), help="Of each utterance.")
def main(sizes: tuple[int, ...], frames: int) -> None:
    """Print states, arcs, milliseconds a frame of an utterance and their ratio."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    click.echo("words  states    arcs  ms a frame  dense product  ratio")
    for size in sizes:
        words: set[str] = set()
        while len(words) < size:
            words.add("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))))
        lexicon = Lexicon.from_pairs([(word, list(word)) for word in sorted(words)])
        inventory = Inventory.from_lexicon(lexicon, "ctc", states_per_phone=1)
        graph = word_loop_graph(lexicon, inventory)
        lines = graph.fst.to_str(show_weight_one=True, fst_field_separator=" ").splitlines()
        arcs = [line.split() for line in lines if len(line.split()) == 5]
        states = 1 + max(int(state) for arc in arcs for state in arc[:2])
        exact = ForwardBackward(graph)
        scores = torch.randn(BATCH, frames, len(inventory), generator=torch.Generator().manual_seed(0)).log_softmax(-1)
        began = time.process_time()
        exact(scores, torch.full((BATCH,), frames))
        sparse = time.process_time() - began
        matrix, masses = torch.rand(states, states, dtype=torch.float64), torch.rand(BATCH, states, dtype=torch.float64)
        turns = min(frames, 10)
        began = time.process_time()
        for _ in range(2 * turns):
            masses @ matrix
        dense = (time.process_time() - began) / turns * frames
        cost, reference = (1000 * seconds / BATCH / frames for seconds in (sparse, dense))
        click.echo(f"{size:5d}  {states:6d}  {len(arcs):6d}  {cost:10.3f}  {reference:13.3f}  {reference / cost:5.1f}")


if __name__ == "__main__":
    main()
