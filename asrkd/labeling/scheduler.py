"""Which task of an array this is, as the schedulers say it in the environment.

Places only say where a task begins, so none of them can be wrong: what a scheduler does not tell (the number of tasks, the gaps of a list) is left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asrkd.errors import ConfigError


@dataclass(frozen=True)
class ArrayTask:
    """A task's index, from 0, and the number of tasks; None where it is not known."""

    index: int
    count: int | None = None


@dataclass(frozen=True)
class _Scheduler:
    """The variables of a scheduler: the index, and, where it has them, the number of tasks, the lowest and highest index, and the step."""

    index: str
    count: str = ""
    lowest: str = ""
    highest: str = ""
    step: str = ""


_SCHEDULERS = (
    _Scheduler(
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_STEP",
    ),
    _Scheduler("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
    _Scheduler("SGE_TASK_ID", lowest="SGE_TASK_FIRST", highest="SGE_TASK_LAST", step="SGE_TASK_STEPSIZE"),
    _Scheduler("PBS_ARRAY_INDEX"),
    _Scheduler("PBS_ARRAYID"),  # Torque
    _Scheduler("LSB_JOBINDEX"),
    _Scheduler("JOB_COMPLETION_INDEX"),  # Kubernetes
    _Scheduler("SLURM_PROCID", "SLURM_NTASKS"),  # the tasks of srun, where there is no array
)
VARIABLES = tuple(scheduler.index for scheduler in _SCHEDULERS)


def array_task(environment: Mapping[str, str]) -> ArrayTask | None:
    """The place of this task in its array; None outside of one.

    The gaps of a list (`--array=0,1,5`) are not known, so a task of one has no count.

    Raises:
        ConfigError: a variable that is not a number.
    """
    for scheduler in _SCHEDULERS:
        index = _number(environment, scheduler.index)
        if index is None or (scheduler.index == "LSB_JOBINDEX" and index == 0):  # LSF: a job that is not an array
            continue
        lowest, step = _number(environment, scheduler.lowest) or 0, _number(environment, scheduler.step) or 1
        count, highest = _number(environment, scheduler.count), _number(environment, scheduler.highest)
        if highest is not None:
            regular = (highest - lowest) // step + 1
            count = regular if count in (None, regular) else None
        if index < lowest:
            return ArrayTask(index)
        return ArrayTask((index - lowest) // step, count or None)
    return None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    """The value of a variable; None where it is not there, or says that there is nothing (Grid Engine: `undefined`)."""
    value = environment.get(name, "").strip() if name else ""
    if value in ("", "undefined"):
        return None
    if not (value.isascii() and value.isdigit()):
        raise ConfigError(
            f"environment variable {name} is {value!r}, but must be a number from 0; unset it, or give --index and --count"
        )
    return int(value)
