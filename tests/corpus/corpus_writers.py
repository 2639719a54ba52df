"""A small corpus as each tool writes it, to be read back."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import soundfile
import webdataset
from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.kaldi import export_to_kaldi

RATE = 16000


@dataclass(frozen=True)
class Spoken:
    """What must come out: 16-bit samples, text and speaker of an utterance."""

    id: str
    samples: np.ndarray
    text: str
    speaker: str


def spoken(count: int = 5, seed: int = 0) -> list[Spoken]:
    """Utterances of noise, in order of their ids."""
    rng = np.random.default_rng(seed)
    return [
        Spoken(
            f"u{number}",
            (2000 * rng.normal(size=4000 + 160 * number)).astype(np.int16),
            f"text é {number}",
            f"s{number % 2}",
        )
        for number in range(count)
    ]


def audio_bytes(samples: np.ndarray, kind: str = "wav") -> bytes:
    """The bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype="PCM_16")
    return file.getvalue()


def files(corpus: list[Spoken], folder: Path, kind: str = "wav") -> dict[str, Path]:
    """An audio file of each utterance, by its id."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in corpus:
        soundfile.write(folder / f"{one.id}.{kind}", one.samples, RATE, subtype="PCM_16")
    return {one.id: folder / f"{one.id}.{kind}" for one in corpus}


def lhotse_cuts(corpus: list[Spoken], folder: Path) -> CutSet:
    """lhotse's cuts of audio files."""
    made = []
    for one, path in zip(corpus, files(corpus, folder).values(), strict=True):
        recording = Recording.from_file(path, recording_id=one.id)
        cut = recording.to_cut().with_id(one.id)
        cut.supervisions = [
            SupervisionSegment(one.id, one.id, 0.0, recording.duration, text=one.text, speaker=one.speaker)
        ]
        made.append(cut)
    return CutSet.from_cuts(made)


def _lhotse(corpus: list[Spoken], folder: Path) -> str:
    lhotse_cuts(corpus, folder / "audio").to_file(folder / "cuts.jsonl.gz")
    return str(folder / "cuts.jsonl.gz")


def _shar(corpus: list[Spoken], folder: Path) -> str:
    cuts = lhotse_cuts(corpus, folder / "audio")
    (folder / "shar").mkdir()
    cuts.to_shar(folder / "shar", fields={"recording": "flac"}, shard_size=2)
    return str(folder / "shar")


def _nemo(corpus: list[Spoken], folder: Path) -> str:
    paths = files(corpus, folder)
    lines = [
        {
            "audio_filepath": paths[one.id].name,
            "duration": round(len(one.samples) / RATE, 2),
            "text": one.text,
            "speaker": one.speaker,
        }
        for one in corpus
    ]
    return _json_lines(folder / "train_manifest.json", lines)


def _nemo_tarred(corpus: list[Spoken], folder: Path) -> str:
    """As NeMo's convert_to_tarred_audio_dataset.py: a tar file and a manifest of each shard, and one manifest of all."""
    shards = [corpus[:2], corpus[2:]]
    (folder / "sharded_manifests").mkdir()
    everything = []
    for number, shard in enumerate(shards):
        with tarfile.open(folder / f"audio_{number}.tar", "w") as tar:
            for one in shard:
                data = audio_bytes(one.samples)
                info = tarfile.TarInfo(f"{one.id}.wav")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        lines = [
            {
                "audio_filepath": f"{one.id}.wav",
                "duration": len(one.samples) / RATE,
                "text": one.text,
                "speaker": one.speaker,
                "shard_id": number,
            }
            for one in shard
        ]
        _json_lines(folder / f"sharded_manifests/manifest_{number}.json", lines)
        everything += lines
    _json_lines(folder / "tarred_audio_manifest.json", everything)
    return str(folder / "sharded_manifests/manifest__OP_0..1_CL_.json")


def _nemo_tarred_folder(corpus: list[Spoken], folder: Path) -> str:
    _nemo_tarred(corpus, folder)
    return str(folder)


def _kaldi(corpus: list[Spoken], folder: Path) -> str:
    cuts = lhotse_cuts(corpus, folder / "audio")
    recordings = RecordingSet.from_recordings(cut.recording for cut in cuts)
    supervisions = SupervisionSet.from_segments(cut.supervisions[0] for cut in cuts)
    export_to_kaldi(recordings, supervisions, folder / "data")
    return str(folder / "data")


def _kaldi_archive(corpus: list[Spoken], folder: Path) -> str:
    """As Kaldi's wav-copy: the WAV files behind their keys in one archive."""
    folder.mkdir(exist_ok=True)
    lines = []
    with open(folder / "wav.ark", "wb") as archive:
        for one in corpus:
            archive.write(f"{one.id} ".encode())
            lines.append(f"{one.id} {folder}/wav.ark:{archive.tell()}\n")
            archive.write(audio_bytes(one.samples))
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "text").write_text("".join(f"{one.id} {one.text}\n" for one in corpus), encoding="utf-8")
    (folder / "utt2spk").write_text("".join(f"{one.id} {one.speaker}\n" for one in corpus))
    return str(folder)


def _json_lines(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def dataset(corpus: list[Spoken], folder: Path, *, embed: bool = True) -> datasets.Dataset:
    """The dataset of audio files, with their bytes in it, or their paths alone."""
    paths = files(corpus, folder / "audio")
    rows = {
        "id": [one.id for one in corpus],
        "audio": [str(paths[one.id]) for one in corpus],
        "text": [one.text for one in corpus],
        "speaker": [one.speaker for one in corpus],
        "split": [number % 3 for number in range(len(corpus))],
    }
    made = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    if not embed:
        return made
    return made.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).with_format(None)


def _parquet(corpus: list[Spoken], folder: Path) -> str:
    dataset(corpus, folder).to_parquet(folder / "train.parquet", batch_size=2)
    return str(folder / "train.parquet")


def _parquet_snappy(corpus: list[Spoken], folder: Path) -> str:
    """Compressed, in the folder of a repository, as earlier versions wrote it."""
    (folder / "data").mkdir()
    table = pq.read_table(_parquet(corpus, folder))
    Path(folder / "train.parquet").unlink()
    for number, part in enumerate((table.slice(0, 2), table.slice(2))):
        pq.write_table(
            part, folder / f"data/train-{number:05d}-of-00002.parquet", compression="snappy", row_group_size=2
        )
    return str(folder)


def _parquet_of_paths(corpus: list[Spoken], folder: Path) -> str:
    dataset(corpus, folder, embed=False).to_parquet(folder / "train.parquet")
    return str(folder / "train.parquet")


def _arrow(corpus: list[Spoken], folder: Path) -> str:
    dataset(corpus, folder).save_to_disk(str(folder / "disk"), num_shards=2)
    return str(folder / "disk")


def _arrow_split(corpus: list[Spoken], folder: Path) -> str:
    datasets.DatasetDict({"train": dataset(corpus, folder)}).save_to_disk(str(folder / "disk"))
    return str(folder / "disk")


def _webdataset(corpus: list[Spoken], folder: Path, *, as_json: bool = False) -> str:
    """By webdataset's own writer, in shards of two."""
    with webdataset.ShardWriter(f"{folder}/shard-%03d.tar", maxcount=2, verbose=0) as writer:
        for one in corpus:
            said = {"json": {"text": one.text, "speaker": one.speaker}} if as_json else {"txt": one.text}
            writer.write({"__key__": one.id, "flac": audio_bytes(one.samples, "flac"), **said})
    return f"{folder}/shard-{{000..{(len(corpus) - 1) // 2:03d}}}.tar"


def _webdataset_json(corpus: list[Spoken], folder: Path) -> str:
    _webdataset(corpus, folder, as_json=True)
    return str(folder)


def _common_voice(corpus: list[Spoken], folder: Path) -> str:
    files(corpus, folder / "clips", "flac")
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tage\tgender\taccents\tlocale\tsegment\n"
    rows = (f"{one.speaker}\t{one.id}.flac\tx\t{one.text}\t2\t\t\t\tar\t\n" for one in corpus)
    (folder / "train.tsv").write_text(header + "".join(rows), encoding="utf-8")
    return str(folder / "train.tsv")


Writer = Callable[[list[Spoken], Path], str]
WRITERS: dict[str, Writer] = {
    "lhotse": _lhotse,
    "shar": _shar,
    "nemo": _nemo,
    "nemo, tarred": _nemo_tarred,
    "nemo, tarred, folder": _nemo_tarred_folder,
    "kaldi": _kaldi,
    "kaldi, archive": _kaldi_archive,
    "webdataset": _webdataset,
    "webdataset, json": _webdataset_json,
    "commonvoice": _common_voice,
    "parquet": _parquet,
    "parquet, compressed": _parquet_snappy,
    "parquet, paths": _parquet_of_paths,
    "arrow": _arrow,
    "arrow, split": _arrow_split,
}
