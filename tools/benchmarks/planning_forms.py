"""Planning a corpus of every form (docs/corpora.md): utterances a second, next to lhotse's own reading of the same files.

    python tools/benchmarks/planning_forms.py --count 5000

Each form holds the same utterances of a second, 16-bit WAV at 16 kHz. asrkd plans them (reading, headers, JSON, the frozen plan); lhotse makes its cuts of
them as its users do: `CutSet.from_file`, `from_shar`, `load_kaldi_data_dir`, `from_huggingface_dataset`; where it has no reader, a loop with
`Recording.from_file` or `from_bytes`, as NeMo's adapter has it (and webdataset's own reader). lhotse's cuts are only made, and not written. Seconds
are those of the processor, children included, so that other work on the machine does not count. Every form is read once before it is timed, so files are in
the page cache; memory is what the process holds for itself after the last form, against before the first.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import datasets
import numpy as np
import pyarrow.parquet as pq
import soundfile
import webdataset
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.kaldi import export_to_kaldi, load_kaldi_data_dir
from watching import held

from asrkd.labeling.plan import plan

RATE = 16000
Lhotse = Callable[[], Iterable[Any]]


def cut_of(recording: Recording, key: str, text: str) -> Any:
    """A whole recording with its text."""
    cut = recording.to_cut().with_id(key)
    cut.supervisions = [SupervisionSegment(key, recording.id, 0.0, recording.duration, text=text)]
    return cut


def write(folder: Path, count: int) -> dict[str, tuple[str, Lhotse]]:
    """By form: the corpus, and how lhotse reads it."""
    rng = np.random.default_rng(0)
    keys = [f"utterance-{number:07d}" for number in range(count)]
    texts = {key: f"words of {key}" for key in keys}
    (folder / "clips").mkdir()
    paths = {key: folder / f"clips/{key}.wav" for key in keys}
    for path in paths.values():
        soundfile.write(path, (1000 * rng.normal(size=RATE)).astype(np.int16), RATE, subtype="PCM_16")
    found: dict[str, tuple[str, Lhotse]] = {}

    cuts = CutSet.from_cuts(cut_of(Recording.from_file(paths[key]), key, texts[key]) for key in keys).to_eager()
    cuts.to_file(folder / "cuts.jsonl.gz")
    found["lhotse"] = str(folder / "cuts.jsonl.gz"), lambda: CutSet.from_file(folder / "cuts.jsonl.gz")
    (folder / "shar").mkdir()
    cuts.to_shar(folder / "shar", fields={"recording": "wav"}, shard_size=500)
    found["shar"] = str(folder / "shar"), lambda: CutSet.from_shar(in_dir=folder / "shar")

    recordings = RecordingSet.from_recordings(cut.recording for cut in cuts)
    export_to_kaldi(recordings, SupervisionSet.from_segments(cut.supervisions[0] for cut in cuts), folder / "kaldi")

    def kaldi() -> CutSet:
        # Headers are read, as asrkd does.
        read, supervisions, _ = load_kaldi_data_dir(folder / "kaldi", RATE, use_reco2dur=False)
        return CutSet.from_manifests(recordings=read, supervisions=supervisions)

    found["kaldi"] = str(folder / "kaldi"), kaldi

    lines = [{"audio_filepath": str(paths[key]), "duration": 1.0, "text": texts[key]} for key in keys]
    manifest = folder / "nemo.json"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def nemo() -> Iterator[Any]:
        for line in map(json.loads, manifest.open()):
            recording = Recording.from_file(line["audio_filepath"])
            yield cut_of(recording, recording.id, line["text"])

    found["nemo"] = str(manifest), nemo
    (folder / "tarred").mkdir()
    tarred = folder / "tarred/manifest_0.json"
    tarred.write_text(
        "".join(
            json.dumps(line | {"audio_filepath": f"{key}.wav"}) + "\n" for key, line in zip(keys, lines, strict=True)
        )
    )
    with tarfile.open(folder / "tarred/audio_0.tar", "w") as tar:
        for key in keys:
            tar.add(paths[key], f"{key}.wav")

    def members() -> Iterator[Any]:
        said = {line["audio_filepath"]: line["text"] for line in map(json.loads, tarred.open())}
        with tarfile.open(folder / "tarred/audio_0.tar", "r|*") as tar:
            for member in tar:
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                yield cut_of(Recording.from_bytes(data, member.name), member.name, said[member.name])

    found["nemo, tarred"] = str(tarred), members

    with webdataset.ShardWriter(f"{folder}/web-%04d.tar", maxcount=500, verbose=0) as writer:
        for key in keys:
            writer.write({"__key__": key, "wav": paths[key].read_bytes(), "txt": texts[key]})
    shards = sorted(map(str, folder.glob("web-*.tar")))

    def web() -> Iterator[Any]:
        for sample in webdataset.WebDataset(shards, shardshuffle=False):
            key = sample["__key__"]
            yield cut_of(Recording.from_bytes(sample["wav"], key), key, sample["txt"].decode())

    found["webdataset"] = f"{folder}/web-*.tar", web

    rows = {"id": keys, "audio": [str(paths[key]) for key in keys], "text": [texts[key] for key in keys]}
    dataset = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    dataset = (
        dataset.with_format("arrow")
        .map(datasets.table.embed_table_storage, batched=True, batch_size=100)
        .with_format(None)
    )
    dataset.to_parquet(folder / "plain.parquet", batch_size=100)
    pq.write_table(
        pq.read_table(folder / "plain.parquet"), folder / "snappy.parquet", compression="snappy", row_group_size=100
    )
    dataset.save_to_disk(str(folder / "disk"))
    for name, path in (("parquet", "plain.parquet"), ("parquet, compressed", "snappy.parquet")):

        def parquet(path: str = path) -> Any:
            rows = datasets.load_dataset("parquet", data_files=str(folder / path), split="train", streaming=True)
            return CutSet.from_huggingface_dataset(rows, text_key="text")

        found[name] = str(folder / path), parquet
    found["arrow"] = (
        str(folder / "disk"),
        lambda: CutSet.from_huggingface_dataset(datasets.load_from_disk(str(folder / "disk")), text_key="text"),
    )

    table = folder / "train.tsv"
    table.write_text("client_id\tpath\tsentence\n" + "".join(f"x\t{key}.wav\t{texts[key]}\n" for key in keys))

    def clips() -> Iterator[Any]:
        for line in table.read_text().splitlines()[1:]:
            _, path, text = line.split("\t")
            recording = Recording.from_file(folder / "clips" / path)
            yield cut_of(recording, recording.id, text)

    found["commonvoice"] = str(table), clips
    found["folder"] = (
        str(folder / "clips"),
        lambda: (Recording.from_file(path).to_cut() for path in sorted((folder / "clips").iterdir())),
    )
    return found


def planned(path: str, folder: Path) -> int:
    """Utterances of a new plan."""
    return int(plan(path, tempfile.mkdtemp(dir=folder), embed="audio").plan["num_cuts"])


def read(lhotse: Lhotse) -> int:
    """Utterances that lhotse makes cuts of."""
    return sum(1 for _ in lhotse())


def timed(work: Callable[..., int], count: int, *arguments: Any) -> float:
    """Utterances a second of a core, of the second of two runs."""
    seconds = 0.0
    for _ in range(2):
        began = sum(os.times()[:4])
        made = work(*arguments)
        seconds = sum(os.times()[:4]) - began
        if made != count:
            raise RuntimeError(f"{made} utterances of {count}")
    return count / seconds


@click.command(context_settings={"show_default": True})
@click.option("--count", default=5000, help="Utterances.")
def main(count: int) -> None:
    """Print a line for each form."""
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="asrkd-benchmark-") as name:
        folder = Path(name)
        corpora = write(folder, count)
        before = held()
        click.echo(
            f"{count} utterances of 1 s; utterances a second of a core\n{'form':20} {'asrkd plan':>11} {'lhotse':>11} {'ratio':>6}"
        )
        for form, (path, lhotse) in corpora.items():
            ours, theirs = timed(planned, count, path, folder), timed(read, count, lhotse)
            click.echo(f"{form:20} {ours:11.0f} {theirs:11.0f} {ours / theirs:6.2f}")
        click.echo(f"memory {held() / 1e6:.0f} MB after, {before / 1e6:.0f} MB before")


if __name__ == "__main__":
    main()
