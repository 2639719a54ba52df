"""speechocean762: natural English of learners, half of them children; 25 speakers labeled (half an hour), 88 unlabeled (2.1 h), 60 unseen test speakers.

python recipes/speechocean762/run.py --corpus-dir CORPUS --seeds 1,2,3
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
    run_command(recipe_command(HERE, {"": prepare}, ("ctc",)))
