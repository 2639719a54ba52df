"""LibriSpeech: 100 hours with transcripts and 860 without, or all 960 with; see README.md for GPUs and clusters.

python recipes/librispeech/run.py --corpus-dir LibriSpeech --setting 100h device=cuda:0
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from asrkd.cli import run_command
from asrkd.cli.recipe import recipe_command

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from prepare import SETS, prepare  # noqa: E402

if __name__ == "__main__":
    settings = {name: partial(prepare, name) for name in SETS}
    run_command(recipe_command(HERE, settings, ("ctc",), fold_option="--setting", separate=True))
