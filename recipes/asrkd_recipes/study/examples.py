"""Parts of a report that show utterances: what the models believe in some, what the codec kept, and where the distilled student errs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut

from asrkd.acoustic import AcousticModel, load_model
from asrkd.corpus.audio import read_audio
from asrkd.corpus.cuts import iterate, open_cuts
from asrkd.corpus.transcripts import speaker_of, text_of
from asrkd.errors import ConfigError
from asrkd.evaluation.files import read_hypotheses
from asrkd.evaluation.wer import score
from asrkd.report.clips import clip_of_cut, shortened
from asrkd.report.errors import error_sections
from asrkd.report.html import PlayableClip, Section
from asrkd.report.pictures import Figure, posteriorgram
from asrkd.report.store import store_examples
from asrkd.store import Store
from asrkd_recipes.study.results import label_of
from asrkd_recipes.study.run import Study

_UTTERANCES, _WORST = 3, 10


def example_sections(study: Study, models: Mapping[str, AcousticModel]) -> list[Section]:
    """Utterances of the first test set, one of the untranscribed set as it is stored, and the distilled student's errors on every test set."""
    cuts = {test: _cuts(study, test) for test in study.config.tests}
    shown = [
        Section(
            f"Utterance {shortened(cut.id)}",
            clips=[clip_of_cut(f"{speaker_of(cut) or cut.id}: {text_of(cut) or ''}", cut)],
            figures=_posteriorgrams(models, cut),
        )
        for cut in _of_other_speakers(next(iter(cuts.values())))
    ]
    stored = store_examples(Store.open(str(study.soft_store)), 1)
    return [*shown, *stored, *(section for test in cuts for section in _errors(study, test, cuts[test]))]


def _cuts(study: Study, test: str) -> list[Cut]:
    path = study.data / f"{study.config.tests[test]}.jsonl.gz"
    return list(iterate(open_cuts(str(path)), what=str(path)))


def load_models(study: Study) -> dict[str, AcousticModel]:
    """The teacher, and the student that was distilled from it."""
    return {
        "teacher": load_model(study.teacher_spec),
        "student": load_model(f"checkpoint:{study.run_folder('distilled')}"),
    }


def _of_other_speakers(cuts: list[Cut]) -> list[Cut]:
    """The first utterance of each of the first speakers."""
    first: dict[str, Cut] = {}
    for cut in cuts:
        first.setdefault(speaker_of(cut) or cut.id, cut)
    return list(first.values())[:_UTTERANCES]


def _posteriorgrams(models: Mapping[str, AcousticModel], cut: Cut) -> list[Figure]:
    """One of all models, or one of each where their frames or units differ."""
    posteriors = {}
    for name, model in models.items():
        samples = torch.from_numpy(read_audio(cut, model.front_end.sampling_rate))
        features = model.front_end(samples)
        log_probs, lengths = model.log_probs(features[None], torch.tensor([len(features)]))
        posteriors[name] = np.exp(log_probs[0, : int(lengths[0])].numpy())
    together = len({(model.inventory.units, posteriors[name].shape) for name, model in models.items()}) == 1
    figures = []
    for names in [list(models)] if together else [[name] for name in models]:
        model = models[names[0]]
        seconds = model.front_end.frame_law(model.subsampling_factor).frame_shift / model.front_end.sampling_rate
        own = {name: posteriors[name] for name in names}
        try:
            figures.append(posteriorgram(own, list(model.inventory.units), seconds, text_of(cut) or cut.id))
        except ConfigError:  # of no frames
            continue
    return figures


def _errors(study: Study, test: str, cuts: list[Cut]) -> list[Section]:
    search = next(iter(study.config.decoding.all_searches()))
    file: Path = study.work / "results/distilled" / f"hyp-{label_of(test, search).replace(', ', '-')}.txt"
    if not file.exists():  # results of earlier versions
        return []
    by_id = {cut.id: cut for cut in cuts}
    references = {cut.id: study.config.text(text_of(cut) or "") for cut in cuts}
    scored = score(references, read_hypotheses(file), {cut.id: speaker_of(cut) or "" for cut in cuts})

    def clip(key: str, caption: str) -> PlayableClip:
        return clip_of_cut(caption, by_id[key])

    return error_sections(scored, name=f"distilled, {test}", utterances=_WORST, clip=clip)
