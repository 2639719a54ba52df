"""Makes the tokens of a corpus: its characters, or pieces of words by SentencePiece."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from asrkd import files
from asrkd.corpus.characters import WORD_BEGIN, table_of_characters
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.lang import TOKENS
from asrkd.corpus.sentencepiece_model import MODEL, SentencePiece
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.topology import BLANK
from asrkd.corpus.transcripts import transcript_of
from asrkd.errors import ConfigError, CorpusError
from asrkd.extras import import_optional

KINDS_OF_TOKENS = ("bpe", "unigram", "characters")
# As in icefall: blank, ends of sentences, unknown.
_FIRST = (BLANK, "<sos/eos>")
_UNKNOWN = 2
# Longer transcripts would be passed over; SentencePiece takes this many bytes.
_LONGEST = 1 << 20


def make_tokens(cuts: Iterable[str], out: str, kind: str, *, size: int = 500, rules: TextRules | None = None) -> int:
    """Write `tokens.txt`, and for pieces `bpe.model`, to a folder that a spec `lang:FOLDER` names.

    The same transcripts give the same files.

    Args:
        cuts: corpora with transcripts, as `asrkd.corpus.cuts.open_cuts` takes them.
        kind: `bpe`, `unigram` or `characters`.
        size: tokens of `bpe` and `unigram`, with the blank and two other special ones.
        rules: normalization, which a training has to name, too.

    Returns:
        The number of tokens.

    Raises:
        CorpusError: no transcripts, or too few of them for `size` tokens.
        ConfigError: an unknown kind, or tokens are in the folder already.
        AsrkdError: the folder cannot be written to.
        DependencyError: sentencepiece is needed and not installed.
    """
    if kind not in KINDS_OF_TOKENS:
        raise ConfigError(f"kind is {kind!r}, but must be one of {', '.join(KINDS_OF_TOKENS)}")
    folder = Path(out)
    files.check_folder(folder)
    for name in (TOKENS, MODEL):
        if (folder / name).exists():
            raise ConfigError(
                f"{str(folder / name)!r} is there already, and models may have been trained with it; choose another folder or remove it"
            )
    said = map(rules or TextRules(), transcripts(cuts))
    if kind == "characters":
        tokens: tuple[str, ...] = table_of_characters(said)
    else:
        model = _trained(said, kind, size)
        tokens = SentencePiece.of(model, "the SentencePiece model").tokens
        files.write(folder / MODEL, model)
    # Last: the folder is whole once it is there.
    files.write(folder / TOKENS, "".join(f"{token} {number}\n" for number, token in enumerate(tokens)))
    return len(tokens)


def transcripts(cuts: Iterable[str]) -> Iterator[str]:
    """Those of corpora; cuts without one, or that cannot be read, are passed over.

    Raises:
        CorpusError: a corpus that cannot be read.
    """
    for path in cuts:
        for cut in iterate_json(path):
            said = None if "unreadable" in cut else transcript_of(cut).text
            if said is not None:
                yield said


def _trained(said: Iterable[str], kind: str, size: int) -> bytes:
    sentencepiece = import_optional("sentencepiece", f"tokens of kind {kind!r} need the package sentencepiece")
    written, seen = io.BytesIO(), False

    def sentences() -> Iterator[str]:
        nonlocal seen
        for transcript in said:
            if WORD_BEGIN in transcript:
                raise CorpusError(
                    f"transcript {transcript!r} has {WORD_BEGIN!r}, which marks the beginning of words; replace it"
                )
            if "\0" in transcript:
                raise CorpusError(f"transcript {transcript!r} has a character NUL, which is not text; leave it out")
            seen = seen or bool(transcript)
            yield transcript

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences(),
            model_writer=written,
            vocab_size=size,
            model_type=kind,
            character_coverage=1.0,
            # Text is normalized before, by rules that the config names.
            normalization_rule_name="identity",
            user_defined_symbols=list(_FIRST),
            unk_id=_UNKNOWN,
            bos_id=-1,
            eos_id=-1,
            max_sentence_length=_LONGEST,
            num_threads=4,
            minloglevel=2,
        )
    except CorpusError:
        raise
    except Exception as error:  # its own kinds
        if not seen:
            raise CorpusError("the corpus has no transcripts; tokens are made of text") from None
        raise CorpusError(
            f"SentencePiece cannot make {size} tokens of kind {kind!r} from these transcripts ({' '.join(str(error).split())}); choose another --size"
        ) from None
    return written.getvalue()
