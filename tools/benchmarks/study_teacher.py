"""A teacher of the study's shape with random weights, for what depends on shapes alone: `--teacher python:study_teacher:make`."""

from __future__ import annotations

import torch

from asrkd import fingerprint
from asrkd.acoustic import AcousticModel
from asrkd.corpus.front_end import FrontEnd
from asrkd.corpus.inventory import Inventory
from asrkd.models.study import study_teacher

SENONES = 3183


def make() -> AcousticModel:
    """5 x 768 BLSTM over 64 log-mel x 3 frames every 30 ms, 3,183 senones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = study_teacher(num_classes=SENONES)
    units = Inventory(("SIL", *(f"senone-{number}" for number in range(1, SENONES))), "hmm")
    return AcousticModel(network.eval(), FrontEnd(), units, 1, "study", fingerprint.of_json(["study", SENONES]))
