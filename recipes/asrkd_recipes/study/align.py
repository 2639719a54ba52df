"""Hard labels of a study: a flat start, and rounds of realignment by models that are trained on the labels, as long as dev gains."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

from asrkd import files
from asrkd.alignment.align_store import align_store
from asrkd.corpus.topology import make_topology
from asrkd.errors import ConfigError
from asrkd.report.alignment import write_alignment_report
from asrkd.store import Store, manifest
from asrkd.store.files import Files
from asrkd.training.config import TrainConfig
from asrkd_recipes.study.config import StudyConfig
from asrkd_recipes.study.decode import dev_decoding
from asrkd_recipes.study.jobs import StageProgress, train_all
from asrkd_recipes.study.stores import Stores

_log = logging.getLogger(__name__)


class Alignment:
    """Aligns the sets of a study.

    Args:
        train_config: of a run folder, the training of a model on the labeled set as it is aligned in a round (0: the flat start).
    """

    def __init__(
        self,
        config: StudyConfig,
        stores: Stores,
        train_config: Callable[[Path, int], TrainConfig],
        progress: StageProgress,
    ) -> None:
        self.config, self.stores, self.train_config, self.progress = config, stores, train_config, progress
        self.lexicon = config.tokenizer

    def run(self) -> None:
        """Align what is not aligned yet; nothing to do for a topology that trains on transcripts."""
        if not make_topology(self.config.topology).needs_alignment:
            return
        aligner = self.stores.root("labeled-aligner.npz")
        for name in self.stores.transcribed_sets:
            if name == "dev" and not aligner.exists() and not self._done(name, 0):
                raise ConfigError(
                    f"{str(aligner)!r} does not exist, so dev cannot be aligned as the labeled set was; remove the aligned labeled set "
                    f"({str(self.stores.root('labeled-aligned'))!r}), which another version of asrkd has made, to align it again"
                )
            self._align(name, 0, save=aligner if name == "labeled" else None, saved=aligner if name == "dev" else None)
        if self.config.align_rounds and not self.stores.rounds_file.exists():
            self._rounds()

    def _rounds(self) -> None:
        """Train, realign, and train again, as long as the word error rate on dev falls; then say which round is taken."""
        rates: list[float] = []
        taken, why = 0, ""
        for number in range(self.config.align_rounds + 1):
            run = self.stores.root(f"aligner-{number}")
            train_all({run.name: self.train_config(run, number)}, 1, self.progress)
            # Not the dev loss, whose labels every round changes.
            rates.append(dev_decoding(self.config, f"checkpoint:{run}").rate)
            if number and not rates[number] < rates[number - 1]:
                why = f"round {number} was not better on dev ({rates[number]:.2%} WER, {rates[number - 1]:.2%} before), so it was the last"
                break
            taken = number
            if number < self.config.align_rounds:
                for name in self.stores.transcribed_sets:
                    self._align(name, number + 1, model=f"checkpoint:{run}", leave_early=True)
        why = why or f"each of the {taken} rounds was better on dev than the one before"
        content = {"taken": taken, "why": why, "dev_wer": rates}
        files.write(self.stores.rounds_file, json.dumps(content, indent=1))

    def _done(self, name: str, number: int) -> bool:
        return Files(str(self.stores.aligned(name, number))).exists(manifest.NAME)

    def _align(
        self,
        name: str,
        number: int,
        *,
        save: Path | None = None,
        saved: Path | None = None,
        model: str | None = None,
        leave_early: bool = False,
    ) -> None:
        if self._done(name, number):
            return
        label = f"align {name}" + (f", round {number}" if number else "")
        self.progress(label, 0, None)
        store, out = Store.open(str(self.stores.root(name))), self.stores.aligned(name, number)
        aligned = align_store(
            store,
            str(out),
            self.lexicon,
            rules=self.config.text,
            states_per_phone=self.config.states_per_phone,
            save=save,
            saved=saved,
            model=model,
            leave_early=leave_early,
            progress=lambda what, done, total, seconds: self.progress(
                label if what == "align" else f"{label}, {what}", done, total, seconds=seconds
            ),
        )
        write_alignment_report(out.with_name(f"{out.name}.html"), aligned, store)
        for warning in aligned.summary.warnings():
            _log.warning("%s: %s", label, warning)
