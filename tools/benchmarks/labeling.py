"""Labeling against the bare forward loop, and against the peers' ways of storing a teacher's output, in one run.

    python tools/benchmarks/labeling.py --minutes 10
    python tools/benchmarks/labeling.py --minutes 10 --seconds 1 1        # ten thousand one-second files, on a larger --minutes
    python tools/benchmarks/labeling.py --minutes 60 --seconds 3600 3600  # hour-long files
    python tools/benchmarks/labeling.py --device cuda:0 --minutes 600 --teacher study --readers 8

The audio is noise in FLAC files of random lengths, cut into one work unit for every tenth of it; the teacher has random weights. All
ways read the same files, run the same model on the same batches (those of the plan), and are timed from the second tenth on, so that
starting processes and choosing kernels is not counted.

- bare: the forward pass alone, features in memory, output thrown away: the limit.
- asrkd: `asrkd label run`, from FLAC files to shards.
- HDF5: a lhotse dataset in a DataLoader with as many workers, one HDF5 writer in the loop, dense float32 (SpeechBrain's way).
- torch.save: the same loader; the 20 largest logits of each batch, a file a batch.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from lhotse import CutSet, Recording
from lhotse.cut.set import deserialize_cut

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.audio import read_audio, write_audio
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.waveform import AnyFrontEnd, Waveform
from asrkd.labeling.crew import Crew
from asrkd.labeling.plan import plan
from asrkd.labeling.reading import CutJson, batches
from asrkd.labeling.status import status
from asrkd.labeling.worker import UnitResult
from asrkd.models import BLSTMTeacher
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.plan import read_cuts

CLASSES = 3183
BARE = "bare forward loop"


class Wav2Vec2(torch.nn.Module):
    """torchaudio's wav2vec2_base with random weights and a head of its own, (N, S, 1) -> (N, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        import torchaudio

        self.model = torchaudio.models.wav2vec2_base(aux_num_out=CLASSES)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As a teacher does."""
        logits, frames = self.model(features[..., 0], lengths)
        return logits, frames


def make_teacher(kind: str, width: int, layers: int) -> AcousticModel:
    """A teacher with random weights, the same in every process."""
    torch.manual_seed(0)
    inventory = Inventory(("<blk>", *(f"u{number}" for number in range(CLASSES - 1))), "ctc")
    if kind == "wav2vec2":
        return AcousticModel(Wav2Vec2().eval(), Waveform(), inventory, 1, kind, "0" * 32)
    if kind == "study":
        width, layers = 768, 5
    model = BLSTMTeacher(192, CLASSES, hidden_dim=width, num_layers=layers).eval()
    return AcousticModel(model, FrontEnd(), inventory, 1, kind, "0" * 32)


def write_corpus(folder: Path, minutes: float, seconds: tuple[float, float]) -> tuple[Path, float]:
    """FLAC files and their manifest; the hours."""
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(16000 * 600)).astype(np.float32)
    cuts, total = [], 0.0
    while total < minutes * 60:
        length = int(16000 * rng.uniform(*seconds))
        path = folder / f"audio/{len(cuts):06d}.flac"
        write_audio(path, np.resize(np.roll(noise, -int(rng.integers(len(noise)))), length), 16000)
        cuts.append(Recording.from_file(path, recording_id=path.stem).to_cut().with_id(path.stem))
        total += length / 16000
    CutSet.from_cuts(cuts).to_file(folder / "cuts.jsonl.gz")
    return folder / "cuts.jsonl.gz", total / 3600


def batches_of(root: str, front_end: AnyFrontEnd) -> list[list[list[CutJson]]]:
    """The batches of each unit of a plan."""
    units = int(Store.open(root).plan["num_units"])
    return [list(batches(read_cuts(Files(root), unit), front_end)) for unit in range(units)]


class Batches(torch.utils.data.Dataset):
    """Audio and features of the plan's batches, by lhotse, in the DataLoader's workers."""

    def __init__(self, parts: Sequence[Sequence[CutJson]], front_end: AnyFrontEnd) -> None:
        self.parts, self.front_end = parts, front_end

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        import copy

        cuts = [deserialize_cut(copy.deepcopy(dict(cut))) for cut in self.parts[number]]
        rate = self.front_end.sampling_rate
        features = [self.front_end(torch.from_numpy(read_audio(cut, rate))) for cut in cuts]
        lengths = torch.tensor([len(one) for one in features])
        return [cut.id for cut in cuts], torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths


def loaded(parts: Sequence[Sequence[CutJson]], front_end: AnyFrontEnd, workers: int) -> Iterator[Any]:
    """Batches from a DataLoader."""
    return iter(
        torch.utils.data.DataLoader(
            Batches(parts, front_end),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            # A fork would copy the locks of threads that are at work.
            multiprocessing_context="spawn" if workers else None,
        )
    )


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@torch.no_grad()
def bare(units: list[list[list[CutJson]]], teacher: AcousticModel) -> float:
    """Seconds of the forward pass from the second unit on, features in memory."""
    seconds = 0.0
    for number, parts in enumerate(units):
        ready = list(loaded(parts, teacher.front_end, 0))
        synchronize(teacher.device)
        began = time.perf_counter()
        for _, features, lengths in ready:
            teacher.network(features.to(teacher.device), lengths.to(teacher.device))
        synchronize(teacher.device)
        seconds += (time.perf_counter() - began) if number else 0.0
    return seconds


def ours(root: str, crew: Crew) -> tuple[float, list[UnitResult]]:
    """Seconds of labeling from the second unit on."""
    store = Store.open(root)
    with crew.labeler(store) as labeler:
        first = list(labeler.label([0]))
        began = time.perf_counter()
        rest = list(labeler.label(range(1, store.num_units)))
        return time.perf_counter() - began, first + rest


@torch.no_grad()
def peer(
    units: list[list[list[CutJson]]],
    teacher: AcousticModel,
    workers: int,
    write: Callable[[int, list[str], Any, Any], None],
) -> float:
    """Seconds of loading, forward pass and writing, one after the other, from the second unit on."""
    parts = [part for unit in units for part in unit]
    began = 0.0
    for number, (ids, features, lengths) in enumerate(loaded(parts, teacher.front_end, workers)):
        if number == len(units[0]):
            synchronize(teacher.device)
            began = time.perf_counter()
        logits, frames = teacher.network(features.to(teacher.device), lengths.to(teacher.device))
        write(number, ids, logits, frames)
    return time.perf_counter() - began


def hdf5_writer(path: Path) -> Callable[[int, list[str], Any, Any], None]:
    """Dense float32, a dataset for each utterance."""
    import h5py

    file = h5py.File(path, "w")

    def write(number: int, ids: list[str], logits: Any, frames: Any) -> None:
        for key, row, count in zip(ids, logits.float().cpu().numpy(), frames.tolist(), strict=True):
            file.create_dataset(key, data=row[:count])
        file.flush()

    return write


def torch_writer(folder: Path) -> Callable[[int, list[str], Any, Any], None]:
    """The 20 largest logits, a file for each batch."""
    folder.mkdir()

    def write(number: int, ids: list[str], logits: Any, frames: Any) -> None:
        values, indices = logits.topk(20, dim=-1)
        content = {"ids": ids, "frames": frames.cpu(), "values": values.half().cpu(), "indices": indices.short().cpu()}
        torch.save(content, folder / f"{number}.pt")

    return write


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=10.0, help="Minutes of audio.")
@click.option("--seconds", nargs=2, default=(2.0, 15.0), help="Shortest and longest file.")
@click.option("--teacher", "kind", type=click.Choice(["blstm", "study", "wav2vec2"]), default="blstm")
@click.option("--width", default=512)
@click.option("--layers", default=4)
@click.option("--device", default="cpu")
@click.option("--readers", default=1, help="Processes that read, for every way.")
@click.option("--codec", "codecs", multiple=True, default=["topk:20", "hybrid:0:16"])
@click.option("--peers/--no-peers", default=True)
@click.option("--repeats", default=3, help="Turns; the best of each way counts, because a machine may be disturbed.")
def main(
    minutes: float,
    seconds: tuple[float, float],
    kind: str,
    width: int,
    layers: int,
    device: str,
    readers: int,
    codecs: Sequence[str],
    peers: bool,
    repeats: int,
) -> None:
    """Print audio seconds in a second for every way, and the share of the bare loop's."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        folder = Path(name)
        (folder / "benchmark_teacher.py").write_text(
            f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom labeling import make_teacher\n\n\n"
            f"def make():\n    return make_teacher({kind!r}, {width}, {layers})\n"
        )
        sys.path.insert(0, name)
        spec = "python:benchmark_teacher:make"
        cuts, hours = write_corpus(folder, minutes, seconds)
        teacher = load_model(spec, device)
        parameters = sum(weight.numel() for weight in teacher.network.parameters())  # type: ignore[union-attr]
        where = torch.cuda.get_device_name(device) if device.startswith("cuda") else "1 CPU thread"
        click.echo(
            f"{kind}, {parameters / 1e6:.1f} M parameters, {where}; {hours * 60:.1f} min in files of {seconds[0]:g} to {seconds[1]:g} s"
        )
        best: dict[str, tuple[float, float]] = {}
        for turn in range(repeats):
            for label, taken, size in measure(
                folder / f"turn-{turn}", cuts, hours, spec, teacher, device, readers, codecs, peers
            ):
                best[label] = min(best.get(label, (math.inf, 0.0)), (taken, size))
        root = str(folder / "turn-0" / codecs[0].replace(":", "-"))
        units = batches_of(root, teacher.front_end)
        audio = sum(cut["duration"] for unit in units[1:] for part in unit for cut in part)
    click.echo(f"{'way, best of ' + str(repeats):40s} {'RTFx':>9s} {'of bare':>8s} {'MB':>9s}")
    for label, (taken, size) in best.items():
        click.echo(f"{label:40s} {audio / taken:9.1f} {best[BARE][0] / taken:8.3f} {size / 1e6:9.1f}")


def measure(
    folder: Path,
    cuts: Path,
    hours: float,
    spec: str,
    teacher: AcousticModel,
    device: str,
    readers: int,
    codecs: Sequence[str],
    peers: bool,
) -> Iterator[tuple[str, float, float]]:
    """Every way once: its name, seconds, bytes."""
    roots = {}
    for codec in codecs:
        roots[codec] = str(folder / codec.replace(":", "-"))
        plan(str(cuts), roots[codec], teacher=spec, codec=codec, embed="none", unit_hours=hours / 10)
    units = batches_of(roots[codecs[0]], teacher.front_end)
    yield BARE, bare(units, teacher), 0.0
    for codec in codecs:
        taken, results = ours(roots[codec], Crew(devices=[device], readers=readers))
        if status(Store.open(roots[codec])).quarantine:
            raise RuntimeError("the benchmark's audio went to quarantine")
        yield f"asrkd, {codec}", taken, sum(result.num_bytes for result in results[1:])
    if peers:
        path = folder / "dense.h5"
        taken = peer(units, teacher, readers, hdf5_writer(path))
        yield "lhotse DataLoader, HDF5, dense", taken, path.stat().st_size
        path.unlink()
        taken = peer(units, teacher, readers, torch_writer(folder / "saved"))
        size = sum(one.stat().st_size for one in (folder / "saved").iterdir())
        yield "lhotse DataLoader, torch.save, top-20", taken, size


if __name__ == "__main__":
    main()
