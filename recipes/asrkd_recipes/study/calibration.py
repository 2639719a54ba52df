"""The part of a report that says whether the teacher and its student are as often right on dev as they are sure."""

from __future__ import annotations

from collections.abc import Mapping

from asrkd.acoustic import AcousticModel
from asrkd.alignment.calibration import calibration_of
from asrkd.corpus.tokenizer import read_tokenizer
from asrkd.decoding.evaluation_set import EvaluationSet
from asrkd.errors import CorpusError
from asrkd.report.html import Section
from asrkd.report.pictures import reliability
from asrkd.report.tables import Table
from asrkd_recipes.study.run import Study


def calibration_section(study: Study, models: Mapping[str, AcousticModel]) -> Section:
    """A reliability diagram over the frames of dev, and its figures."""
    dev = EvaluationSet.read(str(study.data / "dev.jsonl.gz"))
    rows, curves, notes = [], {}, []
    for name, model in models.items():
        words = None if model.tokenizer else read_tokenizer(study.config.tokenizer, study.config.text)
        try:
            one = calibration_of(model, dev, words)
        except CorpusError as error:
            notes.append(f"{name}: {error}.")
            continue
        curves[name] = one.curve()
        shares = (one.accuracy, one.mean_confidence, one.error)
        rows.append([name, f"{one.frames.sum():,}", *(f"{100 * share:.1f}" for share in shares), f"{one.left_out}"])
    columns = ("model", "frames", "right, %", "confidence, %", "calibration error, points", "utterances left out")
    text = (
        "The confidence of a frame is the probability of its likeliest class, and it is right if that is the class of the transcript's best path through "
        "the model's own scores. Above the diagonal a model is right more often than it is sure, below it less often: there its soft targets teach with too "
        "much certainty."
    )
    caption = "Frames of dev in ten bins by confidence; bins without frames are left out."
    return Section(
        "The teacher's calibration on dev",
        "\n\n".join([text, *notes]),
        [Table(columns, rows)] if rows else (),
        [reliability(curves, "mean confidence", "share of right frames", caption=caption)] if curves else (),
    )
