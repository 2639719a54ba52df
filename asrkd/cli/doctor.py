"""`asrkd doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import asrkd
from asrkd.errors import DependencyError
from asrkd.extras import EXTRAS, import_optional
from asrkd.report.tables import text_table

_NEEDED = ("torch", "torchaudio", "lhotse", "numpy", "pyarrow", "soundfile", "kaldi-decoder", "kaldifst", "kaldilm")


@click.command("doctor")
def doctor_command() -> None:
    """Say what is installed here: versions, devices, and each optional part with what it is for.

    The exit code is 1 if something is installed that cannot be imported.
    """
    import soundfile
    import torch

    click.echo(f"asrkd {asrkd.__version__} in {Path(asrkd.__file__).parent}")
    click.echo(f"Python {platform.python_version()} in {sys.prefix}, {platform.platform()}")
    click.echo(", ".join(f"{name} {_version(name)}" for name in _NEEDED))
    click.echo(
        f"libsndfile {soundfile.__libsndfile_version__}, which reads {', '.join(sorted(soundfile.available_formats()))}"
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    click.echo(f"{usable} CPUs of {os.cpu_count()}, torch uses {torch.get_num_threads()} threads")
    click.echo("; ".join(_devices()))
    rows, broken = [], []
    for name, extra in EXTRAS.items():
        states = []
        for package, module in extra.packages.items():
            version = _version(package)
            if version:
                try:
                    import_optional(module)
                except DependencyError as error:
                    broken.append(str(error))
                    version = f"{version}, broken"
            states.append(f"{package} {version or 'missing'}")
        rows.append([name, extra.purpose, ", ".join(states)])
    click.echo(text_table(["extra", "for", "packages"], rows))
    click.echo("An extra is installed by pip install 'asrkd[NAME]'.")
    if broken:
        raise DependencyError("; ".join(broken))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _devices() -> Iterator[str]:
    import torch

    from asrkd.distributed.precision import slowdown

    if not torch.cuda.is_available():
        yield f"no GPU (torch is built for {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPUs alone'})"
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory
        yield f"cuda:{number} {torch.cuda.get_device_name(number)}, {memory / 2**30:.0f} GiB"
    yield f"matrices in bf16 on the CPU take {slowdown('bf16', torch.device('cpu')):.2g} times as long as in float32"
