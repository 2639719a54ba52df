"""Batches a second for training, against the peers' ways of reading the same utterances and targets, in one run.

    python tools/benchmarks/loading.py                      # audio: FLAC in, features out
    python tools/benchmarks/loading.py --payload features   # stored features: what is left is the loader's own work

The peers make features as their users do, with lhotse's filterbank; `--filterbank asrkd` lets them use the one of asrkd, which leaves the ways
of reading to compare. Every way gives batches of padded features and the 20 largest log-probabilities of each frame, from utterances of like number, and is
run in a process of its own, kept to one core (no worker) or two (two workers). Needs: mosaicml-streaming, webdataset, datasets, h5py.

- asrkd: `Loader` on a store with `topk:20`.
- packed: the same with `unpack_on_device`, where a GPU would unpack the targets.
- mosaicml: `streaming.StreamingDataset` (MDS shards, py1s shuffle), fixed batches.
- webdataset: tar shards, shuffle buffer, fixed batches.
- lhotse: Shar, DynamicBucketingSampler, a dataset in a DataLoader.
- datasets: Hugging Face, Parquet, `streaming=True`, shuffle buffer, fixed batches.
- hdf5: SpeechBrain's recipe of offline teachers: dense float32 posteriors, an HDF5 dataset a batch, audio from files.

The last line is what the study's student (5 LSTM layers of 768 units, 3,183 classes) takes in on one core of this CPU.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import torch
from lhotse.features.kaldi.layers import Wav2LogFilterBank

from asrkd.corpus.front_end import FrontEnd
from asrkd.store import Store
from asrkd.store.files import Files

FRONT_END = FrontEnd()
CLASSES = 3183
TOP = 20
SECONDS = (1.0, 30.0)
# Utterances of a batch, for those that cannot bucket; others have the same number of frames in the mean.
BATCH = 16
MAX_FRAMES = int(BATCH * (sum(SECONDS) / 2) * 100 / 3)
# Which filterbank the peers use, for the process that measures.
FILTERBANK = "ASRKD_BENCHMARK_FILTERBANK"
WAYS = ("asrkd", "packed", "mosaicml", "webdataset", "lhotse", "datasets", "hdf5")


def utterances(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Id, samples (int16), ids (T, 20) and log-probabilities (T, 20) of the largest classes."""
    rng = np.random.default_rng(0)
    slow = np.convolve(rng.standard_normal(16000 * 60), np.hanning(64), mode="same")
    for number in range(count):
        length = int(16000 * rng.uniform(*SECONDS))
        envelope = np.repeat(rng.uniform(0, 1, length // 1600 + 1), 1600)[:length] ** 3
        samples = np.resize(np.roll(slow, -int(rng.integers(len(slow)))), length) * envelope * 500
        frames = FRONT_END.frame_law().num_frames(length)
        ids = np.argsort(rng.random((frames, 60)), axis=1)[:, :TOP] + rng.integers(0, CLASSES - 60, frames)[:, None]
        scores = np.sort(rng.standard_normal((frames, TOP)) * 2)[:, ::-1]
        log_probs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)) - 0.05
        yield f"u{number:06d}", samples.astype(np.int16), ids.astype(np.int16), log_probs.astype(np.float16)


def dense_of(ids: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """(T, V) float32 log-probabilities, the rest spread over the other classes."""
    dense = np.full((len(ids), CLASSES), np.log(0.05 / (CLASSES - TOP)), np.float32)
    np.put_along_axis(dense, ids.astype(np.int64), log_probs.astype(np.float32), axis=1)
    return dense


def flac(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, 16000, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


@functools.cache
def lhotse_layer() -> Wav2LogFilterBank:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Wav2LogFilterBank(num_filters=FRONT_END.num_mels, low_freq=20.0, high_freq=0.0, snip_edges=True)


def peer_features(samples: torch.Tensor) -> torch.Tensor:
    """What a peer feeds the same student: log-mel, less the utterance's mean, three frames joined."""
    if os.environ.get(FILTERBANK) == "asrkd":
        return FRONT_END(samples)
    with torch.no_grad():
        mel = lhotse_layer()(samples[None] * 32768.0)[0]
    mel -= mel.mean(dim=0)
    rows = len(mel) // FRONT_END.stack
    return mel[: rows * FRONT_END.stack].view(rows, FRONT_END.feature_dim)


def features_of(samples: np.ndarray) -> np.ndarray:
    return FRONT_END(torch.from_numpy(samples.astype(np.float32) / 32768)).numpy()


def packed(payload: str, samples: np.ndarray) -> bytes:
    """What a row holds: FLAC, or features as float32."""
    return flac(samples) if payload == "audio" else features_of(samples).tobytes()


def unpacked(payload: str, data: bytes) -> torch.Tensor:
    if payload == "features":
        return torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, FRONT_END.feature_dim).copy())
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return peer_features(torch.from_numpy(samples))


def batch_of(features: list[torch.Tensor], ids: list[np.ndarray], log_probs: list[np.ndarray]) -> tuple[Any, ...]:
    """The same for all ways: padded features, lengths, targets one after another."""
    lengths = torch.tensor([len(one) for one in features])
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    ids_, log_probs_ = np.concatenate(ids).astype(np.int64), np.concatenate(log_probs).astype(np.float32)
    return padded, lengths, torch.from_numpy(ids_), torch.from_numpy(log_probs_)


# --- how each way writes the corpus, and reads it ---------------------------------------------------------------------


def write_asrkd(folder: Path, payload: str, count: int) -> None:
    from asrkd.corpus.inventory import Inventory
    from asrkd.store import manifest
    from asrkd.store.identity import Identity
    from asrkd.store.writer import write_shard
    from asrkd.targets.codecs import parse_codec
    from asrkd.targets.streams import POSTERIORS

    codec = parse_codec(f"topk:{TOP}")
    identity = Identity(
        teacher="benchmark",
        teacher_fingerprint="0" * 32,
        streams={POSTERIORS: codec},
        inventory=Inventory(tuple(f"u{number}" for number in range(CLASSES)), "ctc"),
        front_end=FRONT_END,
        subsampling_factor=1,
        embed=payload,
    )
    manifest.create(Files(str(folder)), identity, {"num_units": 4, "num_cuts": count, "hours": 0.0})
    rows: list[dict[str, Any]] = []
    for key, samples, ids, log_probs in utterances(count):
        frames = len(ids)
        scores = torch.from_numpy(dense_of(ids, log_probs))
        rows.append(
            {
                "id": key,
                "recording_id": key,
                "start": 0.0,
                "duration": len(samples) / 16000,
                "sampling_rate": 16000,
                "num_samples": len(samples),
                "num_frames": frames,
                "audio": {"bytes": flac(samples), "path": None} if payload == "audio" else None,
                "features": features_of(samples).tobytes() if payload == "features" else None,
                **codec.layout(scores.shape[1]).pack(codec.encode(scores)),
            }
        )
    for unit, part in enumerate(np.array_split(np.arange(count), 4)):
        write_shard(Files(str(folder)), unit, [rows[number] for number in part], identity)


def read_asrkd(folder: Path, payload: str, workers: int, packed: bool = False) -> Iterator[tuple[int, int]]:
    from asrkd.streaming.loader import Loader
    from asrkd.streaming.source import Source

    loader = Loader(
        {"s": Source("s", Store.open(str(folder)))},
        front_end=FRONT_END,
        max_frames=MAX_FRAMES,
        max_utterances=BATCH * 8,
        # A store that is read in many blocks, as a large one is.
        block_utterances=256,
        num_workers=workers,
        prefetch=2 if workers else 0,
        # Every epoch is decoded again, as in a corpus that does not fit into memory.
        cache_mb=0,
        unpack_on_device=packed,
    )
    for [batch] in loader.steps({"s": 1}):
        yield len(batch), int(batch.num_frames.sum())


def write_packed(folder: Path, payload: str, count: int) -> None:
    write_asrkd(folder, payload, count)


def read_packed(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    return read_asrkd(folder, payload, workers, packed=True)


def write_mosaicml(folder: Path, payload: str, count: int) -> None:
    from streaming import MDSWriter

    columns = {"payload": "bytes", "ids": "ndarray:int16", "log_probs": "ndarray:float16"}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for _, samples, ids, log_probs in utterances(count):
            writer.write({"payload": packed(payload, samples), "ids": ids, "log_probs": log_probs})


def read_mosaicml(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)

    def collate(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
        return batch_of(
            [unpacked(payload, row["payload"]) for row in rows],
            [row["ids"] for row in rows],
            [row["log_probs"] for row in rows],
        )

    yield from endless(lambda: torch.utils.data.DataLoader(dataset, BATCH, num_workers=workers, collate_fn=collate))


def write_webdataset(folder: Path, payload: str, count: int) -> None:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/part-%05d.tar", maxcount=count // 4 + 1, verbose=0) as writer:
        for key, samples, ids, log_probs in utterances(count):
            writer.write({"__key__": key, "bin": packed(payload, samples), "ids.npy": ids, "lp.npy": log_probs})


def read_webdataset(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    import webdataset

    def sample(row: dict[str, Any]) -> tuple[Any, ...]:
        return unpacked(payload, row["bin"]), row["ids.npy"], row["lp.npy"]

    def collate(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        return batch_of(*(list(column) for column in zip(*rows, strict=True)))

    names = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = (
        webdataset.WebDataset(names, shardshuffle=len(names), empty_check=False).shuffle(1000).decode().map(sample)
    )
    yield from endless(lambda: torch.utils.data.DataLoader(dataset, BATCH, num_workers=workers, collate_fn=collate))


def write_lhotse(folder: Path, payload: str, count: int) -> None:
    from lhotse import MonoCut, Recording
    from lhotse.shar import SharWriter

    folder.mkdir()
    fields = {"recording": "flac"} if payload == "audio" else {"feats": "numpy"}
    with SharWriter(str(folder), fields=fields | {"ids": "numpy", "lp": "numpy"}, shard_size=count // 4 + 1) as writer:
        for key, samples, ids, log_probs in utterances(count):
            recording = Recording.from_bytes(flac(samples), key) if payload == "audio" else None
            cut = MonoCut(key, 0.0, len(samples) / 16000, 0, recording=recording)
            shift = 0.03
            cut.ids = array_of(ids, shift)
            cut.lp = array_of(log_probs, shift)
            if payload == "features":
                cut.feats = array_of(features_of(samples), shift)
            writer.write(cut)


def array_of(values: np.ndarray, shift: float) -> Any:
    from lhotse.features.io import MemoryRawWriter

    return MemoryRawWriter().store_array("a", values, frame_shift=shift, temporal_dim=0, start=0.0)


class LhotseDataset(torch.utils.data.Dataset):
    """As lhotse's own datasets: a batch of cuts in, a batch of tensors out."""

    def __init__(self, payload: str) -> None:
        self.payload = payload

    def __getitem__(self, cuts: Any) -> tuple[Any, ...]:
        features = []
        for cut in cuts:
            if self.payload == "audio":
                features.append(peer_features(torch.from_numpy(cut.load_audio()[0])))
            else:
                features.append(torch.from_numpy(np.array(cut.load_feats())))
        return batch_of(features, [cut.load_ids() for cut in cuts], [cut.load_lp() for cut in cuts])


def read_lhotse(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    from lhotse import CutSet
    from lhotse.dataset import DynamicBucketingSampler, IterableDatasetWrapper, make_worker_init_fn

    cuts = CutSet.from_shar(in_dir=folder, shuffle_shards=True, seed="randomized" if workers else 0).repeat()
    budget = MAX_FRAMES * 0.03
    sampler = DynamicBucketingSampler(cuts, max_duration=budget, shuffle=True, num_buckets=20, buffer_size=2000)
    dataset = IterableDatasetWrapper(LhotseDataset(payload), sampler)
    start = make_worker_init_fn(seed=0) if workers else None
    yield from endless(lambda: torch.utils.data.DataLoader(dataset, None, num_workers=workers, worker_init_fn=start))


def write_datasets(folder: Path, payload: str, count: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    every = list(utterances(count))
    for unit, part in enumerate(np.array_split(np.arange(count), 4)):
        rows = [every[number] for number in part]
        columns = {
            "payload": [packed(payload, samples) for _, samples, _, _ in rows],
            "ids": [ids.reshape(-1) for _, _, ids, _ in rows],
            "log_probs": [log_probs.reshape(-1) for _, _, _, log_probs in rows],
        }
        pq.write_table(pa.table(columns), folder / f"part-{unit}.parquet", row_group_size=64)


def read_datasets(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    from datasets import load_dataset

    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    dataset = load_dataset("parquet", data_files=files, split="train", streaming=True, cache_dir=str(folder / "cache"))
    dataset = dataset.with_format("arrow").shuffle(seed=0, buffer_size=1000)

    def collate(rows: list[dict[str, Any]]) -> tuple[Any, ...]:
        return batch_of(
            [unpacked(payload, row["payload"][0].as_py()) for row in rows],
            [row["ids"][0].values.to_numpy().reshape(-1, TOP) for row in rows],
            [row["log_probs"][0].values.to_numpy().reshape(-1, TOP) for row in rows],
        )

    yield from endless(lambda: torch.utils.data.DataLoader(dataset, BATCH, num_workers=workers, collate_fn=collate))


def write_hdf5(folder: Path, payload: str, count: int) -> None:
    import h5py

    folder.mkdir()
    rows: list[tuple[str, np.ndarray]] = []
    with h5py.File(folder / "targets.h5", "w") as file:
        for number, (key, samples, ids, log_probs) in enumerate(utterances(count)):
            suffix = "flac" if payload == "audio" else "bin"
            (folder / f"{key}.{suffix}").write_bytes(packed(payload, samples))
            rows.append((f"{key}.{suffix}", dense_of(ids, log_probs)))
            if len(rows) == BATCH or number + 1 == count:
                widest = max(len(dense) for _, dense in rows)
                batch = np.zeros((len(rows), widest, CLASSES), np.float32)
                for row, (_, dense) in enumerate(rows):
                    batch[row, : len(dense)] = dense
                group = file.create_group(f"batch_{number // BATCH:06d}")
                group["posteriors"] = batch
                group["lengths"] = [len(dense) for _, dense in rows]
                group["files"] = [name for name, _ in rows]
                rows = []


class Hdf5Dataset(torch.utils.data.Dataset):
    """A batch as it was stored."""

    def __init__(self, folder: Path, payload: str) -> None:
        import h5py

        self.folder, self.payload, self.file = folder, payload, None
        with h5py.File(folder / "targets.h5") as file:
            self.names = sorted(file)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        import h5py

        self.file = self.file or h5py.File(self.folder / "targets.h5")
        group = self.file[self.names[number]]
        features = [unpacked(self.payload, (self.folder / name.decode()).read_bytes()) for name in group["files"][:]]
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        return padded, torch.from_numpy(group["lengths"][:]), torch.from_numpy(group["posteriors"][:])


def read_hdf5(folder: Path, payload: str, workers: int) -> Iterator[tuple[int, int]]:
    dataset = Hdf5Dataset(folder, payload)
    yield from endless(lambda: torch.utils.data.DataLoader(dataset, None, shuffle=True, num_workers=workers))


def endless(make: Callable[[], Any]) -> Iterator[tuple[int, int]]:
    while True:
        for batch in make():
            yield len(batch[1]), int(batch[1].sum())


# --- measuring -------------------------------------------------------------------------------------------------------


def measure(way: str, folder: Path, payload: str, workers: int, seconds: float) -> dict[str, float]:
    """Utterances and frames a second, from the second batch of every worker on."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: max(workers, 1)])
    torch.set_num_threads(1)
    batches = globals()[f"read_{way}"](folder, payload, workers)
    for _ in range(1 + 4 * workers):
        next(batches)
    began, rows, frames = time.perf_counter(), 0, 0
    while time.perf_counter() - began < seconds:
        some, more = next(batches)
        rows, frames = rows + some, frames + more
    taken = time.perf_counter() - began
    return {"utterances": rows / taken, "frames": frames / taken}


def student_frames(seconds: float) -> float:
    """Frames a second that the study's student trains on, one core."""
    from asrkd.models import LSTMStudent

    torch.set_num_threads(1)
    model = LSTMStudent(FRONT_END.feature_dim, CLASSES, hidden_dim=768, num_layers=5)
    features, lengths = torch.randn(8, 300, FRONT_END.feature_dim), torch.full((8,), 300)
    frames, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        model(features, lengths)[0].logsumexp(-1).mean().backward()
        frames += 2400
    return frames / (time.perf_counter() - began)


@click.command(context_settings={"show_default": True})
@click.option("--payload", type=click.Choice(["audio", "features"]), default="audio")
@click.option("--utterances", "count", default=1000)
@click.option("--seconds", default=10.0, help="Measured for each way and number of cores.")
@click.option("--repeats", default=2, help="Turns; the best counts, because a machine may be disturbed.")
@click.option("--way", "ways", multiple=True, default=WAYS)
@click.option("--filterbank", type=click.Choice(["lhotse", "asrkd"]), default="lhotse", help="Filterbank of the peers.")
@click.option("--one", nargs=3, hidden=True, help="Way, folder, workers: measure in this process.")
def main(
    payload: str, count: int, seconds: float, repeats: int, ways: tuple[str, ...], filterbank: str, one: Any
) -> None:
    """Print utterances and frames a second of every way."""
    if one:
        click.echo(json.dumps(measure(one[0], Path(one[1]), payload, int(one[2]), seconds)))
        return
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        best: dict[tuple[str, int], dict[str, float]] = {}
        sizes = {}
        for way in ways:
            folder = Path(name) / way
            globals()[f"write_{way}"](folder, payload, count)
            sizes[way] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for _ in range(repeats):
            for way in ways:
                for workers in (0, 2):
                    command = [sys.executable, __file__, "--payload", payload, "--seconds", str(seconds)]
                    command += ["--one", way, str(Path(name) / way), str(workers)]
                    done = subprocess.run(
                        command, capture_output=True, text=True, env=os.environ | {FILTERBANK: filterbank}
                    )
                    if done.returncode:
                        raise click.ClickException(f"{way}, {workers} workers: {done.stderr[-2000:]}")
                    found = json.loads(done.stdout.splitlines()[-1])
                    known = best.get((way, workers), found)
                    best[way, workers] = max(found, known, key=lambda one: one["frames"])
        click.echo(
            f"{payload}, {count} utterances of {SECONDS[0]:g} to {SECONDS[1]:g} s; peers' filterbank: {filterbank}; best of {repeats}"
        )
        click.echo(f"{'way':12s} {'cores':>5s} {'utt/s':>8s} {'frames/s':>9s} {'asrkd is':>9s} {'MB':>8s}")
        for (way, workers), found in sorted(best.items(), key=lambda item: (item[0][1], -item[1]["frames"])):
            ratio = best["asrkd", workers]["frames"] / found["frames"] if "asrkd" in ways else float("nan")
            click.echo(
                f"{way:12s} {max(workers, 1):5d} {found['utterances']:8.0f} {found['frames']:9.0f} {ratio:8.2f}x {sizes[way] / 1e6:8.1f}"
            )
        student = student_frames(5.0)
        if "asrkd" in ways:
            ratio = best["asrkd", 0]["frames"] / student
            click.echo(
                f"the study's student trains on {student:.0f} frames/s of one core; asrkd reads {ratio:.0f} times that"
            )


if __name__ == "__main__":
    main()
