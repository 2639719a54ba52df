"""The page of a training: how its losses went, what it ended as, and its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asrkd import config as configs
from asrkd.acoustic.trained import FINAL, TrainedModel
from asrkd.report import html
from asrkd.report.clips import shortened
from asrkd.report.html import Section
from asrkd.report.pictures import Curve, learning_curves
from asrkd.report.tables import Table
from asrkd.training.metrics import read_metrics
from asrkd.training.run_folder import CONFIG


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training."""
    return (folder / CONFIG).is_file()


def write_run_page(path: str | Path, folder: Path) -> Path:
    """Write the page of a finished or unfinished training.

    Raises:
        ConfigError: the folder is not one of a training, or its config cannot be read.
        AsrkdError: the page cannot be written.
    """
    config = configs.read_yaml(folder / CONFIG)
    curves = curves_of(folder)
    sections = [Section("Result", **_result(folder))]
    if curves:
        panels = {name: own for name, own in curves.items() if name != "learning_rate"}
        rate = {"learning rate": curves["learning_rate"]} if "learning_rate" in curves else {}
        figure = learning_curves(
            {"losses": panels, **({"learning rate": rate} if rate else {})}, caption="Means since the line before."
        )
        sections.append(Section("Training", figures=[figure]))
    rows = [[key, value] for key, value in _flat(config)]
    sections.append(Section("Config", tables=[Table(("key", "value"), rows)]))
    return html.write_page(path, "Training", str(folder), sections)


def curves_of(folder: Path) -> dict[str, Curve]:
    """The figures of a training's log by their name, each as updates and values."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in read_metrics(folder):
        for name, value in line.items():
            if name != "step" and not name.endswith("_too_short"):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    return dict(curves)


def _result(folder: Path) -> dict[str, Any]:
    if not (folder / FINAL).exists():
        return {"text": f"Not finished: there is no {FINAL} yet."}
    model = TrainedModel.read(folder)
    facts = dict(model.facts)
    warnings = facts.pop("warnings", ())
    rows = [["model", model.factory], ["classes", f"{len(model.inventory.units):,} ({model.inventory.topology_name})"]]
    if isinstance(facts.get("num_parameters"), int):
        rows.append(["parameters", f"{facts.pop('num_parameters'):,}"])
    if isinstance(facts.get("train_seconds"), int | float):
        rows.append(["training, min", f"{facts.pop('train_seconds') / 60:.1f}"])
    rows += [[name, shortened(str(value), 80)] for name, value in facts.items() if isinstance(value, str | int | float)]
    said = "\n\n".join(f"Warning: {warning}" for warning in warnings)
    return {"text": said, "tables": [Table(("what", "value"), rows)]}


def _flat(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """Keys with their section before them, and values in one line."""
    for key, value in values.items():
        name = f"{place}.{key}" if place else str(key)
        if isinstance(value, Mapping) and value:
            yield from _flat(value, name)
        else:
            yield name, shortened(str(value), 300)
