"""`asrkd segment`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from click.core import ParameterSource

from asrkd.cli.options import CHANNEL
from asrkd.cli.progress import ProgressBar
from asrkd.segmentation.run import report_file, segment_corpus
from asrkd.segmentation.settings import VADS, SegmentSettings, WindowSettings

_DEFAULTS = SegmentSettings()
_OF_SPEECH = [field.name for field in dataclasses.fields(SegmentSettings)]


def _windows(given: str) -> WindowSettings:
    length, _, overlap = given.partition(":")
    try:
        return WindowSettings(float(length), float(overlap))
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is not LENGTH:OVERLAP in seconds, such as 30:4", param_hint="--windows"
        ) from None


@click.command("segment")
@click.argument("cuts", type=click.Path())
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--vad",
    type=click.Choice(VADS),
    default=_DEFAULTS.vad,
    help="Voice activity by Silero VAD (pip install 'asrkd[segment]') or by energy (noise and music count as speech); or keep all audio, cut where it is quietest.",
)
@click.option(
    "--threshold",
    type=float,
    help="Score from which on a frame counts as speech, from 0 to 1.  [default: 0.6 with silero, 0.3 (6 dB) with energy]",
)
@click.option("--min-speech", default=_DEFAULTS.min_speech, help="Seconds; shorter bursts are not speech.")
@click.option("--merge", default=_DEFAULTS.merge, help="Seconds; speech no further apart becomes one segment.")
@click.option("--pad", default=_DEFAULTS.pad, help="Seconds of audio kept before and after speech.")
@click.option("--min-seconds", default=_DEFAULTS.min_seconds, help="Shortest segment; shorter ones are widened.")
@click.option("--max-seconds", default=_DEFAULTS.max_seconds, help="Longest segment; longer ones are split at pauses.")
@click.option(
    "--windows",
    metavar="LENGTH:OVERLAP",
    help="Instead, windows of LENGTH seconds over all audio, which share OVERLAP; shared frames are labeled once.",
)
@CHANNEL
@click.option("--workers", type=click.IntRange(1), default=1, help="Processes, each with one thread.")
@click.pass_context
def segment_command(
    context: click.Context,
    cuts: str,
    out: Path,
    vad: str,
    threshold: float | None,
    min_speech: float,
    merge: float,
    pad: float,
    min_seconds: float,
    max_seconds: float,
    windows: str | None,
    channel: int | None,
    workers: int,
) -> None:
    """Split long recordings into segments with speech, as a manifest OUT (.jsonl or .jsonl.gz) of cuts.

    CUTS is a corpus of any form, as for `asrkd label plan`,
    which reads OUT. Audio of any rate is resampled for the detector alone. The report next to OUT has a line for each cut:
    the share that was kept, or why it could not be read. Run the same command again to resume after a crash.
    """
    settings: SegmentSettings | WindowSettings
    if windows is None:
        settings = SegmentSettings(vad, threshold, min_speech, merge, pad, min_seconds, max_seconds)
    else:
        for name in _OF_SPEECH:
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for segments with speech, and --windows takes all audio"
                )
        settings = _windows(windows)
    with ProgressBar() as progress:
        tally = segment_corpus(
            cuts,
            out,
            settings,
            workers=workers,
            channel=channel,
            progress=lambda done, seconds: progress.show("segment", done, None, seconds=seconds),
        )
    share = tally.kept_seconds / tally.seconds if tally.seconds else 0.0
    click.echo(
        f"{tally.segments:,} segments, {tally.kept_seconds / 3600:.2f} of {tally.seconds / 3600:.2f} hours ({share:.1%}), of {tally.cuts:,} cuts: {out}"
    )
    if tally.unreadable:
        click.echo(f"{tally.unreadable:,} cuts could not be segmented; {report_file(out)} says why", err=True)
