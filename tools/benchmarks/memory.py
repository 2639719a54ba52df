"""Memory of encoding into a store and of decoding from it, by the number of utterances: it must not grow with them.

    python tools/benchmarks/memory.py --utterances 500 --utterances 8000 --utterances 32000

Work units of 500 utterances of 100 frames over 3,000 classes. The reference is one unit alone. Memory is anonymous pages above what the
process held before.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence

import click
import torch
from watching import held, watched

from asrkd.corpus.inventory import Inventory
from asrkd.store import Identity, Store, manifest
from asrkd.store.files import Files
from asrkd.store.writer import write_shard
from asrkd.targets.codecs import parse_codec
from asrkd.targets.random import frame_keys
from asrkd.targets.streams import POSTERIORS

CLASSES, FRAMES, OF_A_UNIT = 3000, 100, 500


def fill(root: str, units: int, codec_spec: str) -> None:
    """Encode, pack and write units of random posteriors."""
    codec = parse_codec(codec_spec)
    inventory = Inventory(("<blk>", *(f"u{number}" for number in range(CLASSES - 1))), "ctc")
    identity = Identity("random", "f" * 32, {POSTERIORS: codec}, inventory)
    law = identity.frame_law
    samples = law.window + law.shift * (3 * FRAMES - 1)
    log_probs = (4 * torch.randn(FRAMES, CLASSES, generator=torch.Generator().manual_seed(0))).log_softmax(1)
    for unit in range(units):
        rows = []
        for number in range(OF_A_UNIT):
            key = f"{unit}-{number}"
            keys = frame_keys(key, "f" * 32, FRAMES, torch.device("cpu"))
            packed = codec.layout(len(inventory)).pack(codec.encode(log_probs, keys))
            row = {"id": key, "recording_id": key, "start": 0.0, "duration": samples / 16000, "sampling_rate": 16000}
            rows.append(row | {"num_samples": samples, "num_frames": FRAMES} | packed)
        write_shard(Files(root), unit, rows, identity)
    manifest.create(Files(root), identity, {"num_units": units, "num_cuts": units * OF_A_UNIT, "hours": 0.0})


def decode(root: str) -> int:
    """Decode every utterance to CSR arrays; the number of frames."""
    store = Store.open(root)
    return sum(store.targets(row).num_frames for row in store.rows(["num_frames", *store.target_columns]))


@click.command(context_settings={"show_default": True})
@click.option("--utterances", multiple=True, type=int, default=[OF_A_UNIT, 2000, 8000])
@click.option("--codec", "codec_spec", default="hybrid:0:16")
def main(utterances: Sequence[int], codec_spec: str) -> None:
    """Print megabytes by the number of utterances, and their ratio to one unit's."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # what a first use allocates once and for all
        fill(folder, 1, codec_spec)
        decode(folder)
    first: tuple[float, float] | None = None
    for count in utterances:
        with tempfile.TemporaryDirectory() as folder:
            gc.collect()
            before = held()
            with watched() as encoding:
                fill(folder, max(1, count // OF_A_UNIT), codec_spec)
            gc.collect()
            between = held()
            with watched() as decoding:
                frames = decode(folder)
        peaks = (encoding[0] - before) / 1e6, (decoding[0] - between) / 1e6
        first = first or peaks
        click.echo(
            f"{frames // FRAMES:8d} utterances: encoding {peaks[0]:6.1f} MB ({peaks[0] / max(first[0], 0.1):.2f}), decoding "
            f"{peaks[1]:6.1f} MB ({peaks[1] / max(first[1], 0.1):.2f})"
        )


if __name__ == "__main__":
    main()
