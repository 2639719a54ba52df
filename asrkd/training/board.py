"""Figures for TensorBoard, written as they come."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from asrkd.extras import import_optional


class Board:
    """A file of TensorBoard's events in a folder, of figures from a step on; what earlier files there say of later steps is dropped by who reads them.

    `SummaryWriter` hands what it is given to a thread of its own, and an exception that a signal raises just then (SIGTERM, Ctrl-C) can leave that thread waiting for
    two minutes, and whoever closes it, too. This one has no thread.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Raises `DependencyError` where TensorBoard is not installed."""
        import_optional("tensorboard")
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import scalar

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "wb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._event, self._scalar = Event, scalar
        self._write(wall_time=time.time(), file_version="brain.Event:2")
        self._write(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add(self, name: str, value: float, step: int) -> None:
        """One figure of a step."""
        self._write(wall_time=time.time(), step=step, summary=self._scalar(name, value))

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: object) -> None:
        self._records.write(self._event(**fields).SerializeToString())
        self._file.flush()
