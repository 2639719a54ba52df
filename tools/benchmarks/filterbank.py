"""The filterbank and others: hours of audio an hour of one core, in turns, with the largest difference from Kaldi's.

    python tools/benchmarks/filterbank.py

Peers: lhotse's layer (what asrkd used before), lhotse's extractor, torchaudio, and kaldi-native-fbank where it is installed.
Kaldi's values are those of kaldi-native-fbank, or of torchaudio without it.

    python tools/benchmarks/filterbank.py --batch 32 --device cuda

Only features (filterbank, mean, stacking) of N utterances at once, as `loader.features_on_device` computes them, against one at a time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from statistics import median

import click
import numpy as np
import torch
import torchaudio
from lhotse import Fbank, FbankConfig
from lhotse.features.kaldi.layers import Wav2LogFilterBank

from asrkd.corpus.front_end import FrontEnd, log_mel

RATE = 16000


def native(samples: torch.Tensor) -> np.ndarray:
    """kaldi-native-fbank."""
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither, options.frame_opts.snip_edges = 0.0, True
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = 64, 20.0, 0.0
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(RATE, samples.numpy() * 32768.0)
    computer.input_finished()
    return np.stack([computer.get_frame(n) for n in range(computer.num_frames_ready)])


def peers() -> dict[str, Callable[[torch.Tensor], object]]:
    """What computes the same: 64 mel bins of 20 to 8,000 Hz every 10 ms."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = Wav2LogFilterBank(num_filters=64, low_freq=20.0, high_freq=0.0, snip_edges=True)
        extractor = Fbank(FbankConfig(num_filters=64, low_freq=20.0, high_freq=0.0, snip_edges=True))
    front_end = FrontEnd()
    made: dict[str, Callable[[torch.Tensor], object]] = {
        "asrkd": lambda samples: log_mel(front_end, samples),
        "lhotse's layer (asrkd before)": lambda samples: layer(samples[None] * 32768.0)[0],
        "lhotse's extractor": lambda samples: extractor.extract(samples, RATE),
        "torchaudio": lambda samples: torchaudio.compliance.kaldi.fbank(
            samples[None] * 32768.0, num_mel_bins=64, low_freq=20.0, high_freq=0.0, dither=0.0, snip_edges=True
        ),
    }
    try:
        import kaldi_native_fbank  # noqa: F401
    except ImportError:
        click.echo("kaldi-native-fbank is not installed, so it is left out")
    else:
        made["kaldi-native-fbank"] = native
    return made


def batched(length: float, count: int, device: str, repeats: int) -> None:
    """Print how fast features of a batch are computed, at once and one at a time, in turns."""
    front_end, generator = FrontEnd(), torch.Generator().manual_seed(0)
    # Lengths within 10 %, as in a batch of the loader.
    lengths = [int(length * RATE * share) for share in np.linspace(0.9, 1.0, count)]
    utterances = [(0.1 * torch.randn(samples, generator=generator)).to(device) for samples in lengths]
    ways: dict[str, Callable[[], list[torch.Tensor]]] = {
        "at once": lambda: front_end.batch(utterances),
        "one at a time": lambda: [front_end(samples) for samples in utterances],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    found = {name: compute() for name, compute in ways.items()}
    for _ in range(repeats):
        for name, compute in ways.items():
            began = time.perf_counter()
            compute()
            if device != "cpu":
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    ratio = median(alone / joined for joined, alone in zip(*taken.values(), strict=True))
    apart = max(float((a - b).abs().max()) for a, b in zip(*found.values(), strict=True))
    seconds = sum(lengths) / RATE
    speeds = ", ".join(f"{name} {seconds / median(times):.0f}" for name, times in taken.items())
    click.echo(
        f"{count} x {length:g} s on {device}: {speeds} x real time, {ratio:.2f} times as fast at once; {apart:.1e} apart"
    )


@click.command(context_settings={"show_default": True})
@click.option("--seconds", multiple=True, default=(2.0, 8.0, 30.0), help="Length of an utterance.")
@click.option("--repeats", default=15)
@click.option("--batch", default=0, help="Utterances of a batch; 0 compares with peers.")
@click.option("--device", default="cpu", help="Device of the batch.")
def main(seconds: tuple[float, ...], repeats: int, batch: int, device: str) -> None:
    """Print speeds over the real time, and ratios."""
    torch.set_num_threads(1)
    if batch:
        for length in seconds:
            batched(length, batch, device, repeats)
        return
    computers = peers()
    for length in seconds:
        samples = 0.1 * torch.randn(int(length * RATE), generator=torch.Generator().manual_seed(0))
        kaldis = np.asarray(computers.get("kaldi-native-fbank", computers["torchaudio"])(samples))
        rounds = max(1, round(30 / length))
        taken: dict[str, list[float]] = {name: [] for name in computers}
        with torch.no_grad():
            for _ in range(repeats):
                for name, compute in computers.items():
                    began = time.perf_counter()
                    for _ in range(rounds):
                        compute(samples)
                    taken[name].append((time.perf_counter() - began) / rounds)
        click.echo(f"{length:g} s")
        for name, compute in computers.items():
            ratio = median(a / b for a, b in zip(taken[name], taken["asrkd"], strict=True))
            with torch.no_grad():
                found = np.asarray(compute(samples))
            close = f"{np.abs(found - kaldis).max():.1e}" if name != "lhotse's extractor" else "(samples in -1..1)"
            click.echo(
                f"  {name:30} {length / median(taken[name]):7.0f} x real time; asrkd is {ratio:5.2f} times as fast; from Kaldi's {close}"
            )


if __name__ == "__main__":
    main()
