from __future__ import annotations

import pytest

from asrkd.errors import ConfigError
from asrkd.labeling.scheduler import Place, place


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
        (slurm(3, 0, 7, 8), Place(3, 8)),
        (slurm(2, 1, 4, 4), Place(1, 4)),
        (slurm(6, 0, 10, 6, 2), Place(3, 6)),
        (slurm(7, 1, 10, 4, 3), Place(2, 4)),
        (slurm(5, 5, 5, 1), Place(0, 1)),
        (slurm(5, 0, 5, 3), Place(5)),  # --array=0,1,5
        (slurm(9, 0, 9, 4), Place(9)),  # --array=0,3,6,9
        ({"SLURM_ARRAY_TASK_ID": "4"}, Place(4)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "8"}, Place(4, 8)),
        (sge("undefined", "undefined", "undefined", "undefined"), None),
        (sge(1, 1, 8, 1), Place(0, 8)),
        (sge(7, 1, 9, 2), Place(3, 5)),
        (sge(5, 5, 5, 1), Place(0, 1)),
        ({"PBS_ARRAY_INDEX": "3"}, Place(3)),
        ({"PBS_ARRAYID": "3"}, Place(3)),
        ({"LSB_JOBINDEX": "0"}, None),
        ({"LSB_JOBINDEX": "2"}, Place(2)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2"}, Place(2)),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "2", "AWS_BATCH_JOB_ARRAY_SIZE": "10"}, Place(2, 10)),
        ({"JOB_COMPLETION_INDEX": "0"}, Place(0)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, Place(1, 4)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"} | slurm(2, 0, 3, 4), Place(2, 4)),
        ({"SLURM_ARRAY_TASK_ID": "", "JOB_COMPLETION_INDEX": "6"}, Place(6)),
        ({"LSB_JOBINDEX": "0", "JOB_COMPLETION_INDEX": "6"}, Place(6)),
    ],
)
def test_the_place_that_a_scheduler_says(environment: dict[str, str], expected: Place | None) -> None:
    assert place(environment) == expected


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "1e3", "٣"])
def test_a_place_that_is_no_number_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match="environment variable JOB_COMPLETION_INDEX is '"):
        place({"JOB_COMPLETION_INDEX": value})
