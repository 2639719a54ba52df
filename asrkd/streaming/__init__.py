"""Batches for training from stores of soft targets: elastic, resumable, bucketed by length.

    loader = Loader({"unlabeled": Source("unlabeled", Store.open("s3://bucket/store"))}, front_end=FrontEnd(), max_frames=20_000, max_utterances=64)
    for step in loader.steps({"unlabeled": 1}):      # the batches of one global batch that are this rank's
        for batch in step:
            loss = mean_loss_per_frame(model(batch.features, batch.feature_lengths), batch) * batch.weight

`loader.state_dict()` is JSON and resumes exactly, with any number of ranks and workers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asrkd.streaming.batch import Batch, Utterance
from asrkd.streaming.disk_cache import DiskCache
from asrkd.streaming.loader import Loader
from asrkd.streaming.mixture import Phase
from asrkd.streaming.selection import Filter
from asrkd.streaming.source import Source
from asrkd.streaming.view import UtteranceView

if TYPE_CHECKING:
    from asrkd.streaming.cuts import SoftTargetDataset as SoftTargetDataset
    from asrkd.streaming.cuts import to_cuts as to_cuts

__all__ = [
    "Batch",
    "DiskCache",
    "Filter",
    "Loader",
    "Phase",
    "SoftTargetDataset",
    "Source",
    "Utterance",
    "UtteranceView",
    "to_cuts",
]


def __getattr__(name: str) -> Any:
    if name not in ("SoftTargetDataset", "to_cuts"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # lhotse and its datasets, which a loader does without.
    return globals().setdefault(name, getattr(import_module(f"{__name__}.cuts"), name))
