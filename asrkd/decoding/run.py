"""Decodes the cuts of a test set with a trained run, and measures the real-time factor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from numpy.typing import NDArray

from asrkd import checkpoint, text
from asrkd.acoustic import AcousticModel
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import iterate, iterate_json, open_cuts
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.tokenizer import Tokenizer
from asrkd.corpus.transcripts import speaker_of, transcript_of
from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.decoding.decode import graph_decode
from asrkd.decoding.k2_decode import K2Decoder
from asrkd.errors import ConfigError, CorpusError
from asrkd.graphs import DecodingGraph, ngram_graph, word_loop_graph
from asrkd.sequence.lattice import Beam

DECODERS = ("kaldi", "k2")
# Utterances that k2 decodes at a time.
K2_BATCH = 32


@dataclass(frozen=True)
class Scores:
    """Log-posteriors of a test set.

    Attributes:
        log_probs: by utterance id, (T, V) float32.
        references, speakers: by utterance id.
        audio_seconds: of audio.
        model_seconds: of computation in the model alone.
    """

    log_probs: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    speakers: dict[str, str] = field(default_factory=dict)
    audio_seconds: float = 0.0
    model_seconds: float = 0.0


def compute_scores(model: AcousticModel, cuts: str, *, batch: int = 16) -> Scores:
    """Run a model over a test set.

    Raises:
        CorpusError: a cut that cannot be read or without a transcript, an id more than once, or no words at all. What the cuts
            say is checked before the model runs.
    """
    _check_cuts(cuts)
    scores = Scores()
    audio, spent = 0.0, 0.0
    pending: list[tuple[Cut, torch.Tensor]] = []

    def flush() -> None:
        nonlocal spent
        features = torch.nn.utils.rnn.pad_sequence([one for _, one in pending], batch_first=True)
        began = time.perf_counter()
        log_probs, lengths = model.log_probs(features, torch.tensor([len(one) for _, one in pending]))
        spent += time.perf_counter() - began
        for (cut, _), frames, length in zip(pending, log_probs, lengths.tolist(), strict=True):
            scores.log_probs[cut.id] = frames[:length].cpu().numpy()
        pending.clear()

    for cut in iterate(open_cuts(cuts), what=cuts):
        transcript = transcript_of(cut)
        reference = transcript.text
        if reference is None:
            why = transcript.problem or "has no transcript"
            raise CorpusError(f"cut {cut.id!r} of {cuts!r} {why}; it cannot be scored, so leave it out")
        samples = read_audio(cut, model.front_end.sampling_rate)
        pending.append((cut, model.front_end(torch.from_numpy(samples))))
        scores.references[cut.id], scores.speakers[cut.id] = reference, speaker_of(cut) or cut.id
        audio += len(samples) / model.front_end.sampling_rate
        if len(pending) == batch:
            flush()
    if pending:
        flush()
    return Scores(scores.log_probs, scores.references, scores.speakers, audio, spent)


def _check_cuts(cuts: str) -> None:
    """Raise `CorpusError` for a test set that cannot be scored, from its manifest alone."""
    seen: set[str] = set()
    words = 0
    for cut in iterate_json(cuts):
        key = cut["id"]
        if "unreadable" in cut:
            raise CorpusError(cut["unreadable"])
        if key in seen:
            raise CorpusError(
                f"cut id {key!r} is in {cuts!r} more than once; hypotheses are found by id, so one would be lost. Make the ids unique "
                "(lhotse: cuts.modify_ids)"
            )
        seen.add(key)
        transcript = transcript_of(cut)
        if transcript.text is None:
            why = transcript.problem or "has no transcript"
            raise CorpusError(f"cut {key!r} of {cuts!r} {why}; it cannot be scored, so leave it out")
        words += len(text.words(transcript.text))
    if not words:
        raise CorpusError(
            f"the transcripts of {cuts!r} hold no words, so there is no word error rate; give transcripts"
        )


def read_prior(run: str | Path) -> NDArray[np.float32]:
    """(V,) log-prior of a finished run."""
    return checkpoint.read(Path(run) / "final.pt")["log_prior"].numpy()


def search_graph(
    lexicon: Tokenizer,
    inventory: Inventory,
    *,
    grammar: str | None = None,
    insertion_penalty: float = 0.0,
    leave_early: bool = False,
) -> DecodingGraph:
    """The loop of the lexicon's words, or an n-gram language model.

    Args:
        grammar: an ARPA file, in place of the loop.
        insertion_penalty: cost of every word of the loop, in nats.
        leave_early: an `hmm` phone may end after any of its states.

    Raises:
        CorpusError: a grammar that cannot be used.
        ConfigError: an insertion penalty for a grammar.
        DependencyError: k2 or kaldilm is needed and not installed.
    """
    if grammar is None:
        return word_loop_graph(lexicon, inventory, insertion_penalty=insertion_penalty, leave_early=leave_early)
    if insertion_penalty:
        raise ConfigError(
            f"insertion_penalty is {insertion_penalty:g}, but it is for the loop of words; a grammar has costs for words already, so leave it out"
        )
    return ngram_graph(lexicon, inventory, grammar, leave_early=leave_early)


def decode_scores(
    scores: Scores,
    model: AcousticModel,
    graph: DecodingGraph,
    *,
    log_prior: NDArray[np.float32] | None = None,
    acoustic_scale: float = 1.0,
    prior_scale: float = 1.0,
    beam: float = 24.0,
    max_active: int = 7000,
    decoder: str = "kaldi",
    only: Sequence[str] | None = None,
) -> dict[str, str]:
    """Decode through a graph (`search_graph`); text by utterance id.

    Args:
        log_prior: (V,); needed for `hmm`, not used for `ctc`.
        prior_scale: multiplies the log-prior.
        beam, max_active: of the search.
        decoder: `kaldi` or `k2`.
        only: these utterances.

    Raises:
        CorpusError: no prior for an `hmm` model, or no path survives the beam.
        ConfigError: an unknown decoder.
        DependencyError: k2 is needed and not installed.
    """
    if decoder not in DECODERS:
        raise ConfigError(f"decoder is {decoder!r}, but must be one of {', '.join(DECODERS)}")
    prior = None
    if model.inventory.topology.needs_prior:
        if log_prior is None:
            raise CorpusError(
                f"an {model.inventory.topology_name!r} model is decoded with its priors; give the run that holds them"
            )
        prior = log_prior * prior_scale
    keys = list(only if only is not None else scores.log_probs)
    if decoder == "k2":
        search = K2Decoder(graph, device=model.device, beam=Beam(beam, 8.0, min(30, max_active - 1), max_active))
        found = []
        for begin in range(0, len(keys), K2_BATCH):
            part = [scores.log_probs[key] for key in keys[begin : begin + K2_BATCH]]
            found += search.decode(part, log_prior=prior, acoustic_scale=acoustic_scale)
    else:
        found = [
            graph_decode(
                scores.log_probs[key],
                graph,
                log_prior=prior,
                acoustic_scale=acoustic_scale,
                beam=beam,
                max_active=max_active,
            )
            for key in keys
        ]
    return {key: graph.text(one.words) for key, one in zip(keys, found, strict=True)}


def latency_ratio(model: AcousticModel, front_end: AnyFrontEnd, *, seconds: float = 10.0, repeats: int = 5) -> float:
    """Seconds of computation for one second of audio (real-time factor), one utterance at a time on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        noise = torch.randn(int(seconds * front_end.sampling_rate), generator=torch.Generator().manual_seed(0))
        features = front_end(0.1 * noise)[None]
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            model.log_probs(features, torch.tensor([features.shape[1]]))
            times.append(time.perf_counter() - began)
        return min(times) / seconds
    finally:
        torch.set_num_threads(threads)
