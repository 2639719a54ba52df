"""Small real things for tests: a corpus of synthetic words, and a subprocess that is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from lhotse import MonoCut, Recording, SupervisionSegment

from asrkd import checkpoint
from asrkd.corpus.audio import Unreadable, write_audio
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.join import write_cuts
from asrkd.corpus.utterances import file_recording
from asrkd.models import BLSTMTeacher

torch.set_num_threads(1)

WORDS = {"low": (400.0,), "high": (2500.0,), "up": (400.0, 2500.0)}
RATE = 16000


def whole_recording(file: Path, name: str) -> Recording | Unreadable:
    """lhotse's recording of an audio file."""
    found = file_recording(file, name)
    return found if isinstance(found, Unreadable) else Recording.from_dict(found)


def tone_word(word: str, rng: np.random.Generator) -> np.ndarray:
    """A word is a tone for each of its phones, with silence after it."""
    parts = []
    for frequency in WORDS[word]:
        t = np.arange(int(rng.uniform(0.15, 0.25) * RATE)) / RATE
        parts.append(0.3 * np.sin(2 * np.pi * frequency * t))
    parts.append(np.zeros(int(0.12 * RATE)))
    return np.concatenate(parts)


def make_cuts(folder: Path, name: str, count: int, *, seed: int = 0, text: bool = True) -> Path:
    """`count` utterances of 2 to 3 tone words, as FLAC files and a cuts manifest."""
    rng = np.random.default_rng(seed)
    cuts = []
    for number in range(count):
        words = [str(word) for word in rng.choice(list(WORDS), size=int(rng.integers(2, 4)))]
        samples = np.concatenate([np.zeros(1600), *(tone_word(word, rng) for word in words)])
        samples = samples + rng.normal(0, 0.003, len(samples))
        file = folder / "audio" / name / f"{name}-{number}.flac"
        write_audio(file, samples.astype(np.float32), RATE)
        recording = Recording.from_file(file, recording_id=file.stem)
        supervision = SupervisionSegment(
            id=file.stem,
            recording_id=file.stem,
            start=0.0,
            duration=recording.duration,
            text=" ".join(words) if text else None,
            speaker=f"speaker-{number % 3}",
        )
        cuts.append(
            MonoCut(
                id=file.stem,
                start=0.0,
                duration=recording.duration,
                channel=0,
                recording=recording,
                supervisions=[supervision],
            )
        )
    return write_cuts(cuts, folder / f"{name}.jsonl.gz")


@dataclass(frozen=True)
class Deadly(FrontEnd):
    """Kills the process that receives a certain number of samples, as a broken decoder would."""

    samples: int = 0

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        if len(samples) == self.samples:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().__call__(samples)


def make_environment(folder: Path) -> Path:
    """What a script takes for a virtual environment with the package under test: `bin/activate` and `bin/asrkd`."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'export PATH="{programs}:$PATH"\n')
    (programs / "asrkd").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from asrkd.__main__ import main; main()" "$@"\n'
    )
    (programs / "asrkd").chmod(0o755)
    return folder


def make_teacher(path: Path, *, seed: int = 0) -> str:
    """A small BLSTM with random weights, as a checkpoint."""
    torch.manual_seed(seed)
    units = ["<blk>", *(f"u{n}" for n in range(39))]
    model = BLSTMTeacher(192, len(units), hidden_dim=16, num_layers=1)
    content = {
        "model": model.state_dict(),
        "model_factory": "asrkd.models:BLSTMTeacher",
        "model_args": {"hidden_dim": 16, "num_layers": 1},
        "front_end": FrontEnd().to_dict(),
        "inventory": {"units": units, "topology": "ctc", "states_per_phone": 1},
        "subsampling_factor": 1,
    }
    checkpoint.save(path, content)
    return f"checkpoint:{path}"


def kill_at_random(command: list[str], *, kills: int, seed: int, watch: Callable[[], object]) -> int:
    """Start a command, kill it with SIGKILL at a random time within its work, again and again; then let it finish.

    Its work has begun once `watch()` is no longer what it was at the start; the kill follows up to 50 ms later. (A time
    measured in another run would miss a process that the machine runs faster or slower this time.)

    Returns how often a process was really killed before its end.
    """
    rng = random.Random(seed)
    killed = 0
    for _ in range(kills):
        before = watch()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and watch() == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.05))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    last = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert last.returncode == 0, last.stdout + last.stderr
    return killed


def command_paths(group: click.Group, path: str = "") -> Iterator[str]:
    """The commands below a group, each by the words that call it."""
    for name, command in group.commands.items():
        command = getattr(command, "loaded", command)
        if isinstance(command, click.Group):
            yield from command_paths(command, f"{path}{name} ")
        else:
            yield f"{path}{name}"
