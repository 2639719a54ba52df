"""Speech that segmentation keeps, its speed and its memory, on long recordings with known speech.

    python tools/benchmarks/segmenting.py SPEECH_FOLDER NOISE_FOLDER [--minutes 10] [--recordings 10] [--hours 1 10]

Joins clips of speech (audio files of a folder) with gaps of 1 to 15 s into recordings, over noise (audio files of the other folder, repeated) at
20 and at 5 dB below the speech, and segments them by each detector. The truth is where a clip is within 25 dB of its loudest 32 ms,
pauses of up to 0.3 s included. Prints, for each detector and level:

- the share of speech that is in segments, and of kept audio that is not speech;
- borders that lie in speech, of all;
- CPU seconds as times real time, beside that of reading the audio alone.

Then the peak memory of `asrkd segment` on one recording of each of the given hours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.segmentation.activity import FRAME_SECONDS, level_db
from asrkd.segmentation.run import segment_corpus
from asrkd.segmentation.samples import blocks
from asrkd.segmentation.settings import SegmentSettings

RATE = 16000


def audio(folder: Path) -> list[Path]:
    kinds = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds)


def read(path: Path) -> NDArray[np.float32]:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torchaudio.functional.resample(torch.from_numpy(samples.mean(axis=1)), rate, RATE).numpy()


def spoken_frames(clip: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(num_frames,) where a clip is speech, pauses of up to 0.3 s included."""
    levels = level_db(iter([clip]))
    spoken = levels > levels.max() - 25
    at = np.flatnonzero(spoken)
    for before, after in zip(at[:-1], at[1:], strict=True):
        if (after - before - 1) * FRAME_SECONDS <= 0.3:
            spoken[before:after] = True
    return spoken


def make(
    folder: Path,
    speech: list[Path],
    noise: list[NDArray[np.float32]],
    seconds: float,
    count: int,
    snr: float,
    seed: int,
) -> dict[str, NDArray[np.bool_]]:
    """Write recordings; the frames of each that are speech."""
    generator = np.random.default_rng(seed)
    truth = {}
    for number in range(count):
        parts, flags, length = [], [], 0
        while length < seconds * RATE:
            gap = round(generator.uniform(1, 15) / FRAME_SECONDS)
            clip = read(speech[generator.integers(len(speech))])
            clip = clip[: len(clip) // 512 * 512] / max(1e-6, float(np.abs(clip).max())) * 0.3
            parts += [np.zeros(gap * 512, np.float32), clip]
            flags += [np.zeros(gap, bool), spoken_frames(clip)]
            length += len(parts[-1]) + len(parts[-2])
        whole, spoken = np.concatenate(parts), np.concatenate(flags)
        power = np.square(whole.reshape(-1, 512)[spoken]).mean()
        background = noise[generator.integers(len(noise))]
        background = np.tile(background, -(-len(whole) // len(background)))[: len(whole)]
        background = background * np.sqrt(power / np.square(background).mean() / 10 ** (snr / 10))
        soundfile.write(folder / f"{number}.flac", np.clip(whole + background, -1, 1), RATE)
        truth[f"{number}.flac"] = spoken
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("noise", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--hours", type=float, nargs="*", default=[1, 10])
    options = parser.parse_args()
    torch.set_num_threads(1)
    speech, noise = audio(options.speech), [read(path) for path in audio(options.noise)]
    for snr in (20, 5):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "recordings"
            folder.mkdir()
            truth = make(folder, speech, noise, options.minutes * 60, options.recordings, snr, seed=snr)
            hours = sum(map(len, truth.values())) * FRAME_SECONDS / 3600
            begun = time.process_time()
            for cut in iterate_json(folder):
                for _ in blocks(to_cut(cut), RATE):
                    pass
            reading = hours * 3600 / (time.process_time() - begun)
            for vad in ("silero", "energy"):
                out = Path(name) / f"{vad}.jsonl"
                begun = time.process_time()
                segment_corpus(folder, out, SegmentSettings(vad))
                speed = hours * 3600 / (time.process_time() - begun)
                kept = {key: np.zeros(len(spoken), bool) for key, spoken in truth.items()}
                borders = cut_speech = 0
                for cut in iterate_json(out):
                    key = next(key for key in truth if cut["recording"]["sources"][0]["source"].endswith(f"/{key}"))
                    first, last = (round(at / FRAME_SECONDS) for at in (cut["start"], cut["start"] + cut["duration"]))
                    kept[key][first:last] = True
                    for edge in (first, last):
                        borders += 1
                        cut_speech += bool(truth[key][max(0, edge - 1) : edge + 1].all()) and 0 < edge < len(truth[key])
                speech_kept = sum((kept[key] & truth[key]).sum() for key in truth) / sum(map(np.sum, truth.values()))
                without = sum((kept[key] & ~truth[key]).sum() for key in truth) / sum(map(np.sum, kept.values()))
                print(
                    f"{snr:2d} dB {vad:7s} speech kept {speech_kept:.2%}, kept audio without speech {without:.1%} of "
                    f"{sum(map(np.sum, kept.values())) * FRAME_SECONDS / 3600:.2f} h, borders in speech {cut_speech} of {borders}, "
                    f"{speed:.0f} x real time (reading alone {reading:.0f} x)"
                )
    for hours in options.hours:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "recordings"
            folder.mkdir()
            clip = np.concatenate([read(path) for path in speech[:20]])
            with soundfile.SoundFile(folder / "long.flac", "w", RATE, 1) as stream:
                for _ in range(round(hours * 3600 * RATE / len(clip))):
                    stream.write(clip)
            watched = (
                "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
            )
            command = [sys.executable, "-m", "asrkd", "segment", str(folder), f"{name}/out.jsonl"]
            done = subprocess.run([sys.executable, "-c", watched, *command], check=True, capture_output=True, text=True)
            print(f"{hours:g} h in one recording: peak memory {int(done.stdout.split()[-1]) / 1024:.0f} MB")


if __name__ == "__main__":
    main()
