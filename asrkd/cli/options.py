"""Options that several commands have."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import click

from asrkd.acoustic import KINDS, AcousticModel
from asrkd.corpus.tokenizer import Tokenizer, read_tokenizer, rules_of
from asrkd.decoding.decode import BEAM, MAX_ACTIVE
from asrkd.decoding.evaluation_set import AcousticScores
from asrkd.decoding.search import DECODERS, Search, best_decoder
from asrkd.errors import ConfigError
from asrkd.labeling import worker
from asrkd.labeling.plan import plan
from asrkd.store.embedding import DEFAULT_EMBED, EMBEDS, parse_embedding
from asrkd.store.identity import AUTOCASTS
from asrkd.targets.codecs import DEFAULT_CODEC, codec_forms
from asrkd.text_teachers.load import FILE_FORM, FILE_HELP, TEXT_KINDS


def default_of(function: Callable[..., Any], name: str) -> Any:
    """The default of an argument of the library, which an option repeats."""
    return inspect.signature(function).parameters[name].default


def _embedding(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return parse_embedding(value).spec
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


# No option has a use for NaN or infinity, which compare with nothing, nor for a negative count.
COUNT = click.IntRange(0, 2**31 - 1)


class Finite(click.types.FloatParamType):
    """A number that is finite."""

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        found: float = super().convert(value, param, context)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number", param, context)
        return found


def check_number_options(command: click.Command) -> None:
    """Let every number of a command, and of those in its group, be finite, and every integer at least 0."""
    for param in command.params:
        if param.type is click.FLOAT:
            param.type = Finite()
        elif param.type is click.INT:
            param.type = COUNT
        elif isinstance(param.type, click.IntRange) and param.type.max is None:
            param.type = click.IntRange(param.type.min, COUNT.max)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        check_number_options(below)


def _write_kinds(formatter: click.HelpFormatter) -> None:
    with formatter.section("Models (SPEC)"):
        formatter.write_dl([(kind.form, kind.help) for kind in KINDS.values()], col_max=34)


class ModelCommand(click.Command):
    """A command that takes the spec of a model: its help ends with the kinds that there are."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(context, formatter)
        _write_kinds(formatter)


class TeacherCommand(click.Command):
    """A command that takes the spec of a teacher of any kind: its help ends with the kinds that there are."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(context, formatter)
        _write_kinds(formatter)
        with formatter.section("Text teachers (SPEC)"):
            kinds = [(kind.form, kind.help) for kind in TEXT_KINDS.values()]
            formatter.write_dl([*kinds, (FILE_FORM, FILE_HELP)], col_max=34)


TEACHER = click.option(
    "--teacher",
    metavar="SPEC",
    help="The model that labels. Without one the store holds transcripts only (the labeled set).",
)
LEXICON = click.option(
    "--lexicon",
    metavar="FILE|KIND:FILE",
    help="The lexicon of the words, or another tokenizer (docs/tokens.md).  [default: what the model was trained with]",
)
MODEL_DEVICE = click.option("--device", default="cpu", help="Where the model runs: cpu, or cuda:0.")
CODEC = click.option("--codec", help=f"{codec_forms()}.  [default: {DEFAULT_CODEC}]")
EMBED = click.option(
    "--embed",
    callback=_embedding,
    default=DEFAULT_EMBED,
    metavar="FORM",
    help=f"What the rows carry besides targets, {', '.join(EMBEDS)}: audio as 16-bit FLAC or as Opus, features as float32 or 8-bit values. "
    "A student needs audio or features.",
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


def _channel(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "mean":
        return None
    if not (value.isascii() and value.isdigit()):
        raise click.BadParameter(f"{value!r} is neither 'mean' nor a channel's number from 0", context, parameter)
    return int(value)


CHANNEL = click.option(
    "--channel",
    default="mean",
    metavar="mean|NUMBER",
    callback=_channel,
    help="Channel of audio that has several: the mean of all, or the one of this number, from 0.",
)
UNIT_HOURS = click.option("--unit-hours", default=default_of(plan, "unit_hours"), help="Hours of audio in a work unit.")
READERS = click.option(
    "--readers",
    default=1,
    help="Processes of each worker that read audio and make features; 0 uses a thread, which cannot be ended when a decoder hangs.",
)
READ_SECONDS = click.option(
    "--read-seconds",
    default=worker.READ_SECONDS,
    help="Timeout in seconds for reading a batch (minutes of audio); then its readers are ended.",
)
DEVICE = click.option(
    "--device",
    default="cpu",
    help="Device of torch: cpu, cuda:0, or several with commas, which the workers take in turn.",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    help="Processes that run the teacher; on a CPU with one thread each.",
)
STUDY_WORKERS = click.option("--workers", type=click.IntRange(1), default=2, help="Processes, with one thread each.")

_SEARCH = (
    LEXICON,
    click.option(
        "--grammar",
        type=click.Path(dir_okay=False),
        help="Language model of words, or of the model's tokens: an ARPA file, for the decoder beam also a binary file of KenLM; or a grammar of sentences, NAME.fst.txt, whose lines are arcs FROM TO WORD [COST] and final states.",
    ),
    click.option(
        "--decoder",
        type=click.Choice(DECODERS),
        help="The best class of each frame; prefix beam search (pip install 'asrkd[beam]'); a graph of words; the same by k2.  [default: what suits the model]",
    ),
    click.option("--beam", default=BEAM, help="Beam of the search, in nats."),
    click.option(
        "--beam-size",
        default=default_of(Search, "beam_size"),
        help="Entries that the decoder beam keeps a frame, up to three for a prefix.",
    ),
    click.option("--max-active", default=MAX_ACTIVE, help="States of a graph kept a frame."),
    click.option(
        "--lm-weight",
        default=default_of(Search, "lm_weight"),
        help="Factor of the grammar's scores, for the decoder beam.",
    ),
    click.option("--insertion-penalty", default=0.0, help="Cost of every word, in nats."),
    click.option("--acoustic-scale", default=1.0, help="Multiplies the acoustic scores."),
    click.option(
        "--blank-penalty",
        default=default_of(AcousticScores, "blank_penalty"),
        help="Taken off the score of a CTC model's blank, in nats: more words, where too many are left out.",
    ),
    click.option(
        "--leave-early", is_flag=True, help="Let an hmm phone end after any of its states: one frame is enough for it."
    ),
)


def with_search(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a search; all but `acoustic_scale` and `blank_penalty` are for `search_of`."""
    for option in reversed(_SEARCH):
        function = option(function)
    return function


def tokenizer_of(model: AcousticModel, lexicon: str | None) -> Tokenizer | None:
    """What the option names, read by the rules of the model's own tokenizer, or that one."""
    return read_tokenizer(lexicon, rules_of(model.tokenizer)) if lexicon else model.tokenizer


def search_of(
    model: AcousticModel, *, lexicon: str | None, decoder: str | None, device: str, **settings: Any
) -> Search:
    """The search that the options name; where they name no decoder, the one that is taken is told.

    Raises:
        AsrkdError: as `read_tokenizer` and `Search`.
    """
    tokenizer = tokenizer_of(model, lexicon)
    search = Search(tokenizer, model, decoder=decoder, device=device, **settings)
    if decoder is None:
        why = best_decoder(model.inventory, tokenizer, settings["grammar"])[1]
        click.echo(f"decoder {search.decoder}: {why}", err=True)
    return search


def with_facts(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a store, or a model, does not know of itself."""
    for option in (
        click.option("--intended-use", help="What it is for.  [default: what its contents are good for]"),
        click.option("--source", help="Where the audio is from."),
        click.option("--language", "languages", multiple=True, help="Language code, e.g. ar; may be given again."),
        click.option("--teacher-license", help="License identifier of the teacher."),
        click.option("--license", "license_id", help="License identifier, e.g. cc-by-4.0; left out if not given."),
    ):
        function = option(function)
    return function
