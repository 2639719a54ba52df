"""Spoken coffee orders: natural English of 54 words, 13 minutes labeled, 35 unlabeled.

python recipes/coffee/run.py --corpus-dir CORPUS --topology hmm --seeds 1
"""

from __future__ import annotations

import sys
from pathlib import Path

from asrkd.cli import run_command
from asrkd.cli.recipe import recipe_command

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from prepare import prepare  # noqa: E402

if __name__ == "__main__":
    run_command(recipe_command(HERE, {"": prepare}, ("ctc", "hmm")))
