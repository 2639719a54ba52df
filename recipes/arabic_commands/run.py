"""Arabic Speech Commands: 4 labeled speakers, 14 unlabeled, 6 unseen test speakers, clean and noisy.

python recipes/arabic_commands/run.py --corpus-dir CORPUS --topology hmm --seeds 1,2,3
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
    run_command(recipe_command(HERE, {"": prepare}, ("hmm", "ctc")))
