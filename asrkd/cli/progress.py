"""Progress of a long command: a bar on a terminal (tqdm), plain lines every so often elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class ProgressBar:
    """One bar at a time: `show(label, done, total, note)`. In a `with` statement it ends with the block.

    Hours of audio, speed and time left are counted from the first call with a label, so that what an earlier run did does not count, and again from one that is behind it.

    Args:
        every_seconds: between two lines, where there is no terminal.
        quiet_seconds: nothing is said before: for what is usually done by then.
    """

    def __init__(self, *, every_seconds: float = 10.0, quiet_seconds: float = 0.0) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = every_seconds
        self._quiet_until = time.monotonic() + quiet_seconds
        self._began = self._last = self._shown = time.monotonic()
        self._label: tuple[str, int | None] | None = None
        self._first, self._since = (0, 0.0), self._began
        self._said = ""
        self._bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def show(
        self,
        label: str,
        done: int,
        total: int | None,
        note: Mapping[str, object] | str = "",
        *,
        seconds: float | None = None,
        num_bytes: int | None = None,
    ) -> None:
        """Say how far `label` has come.

        Args:
            total: None where nobody knows it; with a `done` of 0 only the label is said.
            note: further facts.
            seconds: of audio so far.
            num_bytes: read or written so far.
        """
        now = time.monotonic()
        is_new = self._label != (label, total)
        if is_new:
            self.close()
            if self._label is not None:
                self._began = self._shown
        if is_new or done < self._first[0]:  # a training that resumes goes back to its checkpoint
            self._label, self._first, self._since = (label, total), (done, seconds or 0.0), now
            if self._bar is not None:
                self._bar.initial = done
        self._shown = now
        if now < self._quiet_until:
            return
        facts = (
            [] if seconds is None else [f"{seconds / 3600:.2f} h", f"{self._speed(now, done, seconds):.0f} x real time"]
        )
        facts += [] if num_bytes is None else [f"{num_bytes / 1e6:.1f} MB"]
        facts += [note if isinstance(note, str) else " ".join(map(_named, note, note.values()))]
        text = ", ".join(filter(None, facts))
        if self._terminal:
            if self._bar is None:
                self._bar = tqdm(total=total, desc=label, initial=done, leave=True, dynamic_ncols=True)
            self._bar.n = done
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh()
        elif is_new or (total is not None and done >= total) or now - self._last >= self._every:
            of = str(done) if total is None else f"{done}/{total}"
            left = self._left(now, done, total)
            line = f"{label}: {', '.join(filter(None, [of if done or total else '', text, left]))}".removesuffix(": ")
            if line != self._said:
                self._last, self._said = now, line
                print(line, file=sys.stderr, flush=True)

    def each(
        self, label: str, items: Iterable[T], total: int | None, seconds: Callable[[], float] | None = None
    ) -> Iterator[T]:
        """The items, one after the other; `seconds` says how much audio they were so far."""
        for done, item in enumerate(items, 1):
            yield item
            self.show(label, done, total, seconds=seconds() if seconds else None)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _speed(self, now: float, done: int, seconds: float) -> float:
        """Seconds of audio a second: since the first call if there was more since, else since the beginning."""
        if done == self._first[0] or seconds == self._first[1]:
            return seconds / max(now - self._began, 1e-9)
        return (seconds - self._first[1]) / max(now - self._since, 1e-9)

    def _left(self, now: float, done: int, total: int | None) -> str:
        if total is None or done >= total or done == self._first[0]:
            return ""
        return f"{tqdm.format_interval((total - done) * (now - self._since) / (done - self._first[0]))} left"


def _named(key: str, value: object) -> str:
    return f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"


class PlanProgress:
    """Shows planning, and how fast it was."""

    def __init__(self) -> None:
        self._progress, self._began = ProgressBar(quiet_seconds=1.0), time.monotonic()

    def __call__(self, cuts: int, hours: float) -> None:
        self._progress.show("plan", cuts, None, f"{hours:.2f} h, {self.rate(cuts):.0f} cuts/s")

    def rate(self, cuts: int) -> float:
        return cuts / max(time.monotonic() - self._began, 1e-9)

    def close(self) -> None:
        self._progress.close()
