"""H: from what a model emits frame by frame to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asrkd.errors import ConfigError
from asrkd.sequence.dependency import import_k2

# From state, to state, class, token (0 for none).
TokenArc = tuple[int, int, int, int]


def ctc_topology(num_classes: int) -> Any:
    """The CTC topology over classes 0 (blank) to `num_classes` - 1; token n is class n (Graves et al. 2006).

    A transducer from classes to tokens: repeats collapse, and two equal tokens need a blank between them.
    """
    return import_k2().ctc_topo(max_token=num_classes - 1, modified=False)


def hmm_topology(states: Sequence[Sequence[int]], *, leave_early: bool = False) -> Any:
    """Left-to-right HMMs, each state with a self-loop, from classes to tokens; any token may follow any other.

    Transitions have no costs of their own: hybrid systems get theirs from the posteriors (Bourlard & Morgan 1994).

    Args:
        states: for token n at n - 1, the classes of its states in order.
        leave_early: a token may end after any of its states, so that one frame is enough for it.

    Raises:
        ConfigError: a token without states.
    """
    arcs, ends = hmm_arcs(states, leave_early=leave_early)
    number = max(ends) + 1
    closed = sorted([*arcs, *((end, number, -1, -1) for end in ends)])
    lines = [f"{source} {target} {label} {token} 0" for source, target, label, token in closed]
    k2 = import_k2()
    return k2.arc_sort(k2.Fsa.from_str("\n".join([*lines, str(number)]), aux_label_names=["aux_labels"]))


def hmm_arcs(states: Sequence[Sequence[int]], *, leave_early: bool = False) -> tuple[list[TokenArc], list[int]]:
    """The arcs of `hmm_topology` from state 0 on, and the states to end in.

    Raises:
        ConfigError: a token without states.
    """
    if not states or not all(states):
        raise ConfigError(f"every token needs at least one HMM state; found {list(map(list, states))!r}")
    first, number = [], 1
    for own in states:
        first.append(number)
        number += len(own)
    entries = [(first[n], own[0], n + 1) for n, own in enumerate(states)]
    arcs = [(0, *entry) for entry in entries]
    ends = []
    for n, own in enumerate(states):
        for j, label in enumerate(own):
            state = first[n] + j
            arcs.append((state, state, label, 0))
            if j + 1 < len(own):
                arcs.append((state, state + 1, own[j + 1], 0))
            if leave_early or j + 1 == len(own):
                arcs += [(state, *entry) for entry in entries]
                ends.append(state)
    return arcs, ends


def ctc_arcs(num_classes: int) -> tuple[list[TokenArc], list[int]]:
    """The arcs of `ctc_topology` from state 0 on, and the states to end in: state n is behind a frame of class n."""
    states = range(num_classes)
    return [(a, b, b, b if a != b else 0) for a in states for b in states], list(states)
