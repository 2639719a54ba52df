"""The classes of a CTC model as an inventory, whose blank comes first wherever the model has it."""

from __future__ import annotations

from collections.abc import Sequence

from asrkd.corpus.inventory import Inventory
from asrkd.corpus.topology import BLANK
from asrkd.errors import AsrkdError, ModelError


def classes_of(spec: str, labels: Sequence[str], blank: int) -> tuple[Inventory, list[int]]:
    """The inventory with the blank first, and the class of the model's output that each of its units is.

    Raises:
        ModelError: there is no such class, or two have one name.
    """
    if not 0 <= blank < len(labels):
        raise ModelError(
            f"model {spec!r} names {blank} as its blank, but has {len(labels)} classes; correct its config"
        )
    order = [blank, *(number for number in range(len(labels)) if number != blank)]
    try:
        return Inventory((BLANK, *(str(labels[number]) for number in order[1:])), "ctc"), order
    except AsrkdError as error:
        raise ModelError(f"model {spec!r}: {error}") from None
