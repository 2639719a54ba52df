"""Memory and time of `asrkd transcribe` over recordings of different lengths.

    python tools/benchmarks/transcribing.py exp/student test.jsonl.gz --minutes 10 --minutes 180

Each recording is the cuts of CUTS one after the other, a pause of digital silence after each, again and again. The reference is the
shortest: memory that does not grow with the recording is 1.0 of its, and the text of the same clip is the same wherever it comes.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import soundfile
from measured import cost

from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json

RATE, PAUSE = 16000, 2.0


def write_recording(cuts: str, path: Path, minutes: float) -> None:
    """16-bit FLAC of about that length."""
    clips = [read_audio(to_cut(cut), RATE) for cut in itertools.islice(iterate_json(cuts), 100)]
    pause = np.zeros(int(PAUSE * RATE), dtype=np.float32)
    written = 0
    with soundfile.SoundFile(path, "w", RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for clip in itertools.cycle(clips):
            if written >= minutes * 60 * RATE:
                return
            file.write(np.concatenate([clip, pause]))
            written += len(clip) + len(pause)


@click.command()
@click.argument("model")
@click.argument("cuts")
@click.option("--minutes", multiple=True, type=float, default=(10.0, 180.0), help="Lengths, the shortest first.")
@click.option("--decoder", default="greedy")
def main(model: str, cuts: str, minutes: tuple[float, ...], decoder: str) -> None:
    first: tuple[float, list[str]] | None = None
    with tempfile.TemporaryDirectory() as name:
        for length in minutes:
            audio, out = Path(name) / f"{length:g}.flac", Path(name) / f"{length:g}.jsonl"
            write_recording(cuts, audio, length)
            command = [
                sys.executable,
                "-m",
                "asrkd",
                "transcribe",
                model,
                str(audio),
                "--format",
                "jsonl",
                "--out",
                str(out),
            ]
            used = cost([*command, "--decoder", decoder], Path(name) / "log")
            texts = [json.loads(line)["text"] for line in out.read_text().splitlines()]
            peak = used.megabytes
            reference = first or (peak, texts)
            # The last utterance of the shorter one may be cut off.
            same = sum(one == other for one, other in zip(reference[1][:-1], texts, strict=False))
            click.echo(
                f"{length:6g} min: peak {peak:6.0f} MB ({peak / reference[0]:.2f} of the first), {used.cpu_seconds:6.1f} s of CPU, "
                f"{len(texts)} utterances, {same} of {len(reference[1]) - 1} as in the first"
            )
            first = reference


if __name__ == "__main__":
    main()
