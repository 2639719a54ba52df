"""Speech that segmentation keeps, its speed, its memory and its restarts, on long recordings with known speech.

    python tools/benchmarks/segmenting.py CORPORA [--part test] [--noise NAME ...] [--seed 0] [--minutes 10] [--recordings 10] [--levels 20 5] [--hours 0.1667 10] [--formats flac] [--kills 5] [KEY=VALUE ...]

CORPORA holds `speechocean762`, `picovoice-coffee` and `noise` (`utts.tsv` with id, path, speaker; the part by `split.tsv` or by the column `part`).
Sentences of the part's speakers are joined to long recordings, every other one at 44.1 kHz, with something between them: pauses of 0.3 to 0.8 s, or 1 to 20 s of silence, of noise, or of
music-like audio (synthesized chords, a melody with harmonics and vibrato, a beat: no recording of music is at hand). Under everything lies a background noise. Background, noise and
music have the level that is given below the speech (20 and 5 dB, power of the speech frames). Noise for the part `test` is not that for `train`, on which the defaults were tuned.

The truth: frames of 10 ms of a sentence within 25 dB of its loudest, bursts under 50 ms left out; what is joined over pauses under 0.3 s is one run. Sentences whose own background is
not 35 dB below their loudest frame are not used, since there is no telling where they are speech. The truth has no padding: what is quieter is not speech, though words fade in it.
Prints, for each detector and level, and for silero-vad's own `get_speech_timestamps` (its default settings, and with its padding as ours):

- the share of speech that is in segments (asked of silero: 99 % at 20 dB, 97 % at 5 dB);
- the share of the kept audio that is not in a run; of that what is further from one than the padding that was asked for, which is kept on purpose (5 % at 20 dB); and what is further than
  0.3 s;
- borders that lie in a run, so that 20 ms to either side are in it, and how many of those lie in speech rather than in a pause under 0.3 s (0);
- audio seconds a CPU second (200), next to reading and resampling alone.

Then the peak memory of `asrkd segment` (with the first of the detectors) on one recording of each of the given hours, and whether a run killed at random times and repeated writes the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import silero_vad
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.segmentation.run import segment_corpus
from asrkd.segmentation.samples import blocks
from asrkd.segmentation.settings import SegmentSettings

RATE = 16000
HOP = 160  # a frame of the truth
PAUSE = 30  # frames
LEVEL = 0.05  # RMS of speech
TEST_NOISE = ("pico_kitchen", "dude_miaowing")
Audio = NDArray[np.float32]
Flags = NDArray[np.bool_]
Times = dict[str, list[tuple[float, float]]]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def sentences(corpora: Path, part: str) -> list[Path]:
    """Audio files of the part's speakers; training is every speaker of neither dev nor test."""
    wanted = ("test",) if part == "test" else ("labelled", "unlabelled")
    natural = corpora / "speechocean762"
    speakers = {row["speaker"] for row in rows(natural / "split.tsv") if row["part"] in wanted}
    found = [natural / row["path"] for row in rows(natural / "utts.tsv") if row["speaker"] in speakers]
    coffee = corpora / "picovoice-coffee"
    return found + [coffee / row["path"] for row in rows(coffee / "utts.tsv") if row["part"] in wanted]


def noises(corpora: Path, part: str, names: list[str]) -> list[Audio]:
    """Those of the names, or of the part."""
    files = sorted((corpora / "noise/audio").glob("*.flac"))
    of_part = {file.stem for file in files if (file.stem in TEST_NOISE) == (part == "test") and "rir" not in file.stem}
    chosen = [file for file in files if file.stem in (names or of_part)]
    if not {*names} <= {file.stem for file in chosen}:
        sys.exit(f"--noise {' '.join(names)}: there are {', '.join(file.stem for file in files)}")
    return [read(file) for file in chosen]


def read(path: Path) -> Audio:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torchaudio.functional.resample(torch.from_numpy(samples.mean(axis=1)), rate, RATE).numpy()


def levels(samples: Audio) -> NDArray[np.float64]:
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    return 10 * np.log10(frames.var(axis=1).astype(np.float64) + 1e-12)


def runs(flags: Flags) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def spoken(level: NDArray[np.float64]) -> Flags:
    """Which frames of a sentence are speech."""
    flags: Flags = level > level.max() - 25
    for begin, end in runs(flags):
        if end - begin < 5:
            flags[begin:end] = False
    return flags


def music(seconds: float, generator: np.random.Generator) -> Audio:
    """Chords of three voices, a melody with vibrato and eight harmonics, and a beat."""
    count = round(seconds * RATE)
    time_ = np.arange(count) / RATE
    out = np.zeros(count)
    beat = generator.uniform(0.3, 0.6)
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)

    def tone(frequency: float, begin: float, length: float, gain: float, vibrato: float) -> None:
        at = slice(round(begin * RATE), min(count, round((begin + length) * RATE)))
        own = time_[at] - begin
        phase = 2 * np.pi * frequency * own + vibrato * np.sin(2 * np.pi * 5.5 * own)
        envelope = np.minimum(own / 0.02, 1) * np.exp(-own / (0.7 * length))
        for harmonic in range(1, 9):
            out[at] += gain / harmonic**1.2 * np.sin(harmonic * phase) * envelope

    for number in range(int(seconds / beat)):
        begin = number * beat
        if number % 4 == 0:
            root = int(generator.integers(5))
            for voice in (0, 2, 4):
                tone(scale[(root + voice) % 8] / 2, begin, 4 * beat, 0.5, 0.0)
        tone(
            scale[generator.integers(8)] * generator.choice([1, 2]), begin, beat * generator.choice([0.5, 1]), 1.0, 0.6
        )
        hit = slice(round(begin * RATE), min(count, round((begin + 0.08) * RATE)))
        out[hit] += generator.standard_normal(hit.stop - hit.start) * np.exp(-np.arange(hit.stop - hit.start) / 300)
    return out.astype(np.float32)


def scaled(samples: Audio, level: float) -> Audio:
    return samples * np.float32(level / max(1e-9, float(np.sqrt(np.square(samples, dtype=np.float64).mean()))))


def excerpt(source: Audio, count: int, generator: np.random.Generator) -> Audio:
    if len(source) <= count:
        source = np.tile(source, -(-(count + 1) // len(source)))
    begin = int(generator.integers(len(source) - count))
    return source[begin : begin + count]


def make(
    folder: Path, speech: list[Path], noise: list[Audio], seconds: float, count: int, below: float, seed: int
) -> dict[str, Flags]:
    """Write recordings; which frames of each are speech."""
    generator = np.random.default_rng(seed)
    truth = {}
    quiet = LEVEL / 10 ** (below / 20)
    for number in range(count):
        parts: list[Audio] = []
        flags: list[Flags] = []
        while sum(map(len, parts)) < seconds * RATE:
            kind = generator.choice(["pause", "silence", "noise", "music"])
            gap = round(generator.uniform(0.31, 0.8) if kind == "pause" else generator.uniform(1, 20), 2)
            filler = np.zeros(round(gap * RATE), np.float32)
            if kind == "noise":
                filler = scaled(excerpt(noise[generator.integers(len(noise))], len(filler), generator), quiet)
            elif kind == "music":
                filler = scaled(music(gap, generator), quiet)
            clip = read(speech[generator.integers(len(speech))])
            clip = clip[: len(clip) // HOP * HOP]
            level = levels(clip)
            if np.percentile(level, 5) > level.max() - 35:
                continue
            said = spoken(level)
            clip = clip * np.float32(LEVEL / np.sqrt(np.square(clip.reshape(-1, HOP)[said]).mean()))
            parts += [filler[: len(filler) // HOP * HOP], clip]
            flags += [np.zeros(len(filler) // HOP, bool), said]
        whole = np.concatenate(parts)
        whole += scaled(excerpt(noise[generator.integers(len(noise))], len(whole), generator), quiet)
        rate = 44100 if number % 2 else RATE
        whole = torchaudio.functional.resample(torch.from_numpy(whole), RATE, rate).numpy()
        soundfile.write(folder / f"{number}.flac", np.clip(whole, -1, 1), rate)
        truth[f"{number}"] = np.concatenate(flags)
    return truth


def cpu_seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def judge(folder: Path, truth: dict[str, Flags], vad: str, settings: dict[str, float], where: Path) -> str:
    out = where / f"{vad}.jsonl"
    out.unlink(missing_ok=True)
    out.with_name(f"{vad}.report.jsonl").unlink(missing_ok=True)
    chosen = SegmentSettings(vad, **settings)  # type: ignore[arg-type]
    spent = cpu_seconds(lambda: segment_corpus(folder, out, chosen))
    found: Times = {key: [] for key in truth}
    for cut in iterate_json(out):
        found[cut["recording"]["id"]].append((cut["start"], cut["start"] + cut["duration"]))
    return compared(found, truth, chosen.pad, spent)


def reference(folder: Path, truth: dict[str, Flags], pad: float) -> str:
    """silero-vad's own function on the same recordings."""
    model = silero_vad.load_silero_vad(onnx=True)
    found: Times = {}

    def work() -> None:
        for key in truth:
            audio = torch.from_numpy(read(folder / f"{key}.flac"))
            parts = silero_vad.get_speech_timestamps(audio, model, speech_pad_ms=round(pad * 1000))
            found[key] = [(part["start"] / RATE, part["end"] / RATE) for part in parts]

    spent = cpu_seconds(work)
    return compared(found, truth, pad, spent)


def compared(found: Times, truth: dict[str, Flags], pad: float, spent: float) -> str:
    """Segments against the truth, in words."""
    kept = {key: np.zeros(len(flags), bool) for key, flags in truth.items()}
    whole = {key: joined(flags) for key, flags in truth.items()}
    borders = cuts = in_speech = 0
    for key, times in found.items():
        for first, last in ((round(begin * 100), round(end * 100)) for begin, end in times):
            kept[key][first:last] = True
            for edge in (first, last):
                borders += 1
                # A word is cut where 20 ms to either side are speech: a border at its very edge cuts nothing.
                around = slice(max(0, edge - 2), edge + 2)
                is_inside = 0 < edge < len(whole[key])
                cuts += bool(is_inside and whole[key][around].all())
                in_speech += bool(is_inside and truth[key][around].all())
    total, all_kept = sum(map(np.sum, truth.values())), sum(map(np.sum, kept.values()))
    share = sum((kept[key] & truth[key]).sum() for key in truth) / total
    without, beyond, far = (
        sum((kept[key] & ~widened(whole[key], frames)).sum() for key in truth) / all_kept
        for frames in (0, round(pad * 100), PAUSE)
    )
    hours = sum(map(len, truth.values())) / 360000
    return (
        f"speech kept {share:.2%}; of kept audio {without:.1%} is without speech, {beyond:.1%} further than the padding of {pad:g} s, {far:.1%} than 0.3 s; "
        f"borders in words {cuts} of {borders} ({in_speech} in speech); {hours * 3600 / spent:.0f} x real time"
    )


def widened(flags: Flags, frames: int) -> Flags:
    return np.convolve(flags, np.ones(2 * frames + 1), "same") > 0


def joined(flags: Flags) -> Flags:
    """Speech with the pauses under 0.3 s in it."""
    at = np.flatnonzero(flags)
    whole = flags.copy()
    for before, after in zip(at[:-1], at[1:], strict=True):
        if after - before <= PAUSE:
            whole[before:after] = True
    return whole


def memory(speech: list[Path], hours: float, suffix: str, vad: str) -> tuple[float, float]:
    """Peak megabytes of the command on one recording: its own, and with the pages of files that it maps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "recordings"
        folder.mkdir()
        clip = np.concatenate([read(path) for path in speech[:100]])
        form, subtype = ("OGG", "OPUS") if suffix == "opus" else (None, None)
        with soundfile.SoundFile(folder / f"long.{suffix}", "w", RATE, 1, subtype, format=form) as stream:
            for _ in range(max(1, round(hours * 3600 * RATE / len(clip)))):
                for begin in range(0, len(clip), RATE):  # libsndfile's encoders fall over minutes in one call
                    stream.write(clip[begin : begin + RATE])
        command = [sys.executable, "-m", "asrkd", "segment", str(folder), f"{name}/out.jsonl", "--vad", vad]
        running = psutil.Popen(command, stdout=subprocess.DEVNULL)
        own = resident = 0
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                used = running.memory_info()
                own, resident = max(own, used.rss - used.shared), max(resident, used.rss)
            time.sleep(0.1)
        if running.returncode:
            sys.exit(f"asrkd segment ended with {running.returncode}")
        return own / 2**20, resident / 2**20


def killed(folder: Path, where: Path, kills: int) -> bool:
    """Whether a run that was killed again and again writes what an undisturbed one does."""
    names = [where / "whole.jsonl", where / "killed.jsonl"]
    commands = [[sys.executable, "-m", "asrkd", "segment", str(folder), str(name)] for name in names]
    subprocess.run(commands[0], check=True, capture_output=True)
    generator = np.random.default_rng(0)
    for number in range(kills):
        process = subprocess.Popen(commands[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        unfinished = where / "killed.jsonl.unfinished"
        before = unfinished.stat().st_size if unfinished.is_file() else 0
        while process.poll() is None and (not unfinished.is_file() or unfinished.stat().st_size <= before):
            time.sleep(0.05)
        time.sleep(float(generator.uniform(0, 0.5)))
        process.kill()
        process.wait()
        if names[1].is_file():
            print(f"finished after {number} kills")
            break
    subprocess.run(commands[1], check=True, capture_output=True)
    return all(
        (where / f"whole{suffix}").read_bytes() == (where / f"killed{suffix}").read_bytes()
        for suffix in (".jsonl", ".report.jsonl")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the segmentation, e.g. pad=0.1")
    parser.add_argument("--part", choices=["test", "train"], default="test")
    parser.add_argument("--noise", nargs="+", default=[], help="of these files of CORPORA/noise alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--recordings", type=int, default=10)
    parser.add_argument("--levels", type=int, nargs="*", default=[20, 5], help="none: memory alone")
    parser.add_argument("--vads", nargs="+", default=["silero", "energy"])
    parser.add_argument("--hours", type=float, nargs="*", default=[1 / 6, 10])
    parser.add_argument("--formats", nargs="*", default=["flac"], help="flac, wav, opus, mp3")
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    settings = {key: float(value) for key, _, value in (one.partition("=") for one in options.settings)}
    torch.set_num_threads(1)
    speech, noise = sentences(options.corpora, options.part), noises(options.corpora, options.part, options.noise)
    for below in options.levels:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "recordings"
            folder.mkdir()
            truth = make(
                folder, speech, noise, options.minutes * 60, options.recordings, below, seed=options.seed + below
            )
            hours = sum(map(len, truth.values())) / 360000

            def reading(folder: Path = folder) -> None:
                for cut in iterate_json(folder):
                    for _ in blocks(to_cut(cut), RATE):
                        pass

            said = sum(map(np.sum, truth.values())) / 360000
            print(
                f"{below} dB: {hours:.2f} h, {said:.2f} h speech; read alone {hours * 3600 / cpu_seconds(reading):.0f} x"
            )
            for vad in options.vads:
                print(f"{below:2d} dB {vad:7s} {judge(folder, truth, vad, settings, Path(name))}", flush=True)
            for pad in (0.03, SegmentSettings().pad) if "silero" in options.vads else ():
                print(f"{below:2d} dB silero's own, {reference(folder, truth, pad)}", flush=True)
            if below == options.levels[-1] and options.kills:
                same = killed(folder, Path(name), options.kills)
                print(f"killed {options.kills} times: {'the same files' if same else 'OTHER FILES'}", flush=True)
    for suffix in options.formats:
        for hours in options.hours:
            own, resident = memory(speech, hours, suffix, options.vads[0])
            print(
                f"{hours:.2f} h of {suffix} in one recording: peak memory {own:.0f} MB, with mapped files {resident:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
