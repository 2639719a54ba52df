"""A streaming student on live audio: latency and speed, next to decoding whole utterances.

    python tools/benchmarks/live_decoding.py RUN CUTS --lexicon FILE

Each utterance comes in chunks, followed by silence (its own quietest 0.2 s, repeated); model, front end and search run on one thread. Times are of the audio's clock: a chunk is
there at its last sample, and what it gives is there after the seconds that it took to compute. Next to it, in the same run, whole utterances
through the same model and graph: the words must be the same.

- first words: from the first frame that is not silence (of the whole utterance's best path) to the first words shown.
- end: from the last such frame to the utterance's final words, the endpoint rule's silence included; and what of that was computing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
import numpy as np
import torch

from asrkd.acoustic import load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.live import EndpointRules, LiveDecoder, LiveRecognizer
from asrkd.errors import ConfigError
from asrkd.graphs import word_loop_graph
from asrkd.report.tables import text_table


def live(recognizer: LiveRecognizer, samples: torch.Tensor, chunk: int, rate: int) -> tuple[float, float, float]:
    """Time of the first words, time of the final words, seconds of the last computation (audio's clock)."""
    free = 0.0
    first = final = last = np.nan
    position = 0
    for part in samples.split(chunk):
        position += len(part)
        began = time.perf_counter()
        heard = recognizer.accept(part)
        took = time.perf_counter() - began
        # A chunk waits until the one before is done.
        free = max(position / rate, free) + took
        if heard.words and np.isnan(first):
            first = free
        if heard.ended and heard.words:
            final, last = free, took
            break
    recognizer.finish()
    return first, final, last


def background(samples: torch.Tensor, count: int, rate: int) -> torch.Tensor:
    """The quietest 0.2 s, forward and backward in turn: zeros, or noise of another kind, is nothing that its microphone would give."""
    windows = samples.unfold(0, rate // 5, rate // 20)
    quietest = windows[windows.std(dim=1).argmin()]
    both = torch.cat([quietest, quietest.flip(0)])
    return both.repeat(count // len(both) + 1)[:count]


def whole(recognizer: LiveRecognizer, samples: torch.Tensor, scale: float, beam: float):
    """Seconds, and the best path."""
    began = time.perf_counter()
    features = recognizer.model.front_end(samples)[None]
    scores, _ = recognizer.model.scores(features, torch.tensor([features.shape[1]]), acoustic_scale=scale)
    graph = recognizer.search.graph
    found = graph_decode(scores[0].numpy(), graph, beam=beam)
    return time.perf_counter() - began, found


def spread(values: Sequence[float]) -> str:
    found = np.array(values)
    return f"{np.nanmedian(found):.3f} s, 95 % below {np.nanquantile(found, 0.95):.3f} s"


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("cuts")
@click.option("--lexicon", required=True, type=click.Path(dir_okay=False))
@click.option("--chunk-ms", default=100)
@click.option("--silence", default=1.5, help="Seconds after each utterance.")
@click.option("--acoustic-scale", default=1.0)
@click.option("--beam", default=24.0)
@click.option("--utterances", default=200)
def main(
    run: str,
    cuts: str,
    lexicon: str,
    chunk_ms: int,
    silence: float,
    acoustic_scale: float,
    beam: float,
    utterances: int,
) -> None:
    torch.set_num_threads(1)
    model = load_model(f"checkpoint:{run}")
    if not isinstance(model.front_end, FrontEnd):
        raise ConfigError("the model reads whole utterances")
    rate = model.front_end.sampling_rate
    graph = word_loop_graph(Lexicon.read(lexicon), model.inventory)
    endpoints, never = (
        LiveRecognizer(model, LiveDecoder(graph, beam=beam), rules, acoustic_scale=acoustic_scale)
        for rules in (EndpointRules(), EndpointRules(1e9, 1e9, 1e9))
    )
    firsts, finals, lasts, live_seconds, whole_seconds, audio_seconds, same, count = [], [], [], 0.0, 0.0, 0.0, 0, 0
    for cut in iterate(open_cuts(cuts), what=cuts):
        if count == utterances:
            break
        samples = torch.from_numpy(read_audio(cut, rate))
        took, found = whole(never, samples, acoustic_scale, beam)
        whole_seconds += took
        began = time.perf_counter()
        for part in samples.split(rate * chunk_ms // 1000):
            never.accept(part)
        heard = never.finish()
        live_seconds += time.perf_counter() - began
        same += heard.words == found.words
        padded = torch.cat([samples, background(samples, int(silence * rate), rate)])
        first, final, last = live(endpoints, padded, rate * chunk_ms // 1000, rate)
        spoken = np.flatnonzero(found.classes)
        if len(spoken):
            firsts.append(first - spoken[0] * endpoints.frame_seconds)
            finals.append(final - (spoken[-1] + 1) * endpoints.frame_seconds)
            lasts.append(last)
        audio_seconds += len(samples) / rate
        count += 1
    click.echo(f"{count} utterances, {audio_seconds:.0f} s of audio, chunks of {chunk_ms} ms, one thread")
    click.echo(f"the same words as of whole utterances: {same} of {count}")
    rows = [
        ["whole utterances", f"{audio_seconds / whole_seconds:.0f}", "1.00"],
        ["live", f"{audio_seconds / live_seconds:.0f}", f"{whole_seconds / live_seconds:.2f}"],
    ]
    click.echo(text_table(["decoding", "RTFx", "speed, of whole utterances'"], rows))
    click.echo(f"first words after the first sound: {spread(firsts)}")
    click.echo(f"final words after the last sound:  {spread(finals)}, of that the last computation {spread(lasts)}")
    click.echo(f"endpoint not found within {silence} s of silence: {int(np.isnan(finals).sum())} of {len(finals)}")


if __name__ == "__main__":
    main()
