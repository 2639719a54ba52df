"""`asrkd live`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
from torch import Tensor

from asrkd.acoustic import load_model
from asrkd.cli import options
from asrkd.decoding.live import EndpointRules, LiveRecognizer
from asrkd.errors import ConfigError
from asrkd.transcription.formats import only_one
from asrkd.transcription.live import LiveText, of_microphone, of_pcm, of_recording, recognize
from asrkd.transcription.recordings import recordings

MICROPHONE = "microphone"
_FORMATS = ("text", "jsonl")


@click.command("live", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@click.argument("audio", metavar=f"[FILE|-|{MICROPHONE}]", default=MICROPHONE)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default=_FORMATS[0],
    help="A line for each utterance; or a line of JSON whenever the words change, with times, lag and whether the utterance has ended.",
)
@click.option("--chunk", default=0.1, metavar="SECONDS", help="Audio that is taken at a time.")
@click.option("--realtime", is_flag=True, help="Take a file no faster than it was spoken.")
@click.option(
    "--rate",
    metavar="HZ",
    type=click.IntRange(1),
    help="Sampling rate of raw audio on standard input.  [default: the model's]",
)
@click.option(
    "--input",
    "microphone",
    metavar="DEVICE",
    help="Microphone: its number, or a part of its name (python -m sounddevice).",
)
@options.CHANNEL
@click.option(
    "--end-silence",
    default=EndpointRules.silence_after_words,
    metavar="SECONDS",
    help="Silence after a word that ends an utterance.",
)
@click.option("--longest", default=EndpointRules.longest, metavar="SECONDS", help="Longest utterance.")
@options.with_search
def live_command(
    model: str,
    audio: str,
    form: str,
    chunk: float,
    realtime: bool,
    rate: int | None,
    microphone: str | None,
    channel: int | None,
    end_silence: float,
    longest: float,
    acoustic_scale: float,
    blank_penalty: float,
    **search_with: Any,
) -> None:
    """Recognize audio while it comes in: a FILE, raw signed 16-bit samples of one channel on standard input (-), or the microphone.

    SPEC names a model that streams. Words go to standard output when their utterance has ended; on a terminal, the line below shows the words so far,
    the lag behind the speaker and the speed. Ctrl-C ends the microphone.

    \b
      ffmpeg -i talk.mp3 -f s16le -ac 1 -ar 16000 - | asrkd live exp/student -
    """
    if not chunk > 0:
        raise ConfigError(f"--chunk is {chunk:g}, but must be above 0 seconds")
    rules = EndpointRules(silence_after_words=end_silence, longest=longest)
    acoustic_model = load_model(model)
    search = options.search_of(acoustic_model, device="cpu", **search_with)
    recognizer = LiveRecognizer(
        acoustic_model, search.live(), rules, acoustic_scale=acoustic_scale, blank_penalty=blank_penalty
    )
    native = acoustic_model.front_end.sampling_rate
    chunks: Iterator[Tensor]
    if audio == MICROPHONE:
        chunks = _until_interrupted(of_microphone(native, chunk, microphone))
    elif audio == "-":
        # Unbuffered: a chunk is there when its last sample is.
        chunks = of_pcm(os.fdopen(sys.stdin.fileno(), "rb", buffering=0, closefd=False), rate or native, native, chunk)
    else:
        chunks = of_recording(next(only_one(recordings([audio], channel))), native, max(1, round(chunk * native)))
    shown: list[LiveText] = []
    status = sys.stderr.isatty()
    before = ""
    worst = 0.0
    for found in recognize(recognizer, chunks, pace=realtime):
        text = search.text(found.words)
        worst = max(worst, found.lag)
        if form == "jsonl" and (found.ended and text or text != before):
            values = {"text": text, "ended": found.ended, "start": found.start, "end": found.end, "lag": found.lag}
            click.echo(
                json.dumps(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}, ensure_ascii=False
                )
            )
        elif form == "text" and found.ended and text:
            _clear(status)
            click.echo(text)
        if status and form == "text":
            _clear(status)
            click.echo(
                f"{'' if found.ended else text[-100:]}  [lag {found.lag:.2f} s, RTFx {found.rtfx:.0f}]",
                nl=False,
                err=True,
            )
        before = "" if found.ended else text
        shown = [found]
    _clear(status)
    (last,) = shown
    click.echo(f"{last.end:.1f} s of audio, RTFx {last.rtfx:.0f}, lag at most {worst:.2f} s", err=True)


def _clear(status: bool) -> None:
    if status:
        click.echo("\r\x1b[K", nl=False, err=True)


def _until_interrupted(chunks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Ctrl-C ends the stream, whose last words are still recognized."""
    try:
        yield from chunks
    except KeyboardInterrupt:
        return
