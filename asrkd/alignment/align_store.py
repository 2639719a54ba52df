"""Aligns a labeled store: a copy of it with hard labels, and soft ones if wanted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asrkd.acoustic import load_model
from asrkd.alignment.left_out import LeftOut
from asrkd.alignment.model_align import ModelAligner
from asrkd.alignment.phone_align import PhoneAligner, load_phone_model
from asrkd.alignment.summary import ODDITY, Summary, UtteranceProgress
from asrkd.corpus.inventory import Inventory, InventoryConfig
from asrkd.corpus.text_rules import TextRules
from asrkd.corpus.tokenizer import read_tokenizer, rules_of
from asrkd.errors import ConfigError
from asrkd.sequence.dependency import import_k2
from asrkd.store import Store
from asrkd.store.files import Files
from asrkd.store.rewrite import check_new

ALIGNERS = ("viterbi", "k2")


@dataclass(frozen=True)
class Aligned:
    """What became of a store.

    Attributes:
        count: utterances with an alignment.
        left_out: utterances that were left out.
        summary: of the alignments.
    """

    count: int
    left_out: LeftOut
    summary: Summary


def align_store(
    store: Store,
    out: str,
    lexicon: str | Path | None,
    *,
    rules: TextRules | None = None,
    states_per_phone: int = InventoryConfig.states_per_phone,
    model: str | None = None,
    device: str = "cpu",
    aligner: str = "viterbi",
    soft: str = "",
    leave_early: bool = False,
    max_unaligned: float = 0.2,
    oddity: float = ODDITY,
    save: str | Path | None = None,
    saved: str | Path | None = None,
    progress: UtteranceProgress | None = None,
) -> Aligned:
    """Copy a store with the alignment column filled.

    Utterances that cannot be aligned (too few frames for the transcript, a word outside the lexicon, no transcript) or that do not fit
    their transcripts are left out of the copy; its quarantine says why.

    Without a model this is a flat start (`asrkd.alignment.flat_start`) of an HMM-GMM at 10 ms, whatever the store's frame rate, on at most
    some hours of the store. With a model it is the best path of the transcript through its scores (`AcousticModel.scores`).

    Args:
        lexicon: spec of the tokenizer; with a model it may be None for the one that the model brings.
        rules: of the normalization of transcripts; by default those that the model brings, or NFC alone.
        model: spec of the model, of any kind (`asrkd.acoustic.load_model`).
        device: where it runs.
        oddity: without a model, how many deviations worse than the middle utterance one may fit its transcript.
        save: without a model, where the HMM-GMM is saved.
        saved: an HMM-GMM to align with in place of a flat start: for a dev set, that of the labeled set.
        aligner: `viterbi` or `k2`.
        soft: a codec spec; the copy then also has the posteriors of the classes given the transcript as targets: soft alignments, by k2.
        leave_early: with an `hmm` model, a phone may end after any of its states, as it may in a flat start.
        max_unaligned: share of the utterances that may be left out.

    Raises:
        CorpusError: more utterances than `max_unaligned` allows cannot be aligned.
        MismatchError: the model is of another inventory or frame law.
        ConfigError: an unknown aligner, options that need a model, or a device that cannot be used.
        ModelError: the model cannot be loaded, or is of `hmm` and brings no priors.
        DependencyError: k2 is needed and not installed.
    """
    if aligner not in ALIGNERS:
        raise ConfigError(f"aligner is {aligner!r}, but must be one of {', '.join(ALIGNERS)}")
    if model is None and (soft or leave_early or aligner != "viterbi"):
        raise ConfigError("aligner k2, soft alignments and leave_early need the scores of a model; give one")
    if (save or saved) and (model is not None or (save and saved)):
        raise ConfigError(
            "an aligner is saved by a flat start, and used in place of one or of a model; give one of model, save and saved"
        )
    check_new(Files(out), "align")
    if soft or aligner == "k2":
        import_k2()
    if lexicon is None and model is None:
        raise ConfigError("a flat start needs the pronunciations of words; give a lexicon")
    acoustic_model = None if model is None else load_model(model, device)
    if lexicon is None and acoustic_model is not None:
        words = acoustic_model.text_tokenizer()
    else:
        words = read_tokenizer(str(lexicon), rules or rules_of(acoustic_model.tokenizer if acoustic_model else None))
    total = store.num_rows()
    if acoustic_model is not None:
        by_model = ModelAligner(
            store,
            words,
            acoustic_model,
            kind=aligner,
            states_per_phone=states_per_phone,
            leave_early=leave_early,
            soft=soft,
        )
        by_model.unusable().check(total, max_unaligned)
        by_model.write(out, lambda: by_model.left_out.check(total, max_unaligned), progress)
        return Aligned(by_model.summary.utterances, by_model.left_out, by_model.summary)
    inventory = Inventory.from_lexicon(words, "hmm", states_per_phone=states_per_phone)
    aligner_of = PhoneAligner(store, words, inventory, oddity=oddity)
    phone_model = load_phone_model(saved, words) if saved else None
    aligner_of.unusable(aligner_of.phones).check(total, max_unaligned)
    phone_model = phone_model or aligner_of.train(progress)
    if save:
        # Before the store, which says that all is done.
        phone_model.save(save)
    summary = aligner_of.write(
        out,
        phone_model,
        lambda: aligner_of.left_out.check(total, max_unaligned),
        progress,
        from_here=saved is None,
    )
    return Aligned(summary.utterances, aligner_of.left_out, summary)
