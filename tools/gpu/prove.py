"""What a GPU does with asrkd, in at most 8 minutes: its tests, and its speeds against references of the same run, as a table in Markdown.

    sh tools/gpu/prove.sh                          # writes docs/gpu.md; with two GPUs or more, GTC and BMUF run on NCCL, too
    sh tools/gpu/prove.sh --device cpu --quick     # tries this script itself, on small sizes

Each section is a process of its own with a bound of time, so one that fails or hangs is a row of the table, and the others are still measured.
The exit code is 1 if one did.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = "tools/benchmarks"
# Seconds for each command of a quick run, which tries the script on whatever machine.
_TRIED = 240
PAGE = ROOT / "docs/gpu.md"


@dataclass(frozen=True)
class Row:
    """One line of the table: what, what was measured, and by which command; whether it is as it should be."""

    what: str
    measured: str
    command: str
    fine: bool = True


@dataclass(frozen=True)
class Section:
    """What is proved, and the seconds that it may take."""

    name: str
    seconds: int
    rows: Callable[[str, bool], list[Row]]


def ran(command: list[str], seconds: int) -> tuple[list[str], bool]:
    """The last lines that a command says, and whether it ended well within its time."""
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return [f"not done within {seconds} s"], False
    said = [line.strip() for line in (done.stdout if done.returncode == 0 else done.stdout + done.stderr).splitlines()]
    return [line for line in said if line] or [f"exit code {done.returncode}"], done.returncode == 0


def of_command(what: str, command: list[str], seconds: int, keep: Callable[[str], bool]) -> list[Row]:
    """A row for each line of a benchmark that `keep` wants, or for its failure."""
    lines, fine = ran(command, seconds)
    shown = f"`python {' '.join(command)}`"
    wanted = [line for line in lines if keep(line)] if fine else lines[-1:]
    return [Row(what, " ".join(line.split()), shown, fine) for line in wanted] or [
        Row(what, "said nothing to keep", shown, False)
    ]


def tests(device: str, quick: bool) -> list[Row]:
    """Every test marked `gpu` but those of `two`; in a quick run some that try themselves on the CPU."""
    files = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()
    )
    selected = ["-k", "unpacking_on_a_device"] if quick else ["-m", "gpu", "-k", "not two_processes"]
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *selected, *files]
    lines, fine = ran(command, _TRIED if quick else 105)
    return [
        Row(
            "tests marked `gpu`",
            lines[-1].strip("= "),
            f"`python {' '.join(command[:2])} -q {' '.join(selected)}`",
            fine,
        )
    ]


def labeling(device: str, quick: bool) -> list[Row]:
    """`asrkd label run` against the bare forward pass, for the study's teacher and wav2vec2_base."""
    readers = str(max(1, min(12, (os.cpu_count() or 2) - 1)))
    rows = []
    for kind, name, minutes in (("study", "BLSTM 5 x 768, 3,183 senones", "90"), ("wav2vec2", "wav2vec2_base", "30")):
        size = ["--teacher", kind, "--minutes", minutes, "--readers", readers]
        if quick:
            size = ["--teacher", "blstm", "--width", "16", "--layers", "1", "--minutes", "0.5", "--seconds", "1", "2"]
        command = [
            f"{BENCHMARKS}/labeling.py",
            "--device",
            device,
            *size,
            "--codec",
            "hybrid:0:12",
            "--no-peers",
            "--repeats",
            "1",
        ]
        # Lines: way, real-time factor, share of the bare loop, megabytes.
        rows += of_command(
            f"labeling, {'tiny BLSTM' if quick else name}: x real time, of the bare forward pass, MB",
            command,
            _TRIED if quick else 53,
            lambda line: line.startswith(("asrkd,", "bare")),
        )
        if quick:
            break
    return rows


def codecs(device: str, quick: bool) -> list[Row]:
    """Choosing classes on the device, packing on the host, unpacking on the device, in thousand frames a second."""
    import torch

    from asrkd.targets.codecs import parse_codec
    from asrkd.targets.packed import PackedTargets
    from asrkd.targets.random import frame_keys

    frames, classes = (256, 100) if quick else (8192, 3183)
    log_probs = (4 * torch.randn(frames, classes, device=device)).log_softmax(1)
    keys = frame_keys("u", "t", frames, torch.device(device))
    reference = speed(lambda: log_probs.topk(20), frames, device)
    rows = []
    for spec in ("topk:20", "hybrid:0:12"):
        codec = parse_codec(spec)
        layout = codec.layout(classes)
        chosen = codec.encode(log_probs, keys).cpu()
        packed = PackedTargets.join(layout, [layout.pack(chosen)], [frames]).map(lambda tensor: tensor.to(device))
        speeds = {
            "chosen on the device": speed(lambda codec=codec: codec.encode(log_probs, keys), frames, device),
            "packed on the host": speed(lambda layout=layout, chosen=chosen: layout.pack(chosen), frames, "cpu"),
            "unpacked on the device": speed(packed.unpack, frames, device),
            "torch.topk(20)": reference,
        }
        rows.append(
            Row(
                f"`{spec}`, {classes} classes, thousand frames a second",
                ", ".join(f"{name} {value / 1000:.0f}" for name, value in speeds.items()),
                "`tools/gpu/prove.py --section codecs`",
            )
        )
    return rows


def speed(work: Callable[[], object], amount: float, device: str) -> float:
    """How much of an amount is done in a second: the median of several turns after one that does not count."""
    taken = []
    for _ in range(6):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return amount / sorted(taken[1:])[2]


def synchronize(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def filterbank(device: str, quick: bool) -> list[Row]:
    """Features of a batch at once against one utterance at a time."""
    size = ["--batch", "4", "--seconds", "1", "--repeats", "2"] if quick else ["--batch", "32", "--seconds", "8"]
    command = [f"{BENCHMARKS}/filterbank.py", "--device", device, *size]
    return of_command("features of a batch", command, _TRIED if quick else 18, lambda line: " x " in line)


def waiting(device: str, quick: bool) -> list[Row]:
    """The share of a training's time in which the device waits for the loader: the study's student, audio embedded as FLAC."""
    import tempfile

    from waiting import share_of_waiting

    workers = max(1, min(12, (os.cpu_count() or 2) - 2))
    rows = []
    with tempfile.TemporaryDirectory(prefix="asrkd-gpu-") as folder:
        for on_device in (False, True):
            share, frames = share_of_waiting(Path(folder), device, workers, on_device, quick)
            rows.append(
                Row(
                    f"training the study's LSTM from FLAC, {workers} loader workers, targets and features "
                    f"{'on the device' if on_device else 'by the workers'}",
                    f"the device waits {share:.1%} of the time; {frames:,.0f} frames a second",
                    "`tools/gpu/prove.py --section waiting`",
                )
            )
    return rows


def precision(device: str, quick: bool) -> list[Row]:
    """Updates of students in float32 and bfloat16."""
    return _updates(device, quick, is_compiled=False)


def compiled(device: str, quick: bool) -> list[Row]:
    """The same through torch.compile, which may take long, or fail."""
    return _updates(device, quick, is_compiled=True)


def _updates(device: str, quick: bool, *, is_compiled: bool) -> list[Row]:
    from waiting import update_speeds

    what, name = ("through torch.compile, ", "compiled") if is_compiled else ("", "precision")
    return [
        Row(f"updates of {student}, {what}frames a second", measured, f"`tools/gpu/prove.py --section {name}`", fine)
        for student, measured, fine in update_speeds(device, quick, is_compiled)
    ]


def training(device: str, quick: bool) -> list[Row]:
    """`asrkd train` against a bare loop with the same batches."""
    models = ["--model", "tdnn"] if quick else ["--model", "tdnn", "--model", "lstm"]
    command = [f"{BENCHMARKS}/training.py", "--device", device, "--updates", "2" if quick else "30", *models]
    names = ("tdnn", "lstm")
    return of_command(
        "`asrkd train`: model, microseconds a frame, of it reading, bare loop, their ratio, without reading",
        command,
        _TRIED if quick else 28,
        lambda line: line.startswith(names),
    )


def two(device: str, quick: bool) -> list[Row]:
    """GTC and BMUF on NCCL."""
    import torch

    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/gpu/test_devices.py",
        "-k",
        "two_processes and cuda",
    ]
    what, shown = (
        "GTC, BMUF and DDP on NCCL, two processes",
        f"`python {' '.join(command[:2])} -q {command[5]} -k '{command[7]}'`",
    )
    if torch.cuda.device_count() < 2:
        return [Row(what, f"not run: {torch.cuda.device_count()} GPU here", shown)]
    lines, fine = ran(command, 38)
    return [Row(what, lines[-1].strip("= "), shown, fine)]


SECTIONS = [
    Section("tests", 110, tests),
    Section("labeling", 110, labeling),
    Section("codecs", 25, codecs),
    Section("filterbank", 20, filterbank),
    Section("waiting", 50, waiting),
    Section("precision", 30, precision),
    Section("compiled", 65, compiled),
    Section("training", 30, training),
    Section("two", 40, two),
]


def measure(section: Section, device: str, quick: bool) -> list[Row]:
    """The rows of a section, from a process of its own."""
    click.echo(f"{section.name} ...", err=True)
    command = [str(Path(__file__)), "--section", section.name, "--device", device, *(["--quick"] if quick else [])]
    lines, fine = ran(command, _TRIED if quick else section.seconds)
    if fine:
        return [Row(**row) for row in json.loads(lines[-1])]
    return [Row(section.name, f"failed: {lines[-1][:300]}", f"`tools/gpu/prove.py --section {section.name}`", False)]


def card(device: str) -> str:
    """The name of the device, and what drives it."""
    import torch

    versions = f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores"
    if not device.startswith("cuda"):
        return f"CPU ({platform.machine()}), no GPU; {versions}"
    facts = torch.cuda.get_device_properties(device)
    count = torch.cuda.device_count()
    return f"{facts.name}, {facts.total_memory / 1e9:.0f} GB ({count} here), CUDA {torch.version.cuda}; {versions}"


def table(title: str, rows: list[Row]) -> str:
    """The page."""
    lines = [
        f"# {title}",
        "",
        "Written by `sh tools/gpu/prove.sh`.",
        "",
        "| what | measured | by |",
        "| --- | --- | --- |",
    ]
    for row in rows:
        cells = (row.what, ("" if row.fine else "**FAILED** ") + row.measured, row.command)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


@click.command(context_settings={"show_default": True})
@click.option("--device", default="cuda:0", help="Device of torch.")
@click.option("--quick", is_flag=True, help="Small sizes, to try the script.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The page.  [default: docs/gpu.md on a GPU, else standard output]"
)
@click.option(
    "--section",
    "name",
    type=click.Choice([section.name for section in SECTIONS]),
    help="Print the rows of one as JSON.",
)
def main(device: str, quick: bool, out: Path | None, name: str | None) -> None:
    """Measure, and write the table."""
    sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.ClickException(
            f"device {device!r} cannot be used: torch sees no GPU here; --device cpu --quick tries the script"
        )
    if name:
        (section,) = (section for section in SECTIONS if section.name == name)
        click.echo(json.dumps([asdict(row) for row in section.rows(device, quick)]))
        return
    began = time.monotonic()
    rows = [row for section in SECTIONS for row in measure(section, device, quick)]
    page = table(
        card(device), [*rows, Row("all of it", f"{time.monotonic() - began:.0f} s", "`sh tools/gpu/prove.sh`")]
    )
    out = out or (PAGE if device.startswith("cuda") else None)
    if out:
        out.write_text(page, encoding="utf-8")
    click.echo(page)
    if not all(row.fine for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
