"""What a command takes, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# The kernel counts a process's most memory from what its parent held when it was started, so a benchmark that has imported torch would add its own. This
# small Python is between the two; it has no other children, so the figures of its children are the command's.
_BETWEEN = """
import json, os, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], file)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds by the clock and of the processors, and the most memory that it had resident."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def cost(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end; its output goes to `log`.

    Raises:
        RuntimeError: it failed.
    """
    figures, began = log.with_suffix(".json"), time.monotonic()
    with open(log, "w") as file:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _BETWEEN, str(figures), *command],
            env={**os.environ, **(environment or {})},
            stdout=file,
            stderr=file,
            check=True,
        )
    seconds = time.monotonic() - began
    code, cpu_seconds, megabytes = json.loads(figures.read_text())
    if code:
        raise RuntimeError(f"{list(command)} failed: {log.read_text()[-800:]}")
    return Cost(seconds, cpu_seconds, megabytes)
