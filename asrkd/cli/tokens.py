"""`asrkd tokens`."""

from __future__ import annotations

import click

from asrkd.cli import options
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.train_tokens import KINDS_OF_TOKENS, make_tokens

_RULES = TextRules()


@click.command("tokens")
@click.argument("cuts", nargs=-1, required=True, metavar="CUTS...")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--kind", type=click.Choice(KINDS_OF_TOKENS), default=KINDS_OF_TOKENS[0], help="What the tokens are.")
@click.option(
    "--size",
    default=options.default_of(make_tokens, "size"),
    help="Tokens of bpe and unigram, with the blank and two other special ones.",
)
@click.option("--case", type=click.Choice(["keep", "lower", "upper"]), default=_RULES.case, help="Case of the text.")
@click.option(
    "--punctuation",
    type=click.Choice(["keep", "remove"]),
    default=_RULES.punctuation,
    help="Whether punctuation is kept; apostrophes within words are.",
)
@click.option(
    "--form", type=click.Choice(["none", "nfc", "nfkc"]), default=_RULES.form, help="Unicode's form of the text."
)
def tokens_command(
    cuts: tuple[str, ...], out: str, kind: str, size: int, case: str, punctuation: str, form: str
) -> None:
    """Make the tokens of the transcripts of CUTS in the folder OUT: characters, or pieces of words (SentencePiece).

    OUT is like a data/lang folder of icefall, and is named by inventory.lexicon of a training.
    """
    rules = TextRules(case=case, punctuation=punctuation, form=form)
    count = make_tokens(cuts, out, kind, size=size, rules=rules)
    changed = [f"{key}: {value}" for key, value in vars(rules).items() if value != getattr(_RULES, key)]
    named = f", text: {{{', '.join(changed)}}}" if changed else ""
    click.echo(
        f"{count} tokens in {out}; the config of a training names them by inventory: {{lexicon: 'lang:{out}'{named}}}"
    )
