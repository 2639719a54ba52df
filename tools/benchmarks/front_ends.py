"""How far the front-end presets are from the packages whose features they are, on recordings, and how long each takes.

    python tools/benchmarks/front_ends.py FOLDER [--files 50]

Reads that many audio files of a folder, spread over it, brings each to 16 kHz, and compares `sherpa` with kaldi-native-fbank with
sherpa-onnx's settings, and `whisper` with transformers' WhisperFeatureExtractor: of the whole file, and live, in chunks of 0.1 s.
Prints the largest difference of any bin (both compute in float32, which is inexact for a bin far below the loudest of its frame), and CPU seconds of all files (a recording over 30 s is left out for Whisper).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np
import soundfile
import torch
import torchaudio
from transformers import WhisperFeatureExtractor

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.live_front_end import LiveFrontEnd

RATE = 16000


def sherpa_onnx(samples: torch.Tensor) -> np.ndarray:
    """(num_windows, 80) as `features.h` of sherpa-onnx computes them by default."""
    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = -400
    fbank = knf.OnlineFbank(options)
    fbank.accept_waveform(RATE, samples.numpy())
    fbank.input_finished()
    return np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])


def whisper(samples: torch.Tensor) -> np.ndarray:
    """(num_frames, 80): those of 30 s whose center is within the signal."""
    features = WhisperFeatureExtractor()(samples.numpy(), sampling_rate=RATE)["input_features"][0]
    return features.T[: -(-len(samples) // 160)]


def live(front_end: FrontEnd, samples: torch.Tensor) -> torch.Tensor:
    stream = LiveFrontEnd(front_end)
    return torch.cat([*map(stream.accept, samples.split(RATE // 10)), stream.finish()])


def timed(
    compute: Callable[[torch.Tensor], np.ndarray], recordings: list[torch.Tensor]
) -> tuple[list[np.ndarray], float]:
    compute(recordings[0])
    begun = time.process_time()
    features = [compute(samples) for samples in recordings]
    return features, time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = {".wav", ".flac", ".ogg", ".opus", ".mp3"}
    paths = sorted(path for path in options.folder.rglob("*") if path.suffix.lower() in kinds)
    if not paths:
        parser.error(f"{options.folder} holds no audio files")
    recordings, rates = [], set()
    for path in paths[:: max(1, len(paths) // options.files)][: options.files]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        rates.add(rate)
        recordings.append(torchaudio.functional.resample(torch.from_numpy(samples[:, 0].copy()), rate, RATE))
    hours = sum(map(len, recordings)) / RATE / 3600
    print(f"{len(recordings)} recordings of {', '.join(map(str, sorted(rates)))} Hz, {hours * 60:.1f} minutes")
    for name, reference in (("sherpa", sherpa_onnx), ("whisper", whisper)):
        chosen = [each for each in recordings if name != "whisper" or len(each) <= 30 * RATE]
        front_end = FrontEnd.from_dict({"preset": name, "stack": 1, "stride": 1})
        expected, reference_seconds = timed(reference, chosen)
        whole, seconds = timed(lambda samples, front_end=front_end: front_end(samples).numpy(), chosen)
        chunks, live_seconds = timed(lambda samples, front_end=front_end: live(front_end, samples).numpy(), chosen)
        for what, features, spent in (("whole", whole, seconds), ("live", chunks, live_seconds)):
            apart = np.abs(np.concatenate(features) - np.concatenate(expected))
            print(
                f"{name:8s} {what:6s} {len(chosen)} recordings, largest difference {apart.max():.1e}, {(apart > 1e-3).sum()} of {apart.size} over 1e-3; "
                f"{spent:.2f} s, reference {reference_seconds:.2f} s: {reference_seconds / spent:.1f} times as fast"
            )


if __name__ == "__main__":
    main()
