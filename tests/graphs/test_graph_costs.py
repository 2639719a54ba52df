"""Costs of decoding graphs."""

from __future__ import annotations

import kaldifst

from asrkd.graphs import scaled_costs


def test_scaled_costs_are_of_arcs_and_of_states_to_end_in() -> None:
    """All else stays: states in their order, labels, the first state, what does not end."""
    fst = kaldifst.StdVectorFst()
    states = [fst.add_state() for _ in range(3)]
    fst.start = states[1]
    fst.add_arc(states[1], kaldifst.StdArc(1, 2, 0.75, states[0]))
    fst.add_arc(states[1], kaldifst.StdArc(3, 0, 0.0, states[2]))
    fst.add_arc(states[2], kaldifst.StdArc(4, 5, 1.5, states[2]))
    fst.set_final(states[0], 3.0)
    before = fst.to_str(show_weight_one=True, fst_field_separator=" ")
    found = scaled_costs(fst, 2 / 3)
    assert found.to_str(show_weight_one=True, fst_field_separator=" ").splitlines() == [
        "1 0 1 2 0.5", "1 2 3 0 0", "0 2", "2 2 4 5 1"
    ]  # fmt: skip
    assert fst.to_str(show_weight_one=True, fst_field_separator=" ") == before
