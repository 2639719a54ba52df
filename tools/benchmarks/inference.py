"""Seconds of computation for a second of audio: students and their teacher, in turns, one utterance at a time on one CPU thread.

python tools/benchmarks/inference.py TEACHER STUDENT... --seconds 10
python tools/benchmarks/inference.py ensemble:WORK/ensemble.yaml checkpoint:WORK/runs/distilled int8:WORK/runs/int8

TEACHER and STUDENT are specs as for `asrkd label plan --teacher`. The features are made before the clock starts: they are the same for both.
"""

from __future__ import annotations

import statistics
import time

import click
import torch

from asrkd.acoustic import AcousticModel, load_model
from asrkd.cli import run_command
from asrkd.report.tables import text_table


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.argument("teacher")
@click.argument("students", metavar="STUDENT...", nargs=-1, required=True)
@click.option("--seconds", default=10.0, help="Length of the utterance.")
@click.option("--turns", default=20, help="How often each model has its turn; the median counts.")
def main(teacher: str, students: tuple[str, ...], seconds: float, turns: int) -> None:
    """Real-time factors and their ratio to the teacher's."""
    torch.set_num_threads(1)
    models = {spec: load_model(spec) for spec in (teacher, *students)}
    inputs = {spec: features_of(model, seconds) for spec, model in models.items()}
    times: dict[str, list[float]] = {spec: [] for spec in models}
    for turn in range(turns + 1):
        for spec, model in models.items():
            began = time.perf_counter()
            model.log_probs(inputs[spec], torch.tensor([inputs[spec].shape[1]]))
            # The first turn finds memory and kernels.
            if turn:
                times[spec].append(time.perf_counter() - began)
    factors = {spec: statistics.median(own) / seconds for spec, own in times.items()}
    rows = [
        [spec, f"{factor:.5f}", f"{1 / factor:,.0f}", f"{factors[teacher] / factor:.1f}"]
        for spec, factor in factors.items()
    ]
    click.echo(text_table(["model", "RTF", "RTFx", "times as fast as the teacher"], rows))


def features_of(model: AcousticModel, seconds: float) -> torch.Tensor:
    """(1, T, F) features of noise."""
    rate = model.front_end.sampling_rate
    return model.front_end(0.1 * torch.randn(int(seconds * rate), generator=torch.Generator().manual_seed(0)))[None]


if __name__ == "__main__":
    run_command(main)
