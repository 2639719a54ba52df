"""Options that several commands have."""

from __future__ import annotations

import click

from asrkd.labeling import worker
from asrkd.store.identity import AUTOCASTS, EMBEDS
from asrkd.targets.codecs import codec_forms

TEACHER = click.option(
    "--teacher",
    metavar="SPEC",
    help="checkpoint:PATH, int8:PATH, torchscript:PATH, onnx:PATH, transformers:PATH_OR_NAME, torchaudio:BUNDLE, python:package.module:factory or ensemble:FILE. Without one the store holds transcripts only (the labeled set).",
)
CODEC = click.option("--codec", help=f"{codec_forms()}.  [default: topk:20]")
EMBED = click.option(
    "--embed",
    type=click.Choice(EMBEDS),
    default="audio",
    help="What the rows carry besides targets; a student needs audio or features.",
)
AUTOCAST = click.option(
    "--autocast",
    type=click.Choice(AUTOCASTS[1:]),
    help="Type in which torch's autocast lets the teacher compute.  [default: none]",
)
COMPILE = click.option("--compile", is_flag=True, help="Put the teacher through torch.compile.")
WHERE = click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Keep cuts that meet it, e.g. 'duration<=30', 'speaker!=anna', 'id~^2020-', 'custom.language=ar'; may be given again.",
)
UNIT_HOURS = click.option("--unit-hours", default=1.0, help="Hours of audio in a work unit.")
READERS = click.option(
    "--readers",
    default=1,
    help="Processes of each worker that read audio and make features; 0 uses a thread, which cannot be ended when a decoder hangs.",
)
READ_SECONDS = click.option(
    "--read-seconds",
    default=worker.READ_SECONDS,
    help="That reading a batch (minutes of audio) may take before its readers are ended.",
)
DEVICE = click.option(
    "--device", default="cpu", help="Of torch: cpu, cuda:0, or several with commas, which the workers take in turn."
)
WORKERS = click.option("--workers", default=1, help="Processes that run the teacher; on a CPU with one thread each.")
