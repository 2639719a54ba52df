"""A small corpus as each tool writes it, to be read back."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
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


Writer = Callable[[list[Spoken], Path], str]
WRITERS: dict[str, Writer] = {
    "lhotse": _lhotse,
    "shar": _shar,
    "nemo": _nemo,
    "nemo, tarred": _nemo_tarred,
    "nemo, tarred, folder": _nemo_tarred_folder,
    "kaldi": _kaldi,
    "kaldi, archive": _kaldi_archive,
}
