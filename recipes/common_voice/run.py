"""One language of Common Voice: 10 or 100 hours with transcripts, the rest without.

python recipes/common_voice/run.py --corpus-dir cv-corpus/de --setting 10h device=cuda:0
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from asrkd.cli import run_command
from asrkd.cli.recipe import recipe_command

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from prepare import prepare  # noqa: E402

HOURS = {"10h": 10.0, "100h": 100.0, "1h": 1.0}

if __name__ == "__main__":
    settings = {name: partial(prepare, hours) for name, hours in HOURS.items()}
    run_command(recipe_command(HERE, settings, ("ctc",), fold_option="--setting", separate=True))
