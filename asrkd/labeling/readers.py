"""Processes that read ahead of the teacher, and that can be killed when a decoder hangs or dies."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import torch

from asrkd.corpus.waveform import AnyFrontEnd
from asrkd.errors import AsrkdError, ConfigError
from asrkd.labeling.reading import NO_LIMIT, CutBatch, CutJson, LengthLimit, SampleInput, read_batch
from asrkd.labeling.stop import follow_the_parent
from asrkd.processes import ended, exit_code, starting
from asrkd.store.embedding import Embedding

Tag = TypeVar("Tag")
# How often a waiting parent looks whether it was closed.
_POLL_SECONDS = 0.2
# For the imports of a new process, besides the time for reading.
_START_SECONDS = 120.0


class Readers(Generic[Tag]):
    """Reads batches of cuts in order, each by one of `processes`, which work ahead of the consumer.

    Args:
        front_end: makes the features.
        embedding: what rows carry.
        processes: 0 reads in the calling thread, where nothing helps against a decoder that hangs.
        seconds: timeout for reading a batch. Then, or when the process dies, its cuts are read one by one and the one that is to
            blame is bad.
        samples: what is read for a text teacher.
        limit: the longest cut that is read.
    """

    def __init__(
        self,
        front_end: AnyFrontEnd,
        embedding: Embedding,
        *,
        processes: int,
        seconds: float,
        samples: SampleInput | None = None,
        limit: LengthLimit = NO_LIMIT,
    ) -> None:
        if processes < 0:
            raise ConfigError(f"readers is {processes}, but must be at least 0")
        if not seconds > 0:
            raise ConfigError(f"read_seconds is {seconds}, but must be above 0")
        self._what, self._seconds = (front_end, embedding, samples, limit), seconds
        self._closed = False
        self._readers = [_Reader(*self._what) for _ in range(processes)]

    def read(self, work: Iterable[tuple[Tag, Sequence[CutJson]]]) -> Iterator[tuple[Tag, CutBatch]]:
        """Read what `work` gives, with its tags, in its order."""
        if not self._readers:
            for tag, cuts in work:
                yield tag, read_batch(cuts, *self._what)
            return
        iterator = iter(work)
        waiting: deque[tuple[int, Tag, Sequence[CutJson]]] = deque()

        def give(number: int) -> None:
            # One batch at a time: a process that is still sending its last one would not take the next.
            for tag, cuts in iterator:
                waiting.append((number, tag, cuts))
                self._readers[number].send(cuts)
                return

        for number in range(len(self._readers)):
            give(number)
        while waiting:
            number, tag, cuts = waiting.popleft()
            batch = self._receive(number, cuts)
            give(number)
            yield tag, batch

    def close(self) -> None:
        """Kill the processes."""
        self._closed = True
        for reader in self._readers:
            reader.process.kill()

    def _receive(self, number: int, cuts: Sequence[CutJson]) -> CutBatch:
        try:
            return self._wait(number)
        except _Failed:
            pass
        self._renew(number)
        whole = CutBatch([], {})
        for cut in cuts:
            self._readers[number].send([cut])
            try:
                one = self._wait(number)
                whole.heard.extend(one.heard)
                whole.bad.update(one.bad)
            except _Failed as failed:
                whole.bad[cut["id"]] = f"cut {cut['id']!r}: {failed}; repair the recording or leave the cut out"
                self._renew(number)
        return whole

    def _wait(self, number: int) -> CutBatch:
        reader = self._readers[number]
        if not reader.ready:
            try:
                self._poll(reader, _START_SECONDS)
                reader.receive()
            except _Failed as failed:
                if self._closed:
                    raise RuntimeError("the readers were closed") from None
                code = reader.process.exitcode
                why = f"never began: {failed}" if code is None else ended(code)
                raise AsrkdError(f"a reader process {why}. Without processes: --readers 0") from None
            reader.ready = True
        self._poll(reader, self._seconds)
        return reader.receive()

    def _poll(self, reader: _Reader, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not reader.connection.poll(_POLL_SECONDS):
            if self._closed:
                raise RuntimeError("the readers were closed")
            if time.monotonic() > until:
                raise _Failed(f"reading it took more than {seconds:g} s")

    def _renew(self, number: int) -> None:
        self._readers[number].kill()
        if self._closed:
            raise RuntimeError("the readers were closed")
        self._readers[number] = _Reader(*self._what)


class _Failed(Exception):
    """A reader hangs or is dead."""


class _Reader:
    """A process that answers batches of cuts."""

    def __init__(self, *what: Any) -> None:
        """`what`: the arguments of `read_batch` after the cuts."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.ready = False
        self.process = context.Process(target=_serve, args=(theirs, *what), daemon=True)
        with starting():
            self.process.start()
        # Else the end of the process would not be seen here, nor that of this one there.
        theirs.close()

    def send(self, cuts: Sequence[CutJson]) -> None:
        try:
            self.connection.send(list(cuts))
        except OSError:
            pass  # it is dead, which `receive` will tell

    def receive(self) -> CutBatch:
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            code = exit_code(self.process, _START_SECONDS)
            raise _Failed(f"the process that read it died (exit code {code})") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, *what: Any) -> None:
    follow_the_parent()
    torch.set_num_threads(1)
    answer: CutBatch | Exception = CutBatch([], {})  # the imports are done
    while True:
        try:
            connection.send(answer)
            cuts = connection.recv()
        except (EOFError, OSError):
            return  # the parent is gone
        try:
            answer = read_batch(cuts, *what)
        except Exception as error:
            answer = error
