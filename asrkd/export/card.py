"""A Hugging Face model card of a training run: error rates, teachers, data, licence and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from asrkd import text
from asrkd.acoustic.trained import FINAL, TrainedModel
from asrkd.config import load
from asrkd.errors import AsrkdError, CorpusError, ModelError
from asrkd.models import build_model, count_parameters
from asrkd.store.card import CardFacts
from asrkd.store.inspect import store_statistics
from asrkd.store.reader import Store
from asrkd.training.config import TrainConfig
from asrkd.training.run_folder import CONFIG

# The first line of a wer-summary-NAME.txt.
_SUMMARY = re.compile(
    r"WER (?P<rate>[\d.]+) % (?P<interval>\[.*?\]|\(.*?\)) over (?P<speakers>\d+) speakers?: .*, (?P<words>\d+) words, (?P<utterances>\d+) utterances"
)


def model_card(run: Path, facts: CardFacts, scores: Sequence[Path] = ()) -> str:
    """The text of a `README.md` for a model.

    Args:
        run: the folder of a finished training.
        facts: what the run does not know of itself.
        scores: folders of `asrkd decode`, whose `wer-summary-NAME.txt` are the rows of the table of error rates.

    Raises:
        ModelError: the folder does not hold a finished run.
        CorpusError: a folder of scores without one.
    """
    if not (run / CONFIG).is_file():
        raise ModelError(
            f"{str(run)!r} is not the folder of a training run: it holds no config.yaml; give the folder that asrkd train wrote"
        )
    trained, config = TrainedModel.read(run / FINAL), load(TrainConfig, run / CONFIG)
    network = build_model(
        trained.factory, trained.args, input_dim=trained.front_end.feature_dim, num_classes=len(trained.inventory)
    )
    law = trained.front_end.frame_law(trained.subsampling_factor)
    frame_ms = 1000 * law.frame_shift / trained.front_end.sampling_rate
    delay = getattr(network, "output_delay", None)
    front = {
        "model_name": facts.name,
        **({"license": facts.license} if facts.license else {}),
        **({"language": list(facts.languages)} if facts.languages else {}),
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["asrkd", "knowledge-distillation", *(["streaming"] if delay is not None else [])],
    }
    stream = (
        f"it streams, {delay * frame_ms:g} ms behind the audio" if delay is not None else "it reads whole utterances"
    )
    settings = ", ".join(f"{name} {value}" for name, value in trained.args.items()) or "its defaults"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n",
        f"# {facts.name}\n",
        f"{type(network).__name__} of {count_parameters(network) / 1e6:.2f} M parameters ({settings}), trained by asrkd: a frame every {frame_ms:g} ms, {stream}.\n",
        f"## Intended use\n\n{facts.intended_use or 'Speech recognition of audio like that of its training data (below).'}\n",
        f"## Error rates\n\n{_table(scores)}",
        f"## Training data and teachers\n\n{''.join(_sources(config))}\n"
        f"Updates: {' then '.join(f'{phase.steps:,}' for phase in config.schedule)}. Audio at {trained.front_end.sampling_rate} Hz.\n",
        "## Licence\n\n" + "".join(f"- {line}\n" for line in _licences(facts)),
        "## Limits\n\n" + "".join(f"- {line}\n" for line in _limits(trained, config, scores)),
    ]
    return "\n".join(parts)


def _table(scores: Sequence[Path]) -> str:
    rows = [row for folder in scores for row in _rows(folder)]
    if not rows:
        return "Not measured: give `--scores`, folders that `asrkd decode` wrote.\n"
    head = "| test set | word error rate, % | 95 % interval over speakers | speakers | utterances | words |\n|---|---:|---|---:|---:|---:|\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(folder: Path) -> Iterator[tuple[str, ...]]:
    paths = sorted(folder.glob("wer-summary-*.txt"))
    if not paths:
        raise CorpusError(
            f"folder {str(folder)!r} holds no wer-summary-NAME.txt, so there are no error rates to show; give the OUT of asrkd decode"
        )
    for path in paths:
        name = path.stem.removeprefix("wer-summary-")
        found = _SUMMARY.match(text.read(path, what=f"file {str(path)!r}", error=CorpusError))
        if found is None:
            raise CorpusError(f"file {str(path)!r} does not begin with a word error rate; decode again")
        yield name, found["rate"], found["interval"], found["speakers"], found["utterances"], found["words"]


def _sources(config: TrainConfig) -> Iterator[str]:
    for name, source in config.sources.items():
        try:
            store = Store.open(source.store, source.snapshot)
            statistics, teacher = store_statistics(store), store.identity.teacher
        except (AsrkdError, OSError):
            yield f"- `{name}` ({source.kind}): its store is not here any more.\n"
            continue
        amount = f"{statistics['utterances']:,} utterances, {statistics['hours']:.2f} hours"
        learned = f"targets of the teacher `{teacher}`" if teacher else "transcripts"
        yield f"- `{name}` ({source.kind}): {amount}, {learned}.\n"


def _licences(facts: CardFacts) -> Iterator[str]:
    yield f"Model: {f'`{facts.license}`' if facts.license else 'not stated; ask whoever trained it'}."
    if facts.source:
        yield f"Source of the audio: {facts.source}."
    if facts.teacher_license:
        yield f"Teacher: `{facts.teacher_license}`."


def _limits(trained: TrainedModel, config: TrainConfig, scores: Sequence[Path]) -> Iterator[str]:
    yield f"It knows {len(trained.inventory):,} units (topology `{trained.inventory.topology_name}`)" + (
        ", and finds only words of the lexicon that it is given." if trained.inventory.topology.needs_prior else "."
    )
    yield "Other languages, accents, rooms and microphones than those of its data were not measured" + (
        "." if scores else ", nor were these."
    )
    if any(source.kind != "labeled" for source in config.sources.values()):
        yield "What a teacher gave it has the teacher's errors."
    if not config.augment.noise:
        yield "It was trained without added noise."
