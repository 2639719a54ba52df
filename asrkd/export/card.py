"""A Hugging Face model card: error rates, teachers, data, licence and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from asrkd import text
from asrkd.acoustic import AcousticModel
from asrkd.acoustic.trained import FINAL
from asrkd.config import load
from asrkd.errors import AsrkdError, CorpusError, one_line
from asrkd.models import count_parameters
from asrkd.store.card import CardFacts
from asrkd.store.inspect import store_statistics
from asrkd.store.reader import Store
from asrkd.training.config import TrainConfig
from asrkd.training.run_folder import CONFIG

# The first line of a wer-summary-NAME.txt.
_SUMMARY = re.compile(
    r"WER (?P<rate>[\d.]+) % (?P<interval>\[.*?\]|\(.*?\)) over (?P<speakers>\d+) speakers?: .*, (?P<words>\d+) words, (?P<utterances>\d+) utterances"
)


def run_of(spec: str) -> Path | None:
    """The folder of the training run that made a model; None where it is not there, or not known."""
    kind, _, path = spec.partition(":")
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    return folder if kind == "checkpoint" and (folder / CONFIG).is_file() else None


def name_of(model: AcousticModel) -> str:
    """The name of a model's run, or of its file."""
    path = Path(model.spec.rpartition(":")[2])
    return path.parent.name if path.name == FINAL and path.parent.name else path.stem


def model_card(model: AcousticModel, facts: CardFacts | None = None, scores: Sequence[Path] = ()) -> str:
    """The text of a `README.md` for a model that is a network of torch. Teachers and data are those of its training run, where that is there.

    Args:
        facts: what the run does not know of itself; by default the name alone, that of the run or file.
        scores: folders of `asrkd decode`, whose `wer-summary-NAME.txt` are the rows of the table of error rates.

    Raises:
        CorpusError: a folder of scores without one.
    """
    facts = facts or CardFacts(name_of(model))
    network: Any = model.network
    config = config_of(model)
    law = model.front_end.frame_law(model.subsampling_factor)
    frame_ms = 1000 * law.frame_shift / model.front_end.sampling_rate
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
    settings, updates, data, trained = "", "", f"Not known: {config}.\n", ""
    if isinstance(config, TrainConfig):
        settings = f" ({', '.join(f'{name} {value}' for name, value in config.model.args.items()) or 'its defaults'})"
        updates = f"Updates: {' then '.join(f'{phase.steps:,}' for phase in config.schedule)}. "
        data, trained = "".join(_sources(config)), ", trained by asrkd"
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n",
        f"# {facts.name}\n",
        f"{type(network).__name__} of {count_parameters(network) / 1e6:.2f} M parameters{settings}{trained}: a frame every {frame_ms:g} ms, {stream}.\n",
        f"## Intended use\n\n{facts.intended_use or 'Speech recognition of audio like that of its training data (below).'}\n",
        f"## Error rates\n\n{_table(scores)}",
        f"## Training data and teachers\n\n{data}\n{updates}Audio at {model.front_end.sampling_rate} Hz.\n",
        "## Licence\n\n" + "".join(f"- {line}\n" for line in _licences(facts)),
        "## Limits\n\n" + "".join(f"- {line}\n" for line in _limits(model, config, scores)),
    ]
    return "\n".join(parts)


def config_of(model: AcousticModel) -> TrainConfig | str:
    """The configuration of the run that made a model, or why it is not known."""
    run = run_of(model.spec)
    if run is None:
        return "the folder of its training run was not at hand"
    try:
        return load(TrainConfig, run / CONFIG)
    except AsrkdError as error:  # such as that of another version; the model itself can be used
        return f"the {CONFIG} of its run cannot be read ({one_line(error)})"


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


def _limits(model: AcousticModel, config: TrainConfig | str, scores: Sequence[Path]) -> Iterator[str]:
    yield f"It knows {len(model.inventory):,} units (topology `{model.inventory.topology_name}`)" + (
        ", and finds only words of the lexicon that it is given." if model.inventory.topology.needs_prior else "."
    )
    yield "Other languages, accents, rooms and microphones than those of its data were not measured" + (
        "." if scores else ", nor were these."
    )
    if isinstance(config, str):
        return
    if any(source.kind != "labeled" for source in config.sources.values()):
        yield "What a teacher gave it has the teacher's errors."
    if not config.augment.noise:
        yield "It was trained without added noise."
