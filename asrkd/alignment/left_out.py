"""The utterances of a store that an aligned copy does not have."""

from __future__ import annotations

from collections.abc import Mapping

from asrkd.errors import CorpusError

# This many are named; the quarantine of the copy has all.
MOST_REASONS = 1000
_SHOWN = 20


class LeftOut:
    """Counts utterances that are left out.

    Attributes:
        count: of them.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reasons: dict[str, str] = {}

    def add(self, reasons: Mapping[str, str]) -> None:
        """Count further utterances, each with its reason by id."""
        self.count += len(reasons)
        for key, reason in reasons.items():
            if len(self._reasons) == MOST_REASONS:
                break
            self._reasons[key] = reason

    @property
    def reasons(self) -> dict[str, str]:
        """Reasons of the first 1,000 utterances of the store that are left out, by id in order."""
        return dict(sorted(self._reasons.items()))

    def check(self, total: int, allowed: float) -> None:
        """Refuse to leave out more than the allowed share.

        Raises:
            CorpusError: more are left out.
        """
        if self.count > allowed * total:
            reasons = self.reasons
            names = ", ".join(map(repr, list(reasons)[:_SHOWN])) + (" and others" if self.count > _SHOWN else "")
            raise CorpusError(
                f"{self.count} of {total} utterances cannot be aligned, more than the share of {allowed} that is allowed ({names}); the first: "
                f"{next(iter(reasons.values()))}. Fix the transcripts or the lexicon, or raise --max-unaligned to leave them out"
            )
