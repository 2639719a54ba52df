"""`asrkd transcribe`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from asrkd import files
from asrkd.acoustic import load_model
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.decoding.search import Search
from asrkd.errors import CorpusError
from asrkd.segmentation.settings import VADS
from asrkd.transcription.formats import FORMATS, only_one
from asrkd.transcription.recordings import recordings
from asrkd.transcription.transcribe import UTTERANCES, Transcriber


@click.command("transcribe", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@click.argument("audio", nargs=-1, required=True, type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default=next(iter(FORMATS)),
    help="A line for each recording; JSON Lines of utterances with words, times, confidences; CTM; SRT, for one recording.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write.  [default: standard output]"
)
@options.MODEL_DEVICE
@options.CHANNEL
@click.option(
    "--vad",
    type=click.Choice(VADS),
    default=UTTERANCES.vad,
    help="What finds the pauses at which utterances end (asrkd segment).",
)
@click.option("--pause", default=UTTERANCES.merge, help="Seconds without speech that end an utterance.")
@click.option(
    "--max-seconds", default=UTTERANCES.max_seconds, help="Longest utterance; longer ones are cut at shorter pauses."
)
@click.option(
    "--n-best", default=options.default_of(Search, "n_best"), help="Texts for each utterance, in jsonl; not greedy."
)
@options.with_search
def transcribe_command(
    model: str,
    audio: tuple[str, ...],
    form: str,
    out: Path | None,
    device: str,
    channel: int | None,
    vad: str,
    pause: float,
    max_seconds: float,
    acoustic_scale: float,
    blank_penalty: float,
    **search_with: Any,
) -> None:
    """Transcribe AUDIO: files, folders, manifests, tables; recordings of any length, without transcripts.

    SPEC names the model: the folder of a finished training run, or any of those below. A recording that cannot be read is named at the end, behind
    the text of the others, and the exit code is 1.
    """
    if out:
        files.check_file(out)
    settings = dataclasses.replace(UTTERANCES, vad=vad, merge=pause, max_seconds=max_seconds)
    acoustic_model = load_model(model, device)
    acoustic_model.check_prior()
    search = options.search_of(acoustic_model, device=device, **search_with)
    transcriber = Transcriber(
        acoustic_model, search, settings, acoustic_scale=acoustic_scale, blank_penalty=blank_penalty
    )
    # A bar and the text would be on one terminal.
    progress, quiet = ProgressBar(), bool(out) or not sys.stdout.isatty()
    low: set[int] = set()
    failed: list[tuple[str, str]] = []

    def lines() -> Iterator[str]:
        cuts = recordings(audio, channel)
        wanted = only_one(cuts) if form == "srt" else cuts
        for cut in progress.each("transcribe", wanted, None, lambda: transcriber.audio_seconds) if quiet else wanted:
            rate = (cut.get("recording") or {}).get("sampling_rate", 0)
            if 0 < rate < acoustic_model.front_end.sampling_rate and rate not in low:
                low.add(rate)
                click.echo(
                    f"{cut['id']!r} has a sampling rate of {rate} Hz, below the {acoustic_model.front_end.sampling_rate} Hz of the model's front end: it "
                    f"is resampled, and nothing is above {rate // 2} Hz, which the model may not have learned",
                    err=True,
                )
            try:
                yield from FORMATS[form](cut["id"], transcriber.utterances(cut))
            except CorpusError as error:
                failed.append((cut["id"], str(error)))

    if out:
        files.write(out, lambda stream: [stream.write(line.encode()) for line in lines()])
    else:
        for line in lines():
            click.echo(line, nl=False)
    progress.close()
    if failed:
        name, reason = failed[0]
        raise CorpusError(
            f"{len(failed)} recordings could not be transcribed, the others were; the first is {name!r}: {reason}"
        )
    seconds = transcriber.audio_seconds
    click.echo(f"{seconds / 3600:.2f} hours, RTFx of the search {seconds / max(search.seconds, 1e-9):.0f}", err=True)
