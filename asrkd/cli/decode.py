"""`asrkd decode` and `asrkd score`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from asrkd.acoustic import load_model
from asrkd.corpus.cuts import iterate_json
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.corpus.transcripts import speaker_of
from asrkd.decoding.run import DECODERS, compute_scores, decode_scores, read_prior, search_graph
from asrkd.evaluation import files
from asrkd.evaluation.wer import score as align_words
from asrkd.files import check_folder
from asrkd.sequence.dependency import import_k2


@click.command("decode")
@click.argument("run", type=click.Path(exists=True, file_okay=False))
@click.argument("cuts")
@click.argument("out", type=click.Path(file_okay=False))
@click.option("--lexicon", required=True, type=click.Path(dir_okay=False), help="The words to decode into.")
@click.option("--name", default="test", help="Names the files: recogs-NAME.txt, errs-NAME.txt, wer-summary-NAME.txt.")
@click.option(
    "--grammar",
    type=click.Path(dir_okay=False),
    help="ARPA language model; default: a loop of the lexicon's words. Needs k2.",
)
@click.option("--decoder", type=click.Choice(DECODERS), default="kaldi", help="Who searches the graph.")
@click.option("--beam", default=24.0, help="Beam of the graph decoder, in nats.")
@click.option("--max-active", default=7000, help="States kept a frame.")
@click.option("--insertion-penalty", default=0.0, help="Cost of every word, in nats.")
@click.option("--acoustic-scale", default=1.0, help="Multiplies the acoustic scores.")
@click.option(
    "--leave-early", is_flag=True, help="Let an hmm phone end after any of its states: one frame is enough for it."
)
def decode_command(
    run: str,
    cuts: str,
    out: str,
    lexicon: str,
    name: str,
    grammar: str | None,
    decoder: str,
    beam: float,
    max_active: int,
    insertion_penalty: float,
    acoustic_scale: float,
    leave_early: bool,
) -> None:
    """Decode CUTS with the finished training run RUN through a loop of the lexicon's words or a grammar, and score."""
    folder = Path(out)
    check_folder(folder)
    if decoder == "k2":
        import_k2()
    model = load_model(f"checkpoint:{run}")
    # What cannot be searched is said before the model runs over all the audio.
    graph = search_graph(
        read_tokenizer(lexicon),
        model.inventory,
        grammar=grammar,
        insertion_penalty=insertion_penalty,
        leave_early=leave_early,
    )
    for cut in iterate_json(cuts):
        files.check_id(cut["id"])
    scores = compute_scores(model, cuts)
    began = time.perf_counter()
    texts = decode_scores(
        scores,
        model,
        graph,
        log_prior=read_prior(run),
        beam=beam,
        max_active=max_active,
        decoder=decoder,
        acoustic_scale=acoustic_scale,
    )
    searched = time.perf_counter() - began
    files.write_hypotheses(folder / f"hyp-{name}.txt", texts)
    files.write_hypotheses(folder / f"ref-{name}.txt", scores.references)
    files.write_speakers(folder / f"utt2spk-{name}.txt", scores.speakers)
    scored = align_words(scores.references, texts, scores.speakers)
    files.write_scores(folder, name, scored)
    click.echo(files.summary(scored))
    click.echo(
        f"RTFx: model {scores.audio_seconds / max(scores.model_seconds, 1e-9):.0f}, graph and search "
        f"{scores.audio_seconds / max(searched, 1e-9):.0f}"
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
