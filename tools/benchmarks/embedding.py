"""What `--embed` takes and loses: bytes an hour, speed of decoding, error of the features that a student makes of it.

    python tools/benchmarks/embedding.py CUTS [--minutes 2] [--embed audio --embed opus:24 ...]

The reference is the first row: FLAC, which loses nothing. Times are of one thread, processor time, the best of three.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch

from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.front_end import FrontEnd
from asrkd.report.tables import text_table
from asrkd.store.embedding import decode_audio, parse_embedding


def best_of_three(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@click.command()
@click.argument("cuts")
@click.option("--minutes", default=2.0)
@click.option("--embed", "specs", multiple=True, default=("audio", "opus:24", "features", "features:8bit"))
def main(cuts: str, minutes: float, specs: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    front_end = FrontEnd()
    rate = front_end.sampling_rate
    clips: list[tuple[np.ndarray, np.ndarray]] = []
    seconds = 0.0
    for cut in iterate_json(cuts):
        samples = np.rint(read_audio(to_cut(cut), rate) * 32767).astype(np.int16)
        clips.append((samples, front_end(torch.from_numpy(samples / np.float32(32768))).numpy()))
        seconds += len(samples) / rate
        if seconds >= 60 * minutes:
            break
    rows = []
    for spec in specs:
        embedding = parse_embedding(spec)
        encoded: list[dict[str, Any]] = []

        def encode(into: list[dict[str, Any]] = encoded, by: Any = embedding) -> None:
            into[:] = [by.columns("x", samples, features, front_end) for samples, features in clips]

        encoding = best_of_three(encode)

        def decode(rows_of: list[dict[str, Any]] = encoded, by: Any = embedding) -> list[Any]:
            if by.column == "audio":
                return [decode_audio(row["audio"], rate, False, "x") for row in rows_of]
            return [
                by.features(row["features"], len(samples), front_end, "x")
                for row, (samples, _) in zip(rows_of, clips, strict=True)
            ]

        decoding = best_of_three(decode)
        found = [
            front_end(torch.from_numpy(part)).numpy() if embedding.column == "audio" else part for part in decode()
        ]
        errors = np.concatenate([(one - features).ravel() for one, (_, features) in zip(found, clips, strict=True)])
        size = sum(len(row["audio"]["bytes"] if embedding.column == "audio" else row["features"]) for row in encoded)
        rows.append(
            (
                spec,
                f"{size / seconds * 3600 / 1e6:.1f}",
                f"{seconds / decoding:,.0f}",
                f"{seconds / encoding:,.0f}",
                f"{np.sqrt((errors**2).mean()):.4f}",
                f"{np.abs(errors).max():.3f}",
            )
        )
    spread = np.concatenate([features.ravel() for _, features in clips]).std()
    click.echo(f"{seconds / 60:.1f} minutes; features have a standard deviation of {spread:.2f}")
    names = ["--embed", "MB an hour", "decoded, x real time", "encoded, x real time", "feature error, rms", "largest"]
    click.echo(text_table(names, rows))


if __name__ == "__main__":
    main()
