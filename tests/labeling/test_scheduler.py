from __future__ import annotations

import pytest

from asrkd.errors import ConfigError
from asrkd.labeling.scheduler import ArrayTask, array_task


def slurm(index: int, lowest: int, highest: int, count: int, step: int = 1) -> dict[str, str]:
    values = {"ID": index, "MIN": lowest, "MAX": highest, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def sge(index: object, first: object, last: object, step: object) -> dict[str, str]:
    values = {"ID": index, "FIRST": first, "LAST": last, "STEPSIZE": step}
    return {f"SGE_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (slurm(3, 0, 7, 8), ArrayTask(3, 8)),
        (slurm(2, 1, 4, 4), ArrayTask(1, 4)),
        (slurm(6, 0, 10, 6, 2), ArrayTask(3, 6)),
        (slurm(7, 1, 10, 4, 3), ArrayTask(2, 4)),
        (slurm(5, 5, 5, 1), ArrayTask(0, 1)),
        (slurm(5, 0, 5, 3), ArrayTask(5)),  # --array=0,1,5
        (slurm(9, 0, 9, 4), ArrayTask(9)),  # --array=0,3,6,9
        ({"SLURM_ARRAY_TASK_ID": "4"}, ArrayTask(4)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "8"}, ArrayTask(4, 8)),
        (sge("undefined", "undefined", "undefined", "undefined"), None),
        (sge(1, 1, 8, 1), ArrayTask(0, 8)),
        (sge(7, 1, 9, 2), ArrayTask(3, 5)),
        (sge(5, 5, 5, 1), ArrayTask(0, 1)),
        ({"PBS_ARRAY_INDEX": "3"}, ArrayTask(3)),
        ({"PBS_ARRAYID": "3"}, ArrayTask(3)),
        ({"LSB_JOBINDEX": "0"}, None),
        ({"LSB_JOBINDEX": "2"}, ArrayTask(2)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2"}, ArrayTask(2)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "10"}, ArrayTask(2, 10)),
        ({"JOB_COMPLETION_INDEX": "0"}, ArrayTask(0)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, ArrayTask(1, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"} | slurm(2, 0, 3, 4), ArrayTask(2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "", "JOB_COMPLETION_INDEX": "6"}, ArrayTask(6)),
        ({"LSB_JOBINDEX": "0", "JOB_COMPLETION_INDEX": "6"}, ArrayTask(6)),
    ],
)
def test_the_place_that_a_scheduler_says(environment: dict[str, str], expected: ArrayTask | None) -> None:
    assert array_task(environment) == expected


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "1e3", "٣"])
def test_a_place_that_is_no_number_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match="environment variable JOB_COMPLETION_INDEX is '"):
        array_task({"JOB_COMPLETION_INDEX": value})
