"""Speakers who come later: what a student that continues with them knows of those it learned from first.

The student `speakers-7` has learned from seven untranscribed speakers. `later-alone` continues from it with the seven others, `later-with-first` with all
fourteen and the labeled set (variants of variants/lifelong.yaml). Their words are known for the upper bound's sake; here they are decoded:

python recipes/arabic_commands/run.py --topology hmm --seeds 1,2 --variants recipes/arabic_commands/variants/lifelong.yaml --stage students --stop-stage decode
python recipes/arabic_commands/lifelong.py --seeds 1,2
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import torch
import yaml
from lhotse import CutSet

from asrkd.acoustic import load_model
from asrkd.cli import run_command
from asrkd.corpus.lexicon import Lexicon
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.decoding.search import Search
from asrkd.errors import ConfigError
from asrkd.evaluation.wer import Errors, bootstrap, bootstrap_difference, by_speaker, score
from asrkd.report.tables import markdown_table
from asrkd_recipes.study.tables import percent, rate

SYSTEMS = ("speakers-7", "later-alone", "later-with-first")
CUTS_PER_SPEAKER = 40


@click.command(context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option(
    "--exp", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path(__file__).parent / "exp"
)
@click.option("--topology", default="hmm")
@click.option("--seeds", default="1")
def lifelong(exp: Path, topology: str, seeds: str) -> None:
    """Word error rates on the speakers that came first and on those that came later."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, dict[str, list[Errors]]]] = {}
    for seed in seeds.split(","):
        work = exp / topology / f"seed-{seed}"
        for (system, group), errors in of_seed(exp / "data", work).items():
            pooled = found.setdefault(group, {}).setdefault(system, {})
            for speaker, own in errors.items():
                pooled.setdefault(speaker, []).append(own)
    rows = []
    for group, systems in found.items():
        for system, errors in systems.items():
            low, high = bootstrap(errors)
            cells = [group, system, f"{percent(rate(errors))} [{percent(low)}, {percent(high)}]", "-"]
            if system != SYSTEMS[0]:
                difference, _ = bootstrap_difference(errors, systems[SYSTEMS[0]])
                cells[3] = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in difference))
            rows.append(cells)
    click.echo(
        markdown_table(["speakers", "student", "WER % [95 %]", f"difference to {SYSTEMS[0]}, points [95 %]"], rows)
    )


def of_seed(data: Path, work: Path) -> dict[tuple[str, str], dict[str, Errors]]:
    """Errors by (system, group of speakers), by speaker."""
    runs = {system: work / "runs" / system for system in SYSTEMS}
    missing = [str(run) for run in runs.values() if not (run / "final.pt").exists()]
    if missing:
        raise ConfigError(f"{missing[0]!r} is not trained; run run.py with --variants variants/lifelong.yaml first")
    first = set(
        yaml.safe_load((runs[SYSTEMS[0]] / "config.yaml").read_text(encoding="utf-8"))["sources"]["soft"]["speakers"]
    )
    known = {cut.id for cut in CutSet.from_file(data / "unlabeled.jsonl.gz")}
    counts: dict[str, int] = {}
    cuts = []
    for cut in CutSet.from_file(data / "transcribed.jsonl.gz"):
        speaker = cut.supervisions[0].speaker
        if cut.id in known and counts.setdefault(speaker, 0) < CUTS_PER_SPEAKER:
            counts[speaker] += 1
            cuts.append(cut)
    path = work / "lifelong.jsonl.gz"
    CutSet.from_cuts(cuts).to_file(path)
    lexicon, found = Lexicon.read(data / "lexicon.txt"), {}
    for system, run in runs.items():
        model = load_model(f"checkpoint:{run}")
        chosen = json.loads((work / "results" / system / "result.json").read_text(encoding="utf-8"))
        test_set = EvaluationSet.read(str(path))
        search = Search(lexicon, model, insertion_penalty=chosen["insertion_penalty"])
        texts = search.texts(AcousticScores(model, test_set, acoustic_scale=0.4))
        for speaker, errors in by_speaker(score(test_set.references, texts, test_set.speakers)).items():
            found.setdefault((system, "first" if speaker in first else "later"), {})[speaker] = errors
    return found


if __name__ == "__main__":
    run_command(lifelong)
