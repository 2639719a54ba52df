"""A pile of recordings from folder to finished store in four commands, and where every file of it is then.

    python tools/benchmarks/pile.py CORPORA [--files 2000] [--teacher SPEC] [--vad silero]

Joins 1 to 16 audio files of CORPORA, any folder with speech in it, to each recording: 8 to 48 kHz, one or two channels, as WAV, FLAC, Opus,
Vorbis, MP3, AIFF and AU. A tenth of them is broken in sixteen ways (`WAYS`). Runs

    asrkd segment PILE segments.jsonl.gz
    asrkd label plan segments.jsonl.gz STORE
    asrkd label run STORE
    asrkd store verify STORE

(the teacher has random weights where none is given) and prints where each file is: all its segments in the store, some in the store and the
rest in quarantine with a reason, a reason in the segmentation's report, no speech by the report, or passed over as no audio by its name and
counted in the line that says so. Ends with exit code 1 if a file, or a segment of one, is nowhere, or a whole file is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from kills import write_teacher
from numpy.typing import NDArray

from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.sound import SUFFIXES
from asrkd.segmentation.run import report_file
from asrkd.store import Store

Audio = NDArray[np.float32]
FORMATS = ("wav", "flac", "opus", "ogg", "mp3", "aiff", "au")
RATES = (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000)
OPUS_RATES = (8000, 16000, 24000, 48000)
JOINED = (1, 1, 2, 2, 3, 4, 8, 16)
WAYS = (
    "empty",
    "cut off",
    "random bytes",
    "a header alone",
    "a text",
    "a sample is NaN",
    "samples of 16-bit range",
    "digital silence",
    "channels that cancel",
    "a dead link",
    "zeros",
    "another end",
    "no samples",
    "an empty folder",
    "another format's suffix",
    "a text's suffix",
)

# Where a file that is not broken may be.
ALLOWED_OF_WHOLE = ("in the store", "no speech by the report")


def write(path: Path, samples: Audio, rate: int) -> None:
    """Second by second: libsndfile's Vorbis encoder falls over minutes in one call."""
    form, subtype = ("OGG", "OPUS") if path.suffix == ".opus" else (None, None)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, subtype, format=form) as file:
        for begin in range(0, len(samples), rate):
            file.write(samples[begin : begin + rate])


def spoil(path: Path, way: str, rate: int, generator: np.random.Generator) -> Path:
    """Break a recording in one of `WAYS`; its path then."""
    data = path.read_bytes()
    samples = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    wav = path.with_suffix(".wav")
    bent = {
        "a sample is NaN": np.where(np.arange(len(samples)) == len(samples) // 2, np.float32(np.nan), samples),
        "samples of 16-bit range": samples * 32768,
        "digital silence": np.zeros_like(samples),
        "channels that cancel": np.stack([samples, -samples], axis=1),
        "no samples": samples[:0],
    }
    spoiled = {
        "empty": b"",
        "cut off": data[: len(data) // 2],
        "random bytes": generator.bytes(5000),
        "a header alone": data[:40],
        "a text": b"this is a text\n" * 40,
        "zeros": bytes(len(data)),
        "another end": data[: len(data) // 3] + generator.bytes(len(data) // 3),
    }
    if way in spoiled:
        path.write_bytes(spoiled[way])
        return path
    path.unlink()
    if way in bent:
        soundfile.write(wav, bent[way], rate, subtype="FLOAT")
        return wav
    if way == "a dead link":
        path.symlink_to("nowhere")
    elif way == "an empty folder":
        path.mkdir()
    else:
        path = path.with_suffix(".txt" if way == "a text's suffix" else ".mp3" if path.suffix == ".flac" else ".flac")
        path.write_bytes(data)
    return path


def make(folder: Path, speech: list[Path], count: int, every: int = 10) -> tuple[dict[str, Path], dict[str, str]]:
    """Write the pile: its files by id, and the way in which each broken one, one of `every`, was broken."""
    generator = np.random.default_rng(0)
    files, broken = {}, {}
    for number in range(count):
        rate = int(generator.choice(RATES))
        suffix = str(generator.choice(FORMATS))
        if suffix == "opus":
            rate = int(generator.choice(OPUS_RATES))
        parts = []
        for _ in range(generator.choice(JOINED)):
            samples, had = soundfile.read(speech[generator.integers(len(speech))], dtype="float32", always_2d=True)
            mono = torch.from_numpy(samples.mean(axis=1))
            parts.append(torchaudio.functional.resample(mono, had, rate).clamp(-1, 1).numpy())
        whole = np.concatenate(parts)
        path = folder / f"{number:05d}.{suffix}"
        is_stereo = generator.random() < 0.2
        write(path, np.stack([whole, 0.7 * whole], axis=1) if is_stereo else whole, rate)
        if number % every == every // 3:
            way = WAYS[number // every % len(WAYS)]
            path = spoil(path, way, rate, generator)
            broken[path.stem] = way
        files[path.stem] = path
    return files, broken


def cpu_of_children() -> float:
    """Seconds that ended child processes have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def asrkd(*arguments: object) -> str:
    """Run a command; prints how it ended, and returns what it told on stderr."""
    begun, worked = time.monotonic(), cpu_of_children()
    command = [sys.executable, "-m", "asrkd", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    said = (done.stdout.splitlines() or [""])[-1]
    name = f"asrkd {arguments[0]}" + (f" {arguments[1]}" if arguments[0] != "segment" else "")
    print(
        f"{name}: exit {done.returncode}, {time.monotonic() - begun:.0f} s, of the processors {cpu_of_children() - worked:.0f} s: {said}",
        flush=True,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stderr


def fates(files: dict[str, Path], segments: Path, told: str, root: str) -> Iterator[tuple[str, str]]:
    """(id, where it is) of each file; `told` is what `asrkd segment` said of what it passed over."""
    store = Store.open(root)
    stored = {row["id"] for row in store.rows(["id"])}
    quarantined = {key for _, bad in store.quarantine.each(store.quarantine.units()) for key, why in bad if why}
    report = {line["id"]: line for line in map(json.loads, report_file(segments).read_text().splitlines()[1:])}
    parts: dict[str, list[str]] = {key: [] for key in files}
    for cut in iterate_json(segments):
        parts[cut["custom"]["segmented_from"]].append(cut["id"])
    counted = re.search(r"passed over: (\d+) files of other kinds", told)
    others = [key for key, path in files.items() if path.suffix not in SUFFIXES]
    for key, path in files.items():
        line = report.get(key) or report.get(f"{path.name}/")
        if line is None:
            is_counted = key in others and counted is not None and int(counted[1]) == len(others)
            yield key, "passed over by its suffix" if is_counted else "NOWHERE"
        elif "unreadable" in line:
            yield key, "a reason in the report" if line["unreadable"] else "NOWHERE"
        elif line["segments"] != len(parts[key]) or not {*parts[key]} <= stored | quarantined:
            yield key, "NOWHERE"
        elif not parts[key]:
            yield key, "no speech by the report"
        elif {*parts[key]} & quarantined:
            yield key, "in quarantine" if not {*parts[key]} & stored else "in the store and in quarantine"
        else:
            yield key, "in the store"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--teacher")
    parser.add_argument("--vad", default="silero")
    parser.add_argument("--keep", type=Path, help="copy the report of the segmentation here")
    options = parser.parse_args()
    speech = sorted(
        path
        for path in options.corpora.rglob("*")
        if path.suffix in (".opus", ".flac", ".wav") and not {"noise", "background_noise"} & {*path.parts}
    )
    with tempfile.TemporaryDirectory() as name:
        pile, segments, root = Path(name) / "pile", Path(name) / "segments.jsonl.gz", f"{name}/store"
        pile.mkdir()
        teacher = options.teacher or write_teacher(Path(name) / "final.pt")
        files, broken = make(pile, speech, options.files)
        if {*os.listdir(pile)} != {path.name for path in files.values()}:
            sys.exit("the pile was not written as it should be")
        told = asrkd("segment", pile, segments, "--vad", options.vad)
        asrkd("label", "plan", segments, root, "--teacher", teacher, "--codec", "topk:20", "--unit-hours", "0.25")
        asrkd("label", "run", root)
        asrkd("store", "verify", root)
        where = dict(fates(files, segments, told, root))
        if options.keep:
            shutil.copy(report_file(segments), options.keep)
    table = Counter((broken.get(key, "whole"), fate) for key, fate in where.items())
    print(f"{options.files} files, {len(broken)} of them broken")
    for way in ("whole", *WAYS):
        line = ", ".join(f"{count} {fate}" for (kind, fate), count in sorted(table.items()) if kind == way)
        print(f"{way:24s} {line}")
    lost = [files[key].name for key, fate in where.items() if fate == "NOWHERE"]
    if lost:
        sys.exit(f"{len(lost)} files are nowhere, such as {', '.join(lost[:3])}")
    refused = [files[key].name for key, fate in where.items() if key not in broken and fate not in ALLOWED_OF_WHOLE]
    if refused:
        sys.exit(f"{len(refused)} files are whole, but not used, such as {', '.join(refused[:3])}")


if __name__ == "__main__":
    main()
