"""Pictures of a report, from plain data. No global state of matplotlib is used, so any thread may draw."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asrkd.errors import ConfigError, MismatchError
from asrkd.extras import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# Dark enough on white to be distinguished in gray, too (after Okabe and Ito).
COLORS = ("#1f4e79", "#d9822b", "#3a8f6f", "#a24d7c", "#6b7280", "#8a7f1f")
WIDTH = 7.0  # inches
WORD_ERROR_RATE = "word error rate"
_DPI = 150
# A unit gets a row of a posteriorgram if its probability ever reaches this.
_LIKELY = 0.2

Curve = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Figure:
    """A picture with its texts.

    Attributes:
        uri: a `data:` URI, so that a page with it needs no other file.
        panels: of a chart, the data of each panel, from which a page draws it again, in a size that can be read on any screen and with the values under the pointer.
    """

    caption: str
    alt: str
    uri: str
    panels: Sequence[Mapping[str, Any]] = ()

    @property
    def png(self) -> bytes:
        """The picture as a file."""
        return base64.b64decode(self.uri.partition(",")[2])


def learning_curves(curves: Mapping[str, Mapping[str, Curve]], *, caption: str = "Losses in training.") -> Figure:
    """One panel for each system, one line for each of its losses.

    Args:
        curves: {system: {loss: (steps, values)}}.

    Raises:
        ConfigError: nothing to draw.
        MismatchError: a curve has more steps than values or fewer.
    """
    drawn: dict[str, dict[str, tuple[NDArray[Any], NDArray[Any]]]] = {}
    for system, losses in curves.items():
        for name, curve in losses.items():
            steps, values = np.asarray(curve[0]), np.asarray(curve[1], dtype=np.float64)
            if len(steps) != len(values):
                raise MismatchError(
                    f"curve {name!r} of {system!r} has {len(steps)} steps and {len(values)} values; give one value for each"
                )
            if len(steps):
                drawn.setdefault(system, {})[name] = (steps, values)
    if not drawn:
        raise ConfigError("the learning curves hold no points, so there is nothing to draw; leave the picture out")
    names = list(dict.fromkeys(name for losses in drawn.values() for name in losses))
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    canvas = empty_canvas(0.4 + 2.4 * rows)
    panels = canvas.subplots(rows, columns, squeeze=False).flat
    for panel, (system, losses) in zip(panels, drawn.items(), strict=False):
        for name, (steps, values) in losses.items():
            mark = "o" if len(steps) == 1 else None
            panel.plot(steps, values, color=_color(names.index(name)), label=plain(name), linewidth=1.4, marker=mark)
        panel.set_title(plain(system), fontsize=10, loc="left")
        panel.set_xlabel("step")
        sober(panel, grid="y")
        panel.legend(frameon=False, fontsize=8)
    for panel in list(canvas.axes)[len(drawn) :]:
        panel.set_axis_off()
    ends = "; ".join(
        f"{system}: " + ", ".join(f"{name} from {v[0]:.3g} to {v[-1]:.3g}" for name, (_, v) in losses.items())
        for system, losses in drawn.items()
    )
    data = [
        {
            "title": system,
            "xlabel": "step",
            "lines": [_line(name, names.index(name), steps, values) for name, (steps, values) in losses.items()],
        }
        for system, losses in drawn.items()
    ]
    return dataclasses.replace(figure(canvas, caption, f"Learning curves. {ends}."), panels=data)


def rate_bars(results: Sequence[tuple[str, str, float, float, float]], *, rate_name: str = WORD_ERROR_RATE) -> Figure:
    """Error rates as bars, grouped by system, with 95 % confidence intervals as whiskers.

    Args:
        results: (system, condition, rate, lower end, upper end); rates as shares, shown in percent. A NaN end draws
            no whisker.
        rate_name: what the rates are.

    Raises:
        ConfigError: no results, or a rate that is not finite.
    """
    if not results:
        raise ConfigError(f"there are no {rate_name}s, so there is nothing to draw; leave the picture out")
    for system, condition, rate, _, _ in results:
        if not math.isfinite(rate):
            raise ConfigError(f"the {rate_name} of {system!r} on {condition!r} is {rate}, which no bar can show")
    systems = list(dict.fromkeys(row[0] for row in results))
    conditions = list(dict.fromkeys(row[1] for row in results))
    height = 0.8 / len(conditions)
    # A bar gets a fixed height in inches, whatever their number.
    canvas = empty_canvas(0.9 + 0.28 * len(systems) * (len(conditions) + 0.7))
    axes = canvas.add_subplot()
    ends = [100 * max(rate, high if math.isfinite(high) else rate) for _, _, rate, _, high in results]
    for number, condition in enumerate(conditions):
        rows = [row for row in results if row[1] == condition]
        at = [systems.index(row[0]) + (number - (len(conditions) - 1) / 2) * height for row in rows]
        rates = [100 * row[2] for row in rows]
        axes.barh(at, rates, 0.9 * height, color=_color(number), label=plain(condition))
        for y, (_, _, rate, low, high) in zip(at, rows, strict=True):
            right = 100 * rate
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([100 * low, 100 * high], [y, y], color="#111827", linewidth=1.1, marker="|", markersize=5)
                right = max(right, 100 * high)
            axes.annotate(
                f"{100 * rate:.1f}", (right, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
            )
    axes.set_yticks(range(len(systems)), [plain(system) for system in systems])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max([*ends, 1e-3]))
    axes.set_xlabel(f"{rate_name}, %")
    axes.tick_params(axis="y", length=0)
    sober(axes, grid="x")
    if len(conditions) > 1:
        canvas.legend(loc="outside upper right", ncols=len(conditions), frameon=False, fontsize=9)
    said = "; ".join(f"{system} on {condition} {100 * rate:.1f} %" for system, condition, rate, _, _ in results)
    bars = [
        {
            "group": system,
            "name": condition,
            "color": _color(conditions.index(condition)),
            "value": 100 * rate,
            **({"low": 100 * low, "high": 100 * high} if math.isfinite(low) and math.isfinite(high) else {}),
        }
        for system, condition, rate, low, high in results
    ]
    panel = {"title": f"{rate_name}, %", "bars": bars}
    rates_name = f"{rate_name.capitalize()}s"
    caption = f"{rates_name}; the whiskers are 95 % confidence intervals."
    return dataclasses.replace(figure(canvas, caption, f"{rates_name}: {said}."), panels=[panel])


def rate_curve(
    points: Sequence[tuple[str, float, float, float, float]], xlabel: str, *, rate_name: str = WORD_ERROR_RATE
) -> Figure:
    """Error rates over an amount, one line for each condition, with 95 % confidence intervals as bands.

    Args:
        points: (condition, amount, rate, lower end, upper end); rates as shares, shown in percent.
        xlabel: what the amount is.
        rate_name: what the rates are.

    Raises:
        ConfigError: no points.
    """
    if not points:
        raise ConfigError(f"there are no {rate_name}s, so there is nothing to draw; leave the picture out")
    canvas = empty_canvas(3.4)
    axes = canvas.add_subplot()
    lines = []
    for number, condition in enumerate(dict.fromkeys(point[0] for point in points)):
        own = sorted(point[1:] for point in points if point[0] == condition)
        amounts, rates, low, high = (np.array(column) for column in zip(*own, strict=True))
        lines.append(
            _line(condition, number, amounts, 100 * rates)
            | {"low": (100 * low).tolist(), "high": (100 * high).tolist()}
        )
        axes.plot(amounts, 100 * rates, color=_color(number), marker="o", markersize=4, label=plain(condition))
        axes.fill_between(amounts, 100 * low, 100 * high, color=_color(number), alpha=0.15, linewidth=0)
    axes.set_xticks(sorted({point[1] for point in points}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(f"{rate_name}, %")
    sober(axes, grid="y")
    canvas.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    said = "; ".join(f"{condition} at {amount:g}: {100 * rate:.1f} %" for condition, amount, rate, _, _ in points)
    panel = {"title": f"{rate_name}, %", "xlabel": xlabel, "lines": lines, "from": 0}
    rates_name = f"{rate_name.capitalize()}s"
    caption = f"{rates_name}; the bands are 95 % confidence intervals."
    return dataclasses.replace(figure(canvas, caption, f"{rates_name} by {xlabel}: {said}."), panels=[panel])


def histogram(values_by_label: Mapping[str, ArrayLike], xlabel: str, *, bins: int = 40, caption: str = "") -> Figure:
    """Outlines of histograms over common bins, each as shares of its own values.

    Raises:
        ConfigError: no values, or values that are not finite.
    """
    values = {label: np.asarray(own, dtype=np.float64).ravel() for label, own in values_by_label.items()}
    values = {label: own for label, own in values.items() if len(own)}
    if not values:
        raise ConfigError(f"the histogram of {xlabel!r} has no values, so there is nothing to draw; leave it out")
    for label, own in values.items():
        if not np.isfinite(own).all():
            raise ConfigError(f"the histogram of {xlabel!r}: {label!r} holds values that are NaN or infinite")
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    canvas = empty_canvas(2.9)
    axes = canvas.add_subplot()
    lines = []
    for number, (label, own) in enumerate(values.items()):
        share = np.histogram(own, edges)[0] / len(own)
        middles = (edges[:-1] + edges[1:]) / 2
        lines.append(_line(label, number, middles, share) | {"summary": f"median {np.median(own):.3g}"})
        axes.stairs(share, edges, color=_color(number), linewidth=1.6, label=plain(label))
        axes.stairs(share, edges, color=_color(number), alpha=0.15, fill=True)
    axes.set_xlabel(plain(xlabel))
    axes.set_ylabel("share")
    axes.set_ylim(bottom=0)
    sober(axes, grid="y")
    if len(values) > 1:
        axes.legend(frameon=False, fontsize=9)
    said = "; ".join(f"{label}: median {np.median(own):.3g}, {len(own)} values" for label, own in values.items())
    panel = {"title": xlabel, "xlabel": "", "lines": lines, "steps": True, "from": 0}
    drawn = figure(canvas, caption or f"Distribution of {xlabel}.", f"Histogram of {xlabel}. {said}.")
    return dataclasses.replace(drawn, panels=[panel])


def reliability(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], xlabel: str, ylabel: str, *, caption: str) -> Figure:
    """How often something is right over how sure a model is of it, one line a model, next to the diagonal.

    Args:
        curves: {model: (mean confidences, shares that are right)}, both in 0..1.

    Raises:
        ConfigError: nothing to draw.
    """
    points = {name: (np.asarray(x, np.float64), np.asarray(y, np.float64)) for name, (x, y) in curves.items()}
    points = {name: pair for name, pair in points.items() if len(pair[0])}
    if not points:
        raise ConfigError(f"there is no {xlabel}, so there is nothing to draw; leave the picture out")
    canvas = empty_canvas(3.4)
    axes = canvas.add_subplot()
    axes.plot([0, 1], [0, 1], color="#9ca3af", linewidth=1, linestyle="--")
    for number, (name, (x, y)) in enumerate(points.items()):
        axes.plot(x, y, color=_color(number), marker="o", markersize=4, label=plain(name))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    sober(axes, grid="y")
    axes.legend(frameon=False, fontsize=9)
    said = "; ".join(
        f"{name}: " + ", ".join(f"{a:.2f} at {b:.2f}" for a, b in zip(y, x, strict=True))
        for name, (x, y) in points.items()
    )
    lines = [_line(name, number, x, y) for number, (name, (x, y)) in enumerate(points.items())]
    panel = {"title": ylabel, "xlabel": xlabel, "lines": lines, "diagonal": True}
    return dataclasses.replace(figure(canvas, caption, f"{ylabel} over {xlabel}. {said}."), panels=[panel])


def posteriorgram(
    posteriors: Mapping[str, ArrayLike], unit_names: Sequence[str], frame_seconds: float, text: str
) -> Figure:
    """What models believe in each frame of one utterance, one above the other.

    Only units that are ever likely (0.2 or more, for any) have a row, in the order of their first likely frame.

    Args:
        posteriors: of each model, by its name, (T, V) probabilities.
        unit_names: V names.
        frame_seconds: frame shift in seconds.
        text: the transcript, for the caption.

    Raises:
        MismatchError: the models differ in shape, or in units from `unit_names`.
        ConfigError: no model, no frames, or no unit is ever likely.
    """
    sides = {name: np.asarray(side, dtype=np.float64) for name, side in posteriors.items()}
    shapes = {name: side.shape for name, side in sides.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 for shape in shapes.values()):
        said = " and ".join(f"{shape} of the {name}" for name, shape in shapes.items())
        raise MismatchError(
            f"posteriorgram: the posteriors have the shapes {said}, but must be (frames, units) of the same utterance"
        )
    frames, units = next(iter(shapes.values()), (0, len(unit_names)))
    if units != len(unit_names):
        raise MismatchError(f"posteriorgram: there are {units} units, but {len(unit_names)} names; give one for each")
    highest = np.max(list(sides.values()), axis=0) if frames else np.zeros((0, units))
    # Models that believe in nothing yet still get a picture: of what they come nearest to believing.
    likely = highest >= min(_LIKELY, float(highest.max(initial=0.0)) / 2) if highest.any() else highest > 0
    shown = [int(unit) for unit in np.flatnonzero(likely.any(axis=0))] if frames else []
    if not shown:
        raise ConfigError(
            f"posteriorgram of {text!r}: no unit is ever likely in {frames} frames; are these probabilities?"
        )
    shown.sort(key=lambda unit: int(np.argmax(likely[:, unit])))
    row = 0.17
    canvas = empty_canvas(0.7 + 0.3 * len(sides) + len(sides) * max(1.1, row * len(shown)))
    panels = list(canvas.subplots(len(sides), 1, sharex=True, squeeze=False).flat)
    for panel, (title, side) in zip(panels, sides.items(), strict=True):
        picture = panel.imshow(
            side[:, shown].T,
            aspect="auto",
            interpolation="nearest",
            cmap="Blues",
            vmin=0.0,
            vmax=1.0,
            extent=(0.0, frames * frame_seconds, len(shown) - 0.5, -0.5),
        )
        panel.set_yticks(range(len(shown)), [plain(unit_names[unit]) for unit in shown], fontsize=8)
        panel.tick_params(axis="y", length=0)
        panel.set_title(plain(title), fontsize=10, loc="left")
    panels[-1].set_xlabel("time, s")
    bar = canvas.colorbar(picture, ax=panels, shrink=0.5, pad=0.01)
    bar.set_label("probability")
    bar.outline.set_visible(False)  # type: ignore[operator]
    said = f"{frames} frames"
    if len(sides) > 1:
        first, *others = (side.argmax(axis=1) for side in sides.values())
        agree = [f"{100 * float(np.mean(first == other)):.0f} %" for other in others]
        said = f"the likeliest unit of {list(sides)[0]} is that of {' and '.join(list(sides)[1:])} in {' and '.join(agree)} of {frames} frames"
    return figure(canvas, f"“{text}”: {said}.", f"Posteriors of {' and '.join(sides)} for “{text}”: {said}.")


def empty_canvas(height: float) -> Canvas:
    """A picture to draw into, as wide as a page and `height` inches high. matplotlib is imported here: most commands draw nothing."""
    canvas: Canvas = import_optional("matplotlib.figure").Figure(figsize=(WIDTH, height), layout="constrained")
    return canvas


def figure(canvas: Canvas, caption: str, alt: str) -> Figure:
    buffer = io.BytesIO()
    # Without the version of matplotlib, which would be a difference between equal reports.
    canvas.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return Figure(caption, alt, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())


def sober(axes: Axes, *, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _line(name: str, color: int, x: NDArray[Any], y: NDArray[Any]) -> dict[str, Any]:
    """A line of a chart's data, with the digits that a screen can show."""
    return {
        "name": name,
        "color": _color(color),
        "x": [float(f"{value:.6g}") for value in x],
        "y": [float(f"{value:.6g}") for value in y],
    }


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]


def plain(text: str) -> str:
    """Text that matplotlib does not take for a formula, nor (a leading underscore) for something to hide."""
    text = text.replace("$", r"\$")
    return "\u200b" + text if text.startswith("_") else text
