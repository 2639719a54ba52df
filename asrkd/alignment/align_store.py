"""Aligns a labeled store: a copy of it with hard labels, and soft ones if wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd import checkpoint, fingerprint
from asrkd.acoustic import load_model
from asrkd.alignment.forced import TranscriptGraph, ctc_align, too_few_frames, transcript_graph, viterbi
from asrkd.alignment.phone_align import ODDITY, PhoneAligner, load
from asrkd.alignment.summary import Summary
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.corpus.tokens import Tokens
from asrkd.errors import ConfigError, CorpusError, MismatchError
from asrkd.graphs import topology_of
from asrkd.labeling.encoding import encoded_columns
from asrkd.labeling.plan import teacher_identity
from asrkd.sequence.decode import best_paths
from asrkd.sequence.graphs import numerators, transcript_acceptor
from asrkd.sequence.lattice import lattices, occupancies
from asrkd.store import Store
from asrkd.store.rewrite import check_new, with_columns
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.targets.codecs import parse_codec

Progress = Callable[[int, int], None]
ALIGNERS = ("viterbi", "k2")


@dataclass(frozen=True)
class Aligned:
    """What became of a store.

    Attributes:
        count: utterances with an alignment.
        left_out: by id in order, the reason of each utterance that was left out.
        summary: of the alignments at 10 ms, where the HMM-GMM made them.
    """

    count: int
    left_out: Mapping[str, str]
    summary: Summary | None = None


def align_store(
    root: str,
    out: str,
    lexicon: str | Path,
    *,
    states_per_phone: int = 2,
    model: str | None = None,
    aligner: str = "viterbi",
    soft: str = "",
    max_unaligned: float = 0.2,
    oddity: float = ODDITY,
    save: str | Path | None = None,
    saved: str | Path | None = None,
    progress: Progress | None = None,
) -> Aligned:
    """Copy a store with the alignment column filled.

    Utterances that cannot be aligned (too few frames for the transcript, a word outside the lexicon, no transcript) or that do not fit
    their transcripts are left out of the copy; its quarantine says why.

    Without a model this is a flat start (`asrkd.alignment.flat_start`) of an HMM-GMM at 10 ms, whatever the store's frame rate, on at most
    some hours of the store. With a model (the spec of a run) it is the best path of the transcript through its scores (`hmm`: scaled
    likelihoods).

    Args:
        oddity: without a model, how many deviations worse than the middle utterance one may fit its transcript.
        save: without a model, where the HMM-GMM is saved.
        saved: an HMM-GMM to align with in place of a flat start: for a dev set, that of the labeled set.
        aligner: `viterbi` (for `ctc` torchaudio's `forced_align`, of first pronunciations) or `k2`.
        soft: a codec spec; the copy then also has the posteriors of the classes given the transcript as targets: soft alignments, by k2.
        max_unaligned: share of the utterances that may be left out.

    Raises:
        CorpusError: more utterances than `max_unaligned` allows cannot be aligned.
        MismatchError: the model is of another inventory or frame law.
        ConfigError: an unknown aligner, or options that need a model.
        DependencyError: k2 is needed and not installed.
    """
    if aligner not in ALIGNERS:
        raise ConfigError(f"aligner is {aligner!r}, but must be one of {', '.join(ALIGNERS)}")
    if model is None and (soft or aligner != "viterbi"):
        raise ConfigError("aligner k2 and soft alignments need the scores of a model; give one")
    if (save or saved) and (model is not None or (save and saved)):
        raise ConfigError(
            "an aligner is saved by a flat start, and used in place of one or of a model; give one of model, save and saved"
        )
    store = Store.open(root)
    check_new(out, "align")
    words = Lexicon.read(lexicon)
    if model is not None:
        found = _Aligner(model, words, aligner)
        return _with_model(store, out, words, states_per_phone, found, soft, max_unaligned, progress)
    inventory = Inventory.from_lexicon(words, "hmm", states_per_phone=states_per_phone)
    aligner_of = PhoneAligner(store, words, inventory, oddity=oddity)
    phone_model = load(saved, words) if saved else None
    total = len(store.index(["id"]))
    _check_share(_sorted(aligner_of.unusable(aligner_of.phones)), total, max_unaligned)
    phone_model = phone_model or aligner_of.train(progress)
    if save:
        # Before the store, which says that all is done.
        phone_model.save(save)
    summary = aligner_of.write(
        out, phone_model, lambda: _check_share(_sorted(aligner_of.left_out), total, max_unaligned), progress
    )
    return Aligned(summary.utterances, _sorted(aligner_of.left_out), summary)


def _sorted(left_out: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(left_out.items()))


def _check_share(left_out: Mapping[str, str], total: int, allowed: float) -> None:
    """Refuse to leave out more than the allowed share."""
    if len(left_out) > allowed * total:
        names = ", ".join(map(repr, list(left_out)[:20])) + (" and others" if len(left_out) > 20 else "")
        raise CorpusError(
            f"{len(left_out)} of {total} utterances cannot be aligned, more than the share of {allowed} that is allowed ({names}); the first: "
            f"{next(iter(left_out.values()))}. Mend the transcripts or the lexicon, or raise --max-unaligned to leave them out"
        )


class _Aligner:
    """A model's scores of a transcript."""

    def __init__(self, spec: str, words: Lexicon, kind: str) -> None:
        self.teacher, self.words, self.kind = load_model(spec), words, kind
        if not isinstance(self.teacher.front_end, FrontEnd):
            raise MismatchError(
                f"model {spec!r} reads samples, but a store is aligned by features; give a run of asrkd train"
            )
        self.front_end = self.teacher.front_end
        self.inventory = self.teacher.inventory
        self.tokens = Tokens.of(self.inventory)
        self._prior: Tensor | None = None
        if self.inventory.topology.needs_prior:
            path = Path(spec.partition(":")[2])
            self._prior = checkpoint.read(path / "final.pt" if path.is_dir() else path)["log_prior"]

    def scores(self, features: Tensor) -> Tensor:
        """(T, F) -> (T', V) log-posteriors, less log-priors for `hmm`."""
        log_probs, _ = self.teacher.log_probs(features[None], torch.tensor([len(features)]))
        return log_probs[0] if self._prior is None else log_probs[0] - self._prior

    def path(self, key: str, text: str | None, scores: Tensor) -> NDArray[np.int64]:
        """(T',) classes of the best path."""
        if self.kind == "k2":
            graph = self.transcript(key, text)
            try:
                return best_paths(lattices(scores[None], torch.tensor([len(scores)]), graph))[0].classes.numpy()
            except CorpusError:
                raise _too_short(key, len(scores)) from None
        if self.inventory.topology.needs_alignment:
            own = _graph(key, text, self.words, self.inventory)
            if len(scores) < own.min_frames:
                raise too_few_frames(len(scores), own, what=f"utterance {key!r}")
            return own.classes[viterbi(scores.numpy(), own)[0]]
        spelled = self.tokens.spell(_checked(key, text), self.words, what=f"utterance {key!r}")
        return ctc_align(scores, [token for spellings in spelled for token in spellings[0]], what=f"utterance {key!r}")

    def soft(self, key: str, text: str | None, scores: Tensor) -> Tensor:
        """(T', V) natural log of the posteriors of the classes given the transcript."""
        found = occupancies(scores[None], torch.tensor([len(scores)]), self.transcript(key, text))[0]
        if not bool(found.any()):
            raise _too_short(key, len(scores))
        return (found / found.sum(1, keepdim=True)).log()

    def transcript(self, key: str, text: str | None) -> Any:
        spelled = self.tokens.spell(_checked(key, text), self.words, what=f"utterance {key!r}")
        acceptor = transcript_acceptor(spelled, silence=self.tokens.silence)
        return numerators(topology_of(self.inventory), [acceptor])


def _with_model(
    store: Store,
    out: str,
    words: Lexicon,
    states_per_phone: int,
    found: _Aligner,
    soft: str,
    max_unaligned: float,
    progress: Progress | None,
) -> Aligned:
    teacher, inventory = found.teacher, found.inventory
    if inventory != Inventory.from_lexicon(words, inventory.topology_name, states_per_phone=states_per_phone):
        raise MismatchError(
            f"model {teacher.spec!r} has {len(inventory)} units of topology {inventory.topology_name!r}, which are not those that the lexicon "
            "makes with its states; give the same lexicon and states_per_phone"
        )
    identity = None
    if soft:
        if store.identity.codec:
            raise ConfigError(
                f"{store.root!r} has soft targets already; soft alignments go into a copy of a store of transcripts"
            )
        aligned = dataclasses.replace(
            teacher,
            spec=f"{teacher.spec} given the transcripts",
            fingerprint=fingerprint.of_json(["aligned", teacher.fingerprint]),
        )
        identity = teacher_identity(aligned, codec=parse_codec(soft), embed=store.identity.embed)
    columns: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    total = int(store.manifest.plan["num_cuts"])
    for key, text, features in _transcribed(store.root, found.front_end):
        scores = found.scores(features)
        try:
            aligned_columns = {"alignment": found.path(key, text, scores)}
            if identity is not None:
                aligned_columns |= encoded_columns(key, found.soft(key, text, scores), identity)
            columns[key] = aligned_columns
        except CorpusError as error:
            left_out[key] = str(error)
        if progress:
            progress(len(columns) + len(left_out), total)
    left_out = dict(sorted(left_out.items()))
    _check_share(left_out, len(columns) + len(left_out), max_unaligned)
    with_columns(store, out, columns, identity, left_out=left_out)
    return Aligned(len(columns), left_out)


def _transcribed(root: str, front_end: FrontEnd) -> Iterator[tuple[str, str | None, Tensor]]:
    """Id, transcript and clean features (T, F) of every utterance."""
    loader = Loader({"all": Source("all", root)}, front_end=front_end, max_frames=1 << 20, max_utterances=1, cache_mb=0)
    for batch in loader.epoch("all"):
        yield batch.ids[0], batch.texts[0], batch.features[0]


def _graph(key: str, text: str | None, words: Lexicon, inventory: Inventory) -> TranscriptGraph:
    return transcript_graph(_checked(key, text), words, inventory, what=f"utterance {key!r}")


def _checked(key: str, text: str | None) -> str:
    if text is None:
        raise CorpusError(f"utterance {key!r} has no transcript, so it cannot be aligned; leave it out")
    return text


def _too_short(key: str, frames: int) -> CorpusError:
    return CorpusError(
        f"utterance {key!r}: {frames} frames are too few for its transcript; check the transcript or leave the utterance out"
    )
