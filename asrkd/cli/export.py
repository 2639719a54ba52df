"""`asrkd export`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from asrkd.acoustic import AcousticModel, load_model
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cut_json import to_cut
from asrkd.corpus.cuts import iterate_json
from asrkd.decoding.search import best_decoder
from asrkd.errors import CorpusError, ModelError
from asrkd.export.card import model_card, name_of, run_of
from asrkd.export.executorch_export import PROGRAM, export_executorch
from asrkd.export.onnx_export import TYPES, export_onnx, trained_matrices
from asrkd.export.sherpa import export_sherpa, sherpa_graph
from asrkd.export.sherpa_check import Comparison
from asrkd.export.web import RUNTIME, export_web
from asrkd.store.card import CardFacts

OUT = click.argument("out", type=click.Path(path_type=Path))
REDUCE_RANGE = click.option(
    "--reduce-range",
    is_flag=True,
    help="7-bit weights in int8 graphs, for CPUs without VNNI, where sums of 8-bit products may overflow.",
)
BLANK_PENALTY = click.option(
    "--blank-penalty", default=0.0, help="Taken off the blank's score, in nats, as in asrkd decode."
)

SCORES = click.option(
    "--scores",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="What asrkd decode wrote, for the card's table of error rates; may be given again.",
)


def with_card(function: Callable[..., None]) -> Callable[..., None]:
    """The options of the model card in an exported folder."""
    name = click.option(
        "--name",
        default="",
        show_default=False,
        help="Name in the card, and on the page.  [default: that of its run or file]",
    )
    return name(SCORES(options.with_facts(function)))


def _said_int8(model: AcousticModel, reduce_range: bool) -> str:
    trained = trained_matrices(model, reduce_range=reduce_range) is not None
    return f"int8 weights: {'those of its 8-bit training' if trained else 'by scales of onnxruntime'}"


def _facts(model: AcousticModel, name: str, license_id: str | None, facts: Mapping[str, Any]) -> CardFacts:
    return CardFacts(name or name_of(model), license_id, **facts)


@click.group("export")
def export() -> None:
    """Students for other runtimes: ONNX graphs, a folder for sherpa-onnx, a page for browsers, or a program of ExecuTorch."""


@export.command("onnx", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@OUT
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(TYPES),
    default=TYPES,
    help="Type of the weights; may be repeated. The first is model.onnx.",
)
@REDUCE_RANGE
@with_card
def onnx_command(
    model: str,
    out: Path,
    types: tuple[str, ...],
    reduce_range: bool,
    name: str,
    scores: tuple[Path, ...],
    license_id: str | None,
    **facts: Any,
) -> None:
    """Write a model as ONNX graphs into a new folder OUT.

    model.onnx takes whole utterances; with model.onnx.json next to it, onnx:OUT/model.onnx is a model of asrkd. stream.onnx takes chunks and
    the state, where the model streams. Each graph is run and compared with the model. README.md is a model card.
    """
    acoustic_model = load_model(model)
    written, missing = export_onnx(
        acoustic_model,
        out,
        types=types,
        reduce_range=reduce_range,
        facts=_facts(acoustic_model, name, license_id, facts),
        scores=scores,
    )
    for one in written:
        click.echo(
            f"{one.name:<22} {one.num_bytes / 1e6:8.2f} MB  {one.rtfx:8,.0f} x real time on one thread  logits within {one.difference:.2g}"
        )
    if "int8" in types:
        click.echo(_said_int8(acoustic_model, reduce_range))
    for graph, why in missing.items():
        click.echo(f"no {graph}.onnx: {why}", err=True)


@export.command("sherpa", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@OUT
@options.LEXICON
@click.option(
    "--grammar",
    type=click.Path(dir_okay=False),
    help="Language model of the graph (ARPA), or a grammar of sentences (NAME.fst.txt); default: a loop of the words.",
)
@click.option(
    "--greedy", is_flag=True, help="No graph HLG.fst, though a ctc model has a lexicon: its tokens are the text."
)
@click.option("--insertion-penalty", default=0.0, help="Cost of every word of the loop, in nats.")
@click.option("--acoustic-scale", default=1.0, help="Multiplies the scores, with a graph.")
@BLANK_PENALTY
@click.option("--leave-early", is_flag=True, help="Let an hmm phone end after any of its states, with a graph.")
@click.option("--check", "cuts", help="Cuts that sherpa-onnx and asrkd both decode, to compare their words.")
@click.option("--num-check", type=click.IntRange(1), default=20, help="How many of them.")
@REDUCE_RANGE
@with_card
def sherpa_command(
    model: str,
    out: Path,
    lexicon: str | None,
    grammar: str | None,
    greedy: bool,
    insertion_penalty: float,
    acoustic_scale: float,
    blank_penalty: float,
    leave_early: bool,
    cuts: str | None,
    num_check: int,
    reduce_range: bool,
    name: str,
    scores: tuple[Path, ...],
    license_id: str | None,
    **facts: Any,
) -> None:
    """Write a streaming student into a new folder OUT that sherpa-onnx runs.

    The student must have been trained with `front_end: {preset: sherpa}`, to which `mean_norm: causal` may be added. OUT/README.md is a model card with the calls.
    """
    acoustic_model = load_model(model)
    tokenizer = options.tokenizer_of(acoustic_model, lexicon)
    graph = None
    if not greedy and best_decoder(acoustic_model.inventory, tokenizer, grammar)[0] != "greedy":
        graph = sherpa_graph(
            acoustic_model,
            tokenizer,
            grammar=grammar,
            insertion_penalty=insertion_penalty,
            leave_early=leave_early,
        )
    with ProgressBar(quiet_seconds=2.0) as progress:
        written = export_sherpa(
            acoustic_model,
            out,
            graph=graph,
            acoustic_scale=acoustic_scale,
            blank_penalty=blank_penalty,
            reduce_range=reduce_range,
            facts=_facts(acoustic_model, name, license_id, facts),
            scores=scores,
            utterances=_utterances(cuts, acoustic_model, num_check, progress) if cuts else (),
        )
    for file, size in written.sizes.items():
        speed = f"  {written.rtfx[file]:8,.0f} x real time on one thread" if file in written.rtfx else ""
        click.echo(f"{file:<20} {size / 1e6:8.2f} MB{speed}")
    click.echo(_said_int8(acoustic_model, reduce_range))
    for warning in written.warnings:
        click.echo(f"warning: {warning}", err=True)
    if not written.comparison:
        click.echo("sherpa-onnx was not tried on speech: give --check CUTS")
    for file, comparison in written.comparison.items():
        click.echo(_said(file, comparison, "words" if graph else "tokens"))


@export.command("web", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@OUT
@click.option("--type", "kind", type=click.Choice(TYPES), default=TYPES[0], help="Type of the weights.")
@BLANK_PENALTY
@click.option(
    "--runtime",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"The tarball of {RUNTIME}.  [default: npm fetches it]",
)
@REDUCE_RANGE
@with_card
def web_command(
    model: str,
    out: Path,
    kind: str,
    blank_penalty: float,
    runtime: Path | None,
    reduce_range: bool,
    name: str,
    scores: tuple[Path, ...],
    license_id: str | None,
    **facts: Any,
) -> None:
    """Write a page into a new folder OUT in which a streaming `ctc` student listens to the microphone or a file, greedily, without a server of its own.
    README.md is a model card.

    \b
      asrkd export web exp/student OUT && python -m http.server -d OUT
    """
    acoustic_model = load_model(model)
    page = export_web(
        acoustic_model,
        out,
        kind=kind,
        runtime=runtime,
        blank_penalty=blank_penalty,
        reduce_range=reduce_range,
        facts=_facts(acoustic_model, name, license_id, facts),
        scores=scores,
    )
    click.echo(
        f"{page.num_bytes / 1e6:.2f} MB to load, logits within {page.difference:.2g}; python -m http.server -d {out}"
    )
    if kind == "int8":
        click.echo(_said_int8(acoustic_model, reduce_range))


@export.command("executorch", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@OUT
@click.option(
    "--chunk-frames",
    type=click.IntRange(1),
    show_default=False,
    help="Frames of features that the program reads at a time.  [default: a third of a second]",
)
@with_card
def executorch_command(
    model: str,
    out: Path,
    chunk_frames: int | None,
    name: str,
    scores: tuple[Path, ...],
    license_id: str | None,
    **facts: Any,
) -> None:
    """Write a streaming student as a program of ExecuTorch into a new folder OUT, for phones and small devices.

    stream.pte reads a chunk of features and the state; XNNPACK computes it where it can. It is run and compared with the model. README.md is a model card.
    """
    acoustic_model = load_model(model)
    program = export_executorch(
        acoustic_model,
        out,
        chunk_frames=chunk_frames,
        facts=_facts(acoustic_model, name, license_id, facts),
        scores=scores,
    )
    click.echo(
        f"{PROGRAM:<22} {program.num_bytes / 1e6:8.2f} MB  {program.rtfx:8,.0f} x real time  logits within {program.difference:.2g}  {program.backend}"
    )
    if program.passed_over:
        click.echo(f"not XNNPACK: {program.passed_over}", err=True)


@export.command("card")
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True, help="Name of the model.")
@SCORES
@options.with_facts
def model_card_command(run: Path, name: str, scores: tuple[Path, ...], license_id: str | None, **facts: Any) -> None:
    """Print a Hugging Face model card (README.md) for a training run: error rates, teachers, data, licence, limits."""
    if run_of(f"checkpoint:{run}") is None:
        raise ModelError(
            f"{str(run)!r} is not the folder of a training run: it holds no config.yaml; give the folder that asrkd train wrote"
        )
    model = load_model(f"checkpoint:{run}")
    click.echo(model_card(model, _facts(model, name, license_id, facts), scores), nl=False)


def _utterances(
    cuts: str, model: AcousticModel, count: int, progress: ProgressBar
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Ids and samples; the next is asked for when one has been decoded."""
    chosen, seconds = list(itertools.islice(iterate_json(cuts), count)), 0.0
    for done, cut in enumerate(chosen, 1):
        if "unreadable" in cut:
            raise CorpusError(cut["unreadable"])
        yield cut["id"], read_audio(to_cut(cut), model.front_end.sampling_rate)
        seconds += cut["duration"]
        progress.show("decode in sherpa-onnx", done, len(chosen), seconds=seconds)


def _said(name: str, found: Comparison, what: str) -> str:
    lines = [
        f"{name} in sherpa-onnx: {found.errors} of {found.tokens} {what} differ from asrkd's ({found.share:.2%}), in {len(found.differing)} of "
        f"{found.utterances} utterances"
    ]
    for key, ours, theirs in found.differing[:5]:
        lines += [f"  {key}", f"    asrkd        {ours}", f"    sherpa-onnx  {theirs}"]
    return "\n".join(lines)
