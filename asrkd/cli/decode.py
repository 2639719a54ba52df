"""`asrkd decode` and `asrkd score`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from asrkd.acoustic import load_model
from asrkd.cli import options
from asrkd.cli.progress import ProgressBar
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.transcripts import speaker_of
from asrkd.decoding.evaluation_set import AcousticScores, EvaluationSet
from asrkd.evaluation import files
from asrkd.evaluation.wer import score as align_words
from asrkd.files import check_folder


@click.command("decode", cls=options.ModelCommand)
@click.argument("model", metavar="SPEC")
@click.argument("cuts")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--name", default="test", help="Names the files: recogs-NAME.txt, errs-NAME.txt, wer-summary-NAME.txt.")
@options.MODEL_DEVICE
@options.with_search
def decode_command(
    model: str,
    cuts: str,
    out: str,
    name: str,
    device: str,
    acoustic_scale: float,
    blank_penalty: float,
    **search_with: Any,
) -> None:
    """Decode CUTS with a model, and score.

    SPEC names the model: the folder of a finished training run, or any of those below.
    """
    folder = Path(out)
    check_folder(folder)
    acoustic_model = load_model(model, device)
    # What cannot be searched or scored is said before the model runs over all the audio.
    acoustic_model.check_prior()
    acoustic_model.check_blank_penalty(blank_penalty)
    search = options.search_of(acoustic_model, device=device, **search_with)
    test_set = EvaluationSet.read(cuts)
    for key in test_set.references:
        files.check_id(key)
    references = search.references(test_set.references)
    scores = AcousticScores(acoustic_model, test_set, acoustic_scale=acoustic_scale, blank_penalty=blank_penalty)
    with ProgressBar() as progress:
        each = progress.each("decode", scores, len(test_set.cuts), lambda: scores.audio_seconds)
        texts = search.texts(each)
    files.write_hypotheses(folder / f"hyp-{name}.txt", texts)
    files.write_hypotheses(folder / f"ref-{name}.txt", references)
    files.write_speakers(folder / f"utt2spk-{name}.txt", test_set.speakers)
    scored = align_words(references, texts, test_set.speakers)
    files.write_scores(folder, name, scored)
    click.echo(files.summary(scored))
    click.echo(
        f"RTFx: model {scores.audio_seconds / max(scores.model_seconds, 1e-9):.0f}, search "
        f"{scores.audio_seconds / max(search.seconds, 1e-9):.0f}"
    )


@click.command("score")
@click.argument("hyp", type=click.Path(dir_okay=False))
@click.argument("ref", type=click.Path(dir_okay=False))
@click.option(
    "--cuts",
    help="Cuts that name each utterance's speaker. Without them the speakers are those of utt2spk-NAME.txt next to REF, where REF is "
    "the ref-NAME.txt of asrkd decode; otherwise each utterance is its own speaker.",
)
def score_command(hyp: str, ref: str, cuts: str | None) -> None:
    """Word error rate of HYP against REF (files of `id word word ...` lines), with its interval over speakers."""
    references, hypotheses = files.read_hypotheses(Path(ref)), files.read_hypotheses(Path(hyp))
    speakers = files.speakers_of(Path(ref))
    if cuts:
        speakers = {cut["id"]: speaker_of(cut) or cut["id"] for cut in iterate_json(cuts)}
        files.check_speakers(references, speakers, what=repr(cuts))
    scored = align_words(references, hypotheses, speakers)
    click.echo(files.summary(scored))
