"""A small tree of LibriSpeech's layout from any transcribed corpus with speakers, to try the recipe in minutes.

    python recipes/librispeech/mini.py CUTS TREE
    python recipes/librispeech/run.py --setting mini --corpus-dir TREE

Each speaker is in one part; texts are put into upper case, as LibriSpeech's are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, groupby
from pathlib import Path

import click
from lhotse.cut import Cut
from prepare import TESTS, TRAIN

from asrkd import files
from asrkd.cli import run_command
from asrkd.corpus.audio import read_audio, write_audio
from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import CorpusError

SAMPLING_RATE = 16000
PARTS = (*TRAIN, *(part for parts in TESTS.values() for part in parts))
# Parts of the speakers in turn: training has six of ten.
TURNS = (*PARTS, *TRAIN)


def write_tree(cuts: str, tree: str | Path, most: int = 20) -> dict[str, int]:
    """Write the folder `tree`, like `LibriSpeech`, and return the number of utterances of each part.

    Args:
        cuts: a corpus as `asrkd.corpus.cuts.open_cuts` takes it.
        most: utterances of a speaker.

    Raises:
        CorpusError: fewer speakers than LibriSpeech has parts, or a transcript without a speaker.
        AsrkdError: the folder is there already, or cannot be written.
    """
    spoken = sorted(_spoken(cuts), key=lambda one: (one[0], one[1].id))
    speakers = [list(own)[:most] for _, own in groupby(spoken, key=lambda one: one[0])]
    if len(speakers) < len(PARTS):
        raise CorpusError(
            f"{cuts!r} has {len(speakers)} speakers with transcripts, but LibriSpeech has {len(PARTS)} parts that share no speaker; "
            "take a corpus with more speakers"
        )
    counts = dict.fromkeys(PARTS, 0)
    with files.new_folder(tree) as root:
        for number, (part, own) in enumerate(zip(cycle(TURNS), speakers, strict=False), 1):
            folder = root / part / str(number) / "1"
            folder.mkdir(parents=True)
            lines = []
            for index, (_, cut, text) in enumerate(own):
                name = f"{number}-1-{index:04}"
                write_audio(folder / f"{name}.flac", read_audio(cut, SAMPLING_RATE), SAMPLING_RATE)
                lines.append(f"{name} {text.upper()}\n")
            files.write(folder / f"{number}-1.trans.txt", "".join(lines))
            counts[part] += len(own)
    return counts


def _spoken(cuts: str) -> Iterator[tuple[str, Cut, str]]:
    """Speaker, cut and text of every cut that has a text."""
    for cut in iterate(open_cuts(cuts), what=cuts):
        text, speaker = text_of(cut), speaker_of(cut)
        if text and not speaker:
            raise CorpusError(f"cut {cut.id!r} of {cuts!r} has a transcript and no speaker, but parts share no speaker")
        if text and speaker:
            yield speaker, cut, text


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("cuts")
@click.argument("tree", type=click.Path(path_type=Path))
@click.option("--most", type=click.IntRange(1), default=20, help="Utterances of each speaker.")
def main(cuts: str, tree: Path, most: int) -> None:
    """Write a small tree of LibriSpeech's layout to the new folder TREE from a transcribed corpus, CUTS."""
    counts = write_tree(cuts, tree, most)
    click.echo(f"{sum(counts.values())} utterances: " + ", ".join(f"{part} {count}" for part, count in counts.items()))


if __name__ == "__main__":
    run_command(main)
