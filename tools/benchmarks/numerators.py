"""What keeping the numerator graphs of transcripts saves LF-MMI: CPU time of an epoch with graphs built for every batch, and with those kept (needs k2).

    python tools/benchmarks/numerators.py [--utterances 400] [--words 12] [--seconds 4]

Utterances of random words of a lexicon of 1,000, states of frames of 30 ms with random scores, batches of 16, one thread. An epoch is the LF-MMI loss of every
utterance and its gradient; graphs built for every batch are the reference, in the same run and over the same batches, whose losses must be equal bit for bit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import click
import torch

from asrkd.sequence.grammar import phone_ngram
from asrkd.sequence.graphs import denominator
from asrkd.sequence.losses import mmi
from asrkd.sequence.numerators import NumeratorGraphs
from asrkd.sequence.topology import hmm_topology

PHONES, STATES, BATCH, FRAME = 40, 3, 16, 0.03


def epoch(
    graphs: Callable[[list[int]], Any], total: Any, batches: list[list[int]], frames: int
) -> tuple[float, float, list[torch.Tensor]]:
    """CPU seconds, those of them for the graphs, and the losses."""
    losses, began, making = [], time.process_time(), 0.0
    for number, batch in enumerate(batches):
        generator = torch.Generator().manual_seed(number)
        scores = torch.randn(len(batch), frames, 1 + PHONES * STATES, generator=generator).requires_grad_()
        before = time.process_time()
        made = graphs(batch)
        making += time.process_time() - before
        found = mmi(scores.log_softmax(-1), torch.full((len(batch),), frames), made, total).losses
        found.sum().backward()
        losses.append(found.detach())
    return time.process_time() - began, making, losses


@click.command(context_settings={"show_default": True})
@click.option("--utterances", default=400)
@click.option("--words", default=12, help="Of an utterance.")
@click.option("--seconds", default=4.0, help="Of an utterance.")
def main(utterances: int, words: int, seconds: float) -> None:
    """Print CPU time of an utterance, and what of it the graphs take."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    # Token 1 is silence, of class 0.
    states = [[0], *([1 + STATES * phone + state for state in range(STATES)] for phone in range(PHONES))]
    lexicon = [[rng.choices(range(2, PHONES + 2), k=rng.randint(2, 6))] for _ in range(1000)]
    spelled = [[lexicon[word] for word in rng.choices(range(1000), k=words)] for _ in range(utterances)]
    topology = hmm_topology(states)
    phone_lm = phone_ngram([[phone for [phones] in one for phone in [*phones, 1]] for one in spelled], 2)
    total = denominator(topology, phone_lm)
    order = [list(range(utterances)) for _ in range(2)]
    for numbers in order:
        rng.shuffle(numbers)

    def cache(max_bytes: int) -> Callable[[list[int]], Any]:
        kept = NumeratorGraphs(topology, phone_lm, silence=1, max_bytes=max_bytes)
        return lambda batch: kept([str(number) for number in batch], lambda place: spelled[batch[place]])

    ways = {"rebuilt": cache(0), "kept": cache(10**10)}
    results: dict[str, list[tuple[float, float, list[torch.Tensor]]]] = {name: [] for name in ways}
    for numbers in order:
        batches = [numbers[begin : begin + BATCH] for begin in range(0, utterances, BATCH)]
        for name, graphs in ways.items():
            results[name].append(epoch(graphs, total, batches, int(seconds / FRAME)))
    for number in range(len(order)):
        equal = all(map(torch.equal, results["rebuilt"][number][2], results["kept"][number][2]))
        for name in ways:
            took, making, _ = results[name][number]
            click.echo(
                f"epoch {number + 1}, {name:9}: {1000 * took / utterances:6.2f} ms an utterance, {1000 * making / utterances:5.2f} of them graphs"
                f"{'' if equal else '; THE LOSSES DIFFER'}"
            )
    before, after = (results[name][1][0] for name in ways)
    click.echo(
        f"from the second epoch on, kept graphs take {100 * after / before:.0f} % of the time; losses are equal: {equal}"
    )


if __name__ == "__main__":
    main()
