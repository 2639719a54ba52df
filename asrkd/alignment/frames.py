"""An alignment at 10 ms as labels of a student's frames: what is said at the center of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asrkd.alignment.phone_graph import SILENCE_STATE, STATES, PhoneGraph
from asrkd.corpus.frame_law import FrameLaw
from asrkd.corpus.inventory import Inventory


def centers(law: FrameLaw, num_frames: int) -> NDArray[np.float64]:
    """(T,) the sample in the middle of all that each frame is made of."""
    spanned = law.window + law.shift * (law.stack - 1 + law.stride * (law.subsampling_factor - 1))
    return (law.begin + np.arange(num_frames) * law.frame_shift + spanned / 2).astype(np.float64)


def nearest_frames(law: FrameLaw, num_frames: int, fine: FrameLaw, num_fine: int) -> NDArray[np.int64]:
    """(T,) for each frame of `law` the frame of `fine` whose center is nearest."""
    places = (centers(law, num_frames) - fine.begin - fine.window / 2) / fine.frame_shift
    return np.clip(np.floor(places + 0.5).astype(np.int64), 0, num_fine - 1)


def frame_labels(
    nodes: NDArray[np.int64], graph: PhoneGraph, at: NDArray[np.int64], phones: tuple[str, ...], inventory: Inventory
) -> NDArray[np.int64]:
    """(T,) class ids of the student's frames, which look at the frames `at` of a path.

    A phone's frames go through the states of its HMM by the place they have in it, from the first on, none left out where the frames
    suffice. Of a phone with fewer frames than states the last states are missing.

    Args:
        nodes: (T',) the path at 10 ms.
        phones: of the aligner.
    """
    if not len(at):
        return np.zeros(0, dtype=np.int64)
    table = np.array([inventory.ids([phone]) for phone in phones])
    per_phone = inventory.states_per_phone
    begins = np.r_[True, nodes[1:] != nodes[:-1]]
    starts = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    lengths = np.diff(np.r_[starts, len(nodes)])
    within = (np.arange(len(nodes)) - starts[run] + 0.5) / lengths[run]
    place = ((graph.parts[nodes] + within) / STATES)[at]
    states, occurrence = graph.states[nodes][at], graph.phones[nodes][at]
    labels = np.full(len(at), inventory.ids(["SIL"])[0])
    spoken = states != SILENCE_STATE
    # Frames of one phone lie together; two occurrences of a phone have two numbers.
    edges = np.flatnonzero(np.r_[True, occurrence[1:] != occurrence[:-1], True])
    for first, end in zip(edges[:-1], edges[1:], strict=True):
        if not spoken[first]:
            continue
        number, count = np.arange(end - first), end - first
        least = per_phone - (count - number) if count >= per_phone else np.zeros(count, dtype=np.int64)
        state = np.maximum.accumulate(np.maximum((place[first:end] * per_phone).astype(np.int64), least))
        # From the first state, by one at a time.
        state[0] = 0
        state = np.minimum.accumulate(state - number) + number
        labels[first:end] = table[(states[first] - 1) // STATES][state]
    return labels
