"""Free Spoken Digit Dataset: connected English digits, two speakers labeled, three unlabeled, one left out for the test.

python recipes/fsdd/run.py --corpus-dir CORPUS --test-speaker theo
python recipes/fsdd/run.py --corpus-dir CORPUS --test-speaker all
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from asrkd.cli import run_command
from asrkd.cli.recipe import recipe_command

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from prepare import SPEAKERS, prepare  # noqa: E402

if __name__ == "__main__":
    folds = {speaker: partial(prepare, speaker) for speaker in SPEAKERS}
    run_command(recipe_command(HERE, folds, ("hmm", "ctc"), fold_option="--test-speaker"))
