"""What making the beam search takes: its tree of a lexicon's words, and its table of pairs of tokens.

    python tools/benchmarks/beam_tree.py [--lexicon FILE] [--tokens N]...

For each lexicon CPU seconds, peak memory before and behind. With --tokens the lexicon is 20,000 words of one to three tokens drawn at random.
Each runs in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import time

import click

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import read_tokenizer, vocabulary
from asrkd.decoding.beam import BeamDecoder
from asrkd.report.tables import text_table


def peak_mb() -> float:
    """Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def made(lexicon: str | int) -> list[str]:
    """A row of the table."""
    if isinstance(lexicon, int):
        rng, tokens = random.Random(0), [f"t{n}" for n in range(lexicon)]
        inventory = Inventory(("<blk>", *tokens), "ctc")
        words = {f"w{n}": [tuple(rng.choices(tokens, k=rng.randint(1, 3)))] for n in range(20_000)}
    else:
        tokenizer = read_tokenizer(lexicon)
        inventory, words = Inventory.from_lexicon(tokenizer, "ctc"), dict(vocabulary(tokenizer))
    import flashlight.lib.text.decoder  # noqa: F401 - so that its own bytes are not the search's

    before, began = peak_mb(), time.process_time()
    BeamDecoder(inventory, words)
    seconds = time.process_time() - began
    return [f"{len(words):,}", f"{len(inventory):,}", f"{seconds:.1f}", f"{before:.0f}", f"{peak_mb():.0f}"]


@click.command()
@click.option("--lexicon", "lexicons", multiple=True)
@click.option("--tokens", type=int, multiple=True)
def main(lexicons: tuple[str, ...], tokens: tuple[int, ...]) -> None:
    """Print the table."""
    rows = []
    for lexicon in (*lexicons, *tokens):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(made, (lexicon,)))
    click.echo(text_table(["words", "classes", "made in CPU s", "peak MB before", "behind"], rows))


if __name__ == "__main__":
    main()
