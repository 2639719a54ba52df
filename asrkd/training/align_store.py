"""Aligns a labeled store: a copy of it with hard labels for the `hmm` topology."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.corpus.lexicon import Lexicon
from asrkd.errors import CorpusError, MismatchError
from asrkd.store import Store
from asrkd.store.rewrite import with_alignment
from asrkd.streaming.loader import Loader
from asrkd.streaming.source import Source
from asrkd.teachers import load_teacher
from asrkd.training import checkpoint
from asrkd.training.alignment import TranscriptGraph, transcript_graph, viterbi
from asrkd.training.flat_start import flat_start

Progress = Callable[[int, int], None]


def align_store(
    root: str,
    out: str,
    lexicon: str | Path,
    *,
    states_per_phone: int = 2,
    model: str | None = None,
    progress: Progress | None = None,
) -> int:
    """Copy a store with the alignment column filled; returns the number of utterances.

    Without a model this is a flat start (`asrkd.training.flat_start`), which holds the features of the labeled set in
    memory. With an `hmm` model (a spec, with priors in its checkpoint) it is Viterbi over the scaled likelihoods.

    Raises:
        CorpusError: an utterance without a transcript, a word outside the lexicon, or too few frames.
        MismatchError: the model is not `hmm`, or of another inventory or frame law.
    """
    store = Store.open(root)
    words = Lexicon.read(lexicon)
    inventory = Inventory.from_lexicon(words, "hmm", states_per_phone=states_per_phone)
    labels: dict[str, NDArray[np.int64]] = {}
    if model is None:
        ids, features, graphs = [], [], []
        for key, text, frames in _transcribed(root, FrontEnd.from_dict(store.identity.front_end)):
            ids.append(key)
            graphs.append(_graph(key, text, words, inventory))
            features.append(frames.numpy())
        classes = flat_start(features, graphs, len(inventory), progress=progress)
        labels = dict(zip(ids, classes, strict=True))
    else:
        labels = _with_model(store, model, words, inventory, progress)
    with_alignment(store, out, labels)
    return len(labels)


def _with_model(
    store: Store, spec: str, words: Lexicon, inventory: Inventory, progress: Progress | None
) -> dict[str, NDArray[np.int64]]:
    teacher = load_teacher(spec)
    if teacher.inventory != inventory:
        raise MismatchError(
            f"model {spec!r} has {len(teacher.inventory)} units of topology {teacher.inventory.topology!r}, the lexicon with "
            f"its states makes {len(inventory)} of topology 'hmm'; give the same lexicon and states_per_phone"
        )
    if not isinstance(teacher.front_end, FrontEnd):
        raise MismatchError(
            f"model {spec!r} reads samples, but a store is aligned by features; give a run of asrkd train"
        )
    path = Path(spec.partition(":")[2])
    prior = checkpoint.read(path / "final.pt" if path.is_dir() else path)["log_prior"].numpy()
    labels = {}
    total = int(store.manifest.plan["num_cuts"])
    for key, text, features in _transcribed(store.root, teacher.front_end):
        log_probs, _ = teacher.log_probs(features[None], torch.tensor([len(features)]))
        graph = _graph(key, text, words, inventory)
        labels[key] = graph.classes[viterbi(log_probs[0].numpy() - prior, graph)[0]]
        if progress:
            progress(len(labels), total)
    return labels


def _transcribed(root: str, front_end: FrontEnd) -> Iterator[tuple[str, str | None, Tensor]]:
    """Id, transcript and clean features (T, F) of every utterance."""
    loader = Loader({"all": Source("all", root)}, front_end=front_end, max_frames=1 << 20, max_utterances=1, cache_mb=0)
    for batch in loader.epoch("all"):
        yield batch.ids[0], batch.texts[0], batch.features[0]


def _graph(key: str, text: str | None, words: Lexicon, inventory: Inventory) -> TranscriptGraph:
    if text is None:
        raise CorpusError(f"utterance {key!r} has no transcript, so it cannot be aligned; leave it out")
    return transcript_graph(text, words, inventory, what=f"utterance {key!r}")
