"""Progress on a terminal (tqdm), or a log line every so often elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm


class ProgressBar:
    """One bar at a time: `show(label, done, total, note)`."""

    def __init__(self, *, every_seconds: float = 10.0) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = every_seconds
        self._last = 0.0
        self._label = ""
        self._bar: tqdm | None = None

    def show(self, label: str, done: int, total: int | None, note: Mapping[str, object] | str = "") -> None:
        """Say how far `label` has come; `total` is None where nobody knows it."""
        text = (
            note
            if isinstance(note, str)
            else " ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in note.items())
        )
        if self._terminal:
            if self._bar is None or label != self._label:
                self.close()
                self._bar = tqdm(total=total, desc=label, leave=True, dynamic_ncols=True)
            self._bar.total = total
            self._bar.n = done
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh()
        elif (
            (total is not None and done >= total)
            or label != self._label
            or time.monotonic() - self._last >= self._every
        ):
            self._last = time.monotonic()
            of = "" if total is None else f"/{total}"
            print(f"{label}: {done}{of} {text}".rstrip(), file=sys.stderr, flush=True)
        self._label = label

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class PlanProgress:
    """Shows planning, and how fast it was."""

    def __init__(self) -> None:
        self._progress, self._began = ProgressBar(), time.monotonic()

    def __call__(self, cuts: int, hours: float) -> None:
        if time.monotonic() - self._began > 1:  # a small corpus is planned before anyone looks
            self._progress.show("plan", cuts, None, f"{hours:.2f} h, {self.rate(cuts):.0f} cuts/s")

    def rate(self, cuts: int) -> float:
        return cuts / max(time.monotonic() - self._began, 1e-9)

    def close(self) -> None:
        self._progress.close()
