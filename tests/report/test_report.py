from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import numpy as np
import pytest

from asrkd.errors import ConfigError, MismatchError
from asrkd.report import html, pictures
from asrkd.report.html import Section
from asrkd.report.tables import Table, html_table, markdown_table, text_table

NAMES = [f"unit{n}" for n in range(6)]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def figures() -> list[pictures.Figure]:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(6, 0.2), 30)
    return [
        pictures.learning_curves({"student": {"soft": ([1, 2], [3.0, 2.0]), "dev": ([2], [2.5])}}),
        pictures.rate_bars([("a", "clean", 0.2, 0.1, 0.3), ("a", "noisy", 0.4, 0.3, 0.5)]),
        pictures.histogram({"all": rng.normal(size=100)}, "entropy"),
        pictures.posteriorgram({"teacher": probs, "student": probs}, NAMES, 0.03, "some words"),
    ]


def test_a_page_is_one_file_with_everything_escaped(tmp_path: Path) -> None:
    own = figures()
    sections = [Section("<b>Result</b>", "One & two", [Table(["system", "WER"], [["<i>x</i>", "12.3"]])], own)]
    path = html.write_page(tmp_path / "deep/report.html", "<script>alert(1)</script>", "intro", sections)
    page = Page(path.read_text(encoding="utf-8"))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert [image["src"] for image in images] == [figure.uri for figure in own]
    assert all(image["alt"] for image in images)
    # The page's own script, which its policy names by its hash, and the data of the charts.
    scripts = re.findall(r"<script>(.*?)</script>", path.read_text(encoding="utf-8"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert len(scripts) == 1 and policy and policy.endswith(f"script-src 'sha256-{digest}'")
    charts = [figure for figure in own if figure.panels]
    assert len(charts) == 3
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"type": "application/json"}] * len(charts) + [{}]
    assert not any(tag == "i" for tag, _ in page.tags)
    assert not [a for tag, attrs in page.tags for a in attrs.values() if a and re.match(r"(https?:)?//", a)]
    assert "12.3" in page.text and "<script>alert(1)</script>" in "".join(page.text)


def test_a_page_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError):
        html.write_page(tmp_path / "report.html", "t", "i", [object()])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_the_same_data_gives_the_same_pictures() -> None:
    assert figures() == figures()


def test_models_that_believe_in_nothing_yet_get_a_picture() -> None:
    flat = np.full((4, 6), 1 / 60)
    assert pictures.posteriorgram({"teacher": flat, "student": flat}, NAMES, 0.03, "x").uri.startswith("data:image/")


def test_what_cannot_be_drawn_is_refused() -> None:
    probs = np.full((4, 6), 1 / 6)
    with pytest.raises(MismatchError, match=r"\(4, 6\).*\(3, 6\)"):
        pictures.posteriorgram({"teacher": probs, "student": probs[:3]}, NAMES, 0.03, "x")
    with pytest.raises(MismatchError, match="6 units, but 5 names"):
        pictures.posteriorgram({"teacher": probs}, NAMES[:5], 0.03, "x")
    with pytest.raises(ConfigError, match="no unit is ever likely"):
        pictures.posteriorgram({"teacher": probs * 0}, NAMES, 0.03, "x")
    with pytest.raises(ConfigError):
        pictures.learning_curves({})
    with pytest.raises(ConfigError, match="'a' on 'clean' is nan"):
        pictures.rate_bars([("a", "clean", float("nan"), 0.0, 0.0)])
    with pytest.raises(ConfigError, match="no values"):
        pictures.histogram({}, "entropy")


def test_tables_hold_every_cell() -> None:
    columns, rows = ["system", "WER"], [["a|b", "1.5"], ["c", "20.0"]]
    for table in (text_table(columns, rows), markdown_table(columns, rows), str(html_table(columns, rows))):
        assert all(cell in table for cell in ("system", "WER", "1.5", "20.0"))
    assert "a\\|b" in markdown_table(columns, rows)
    with pytest.raises(ConfigError):
        text_table(columns, [["only one"]])


def test_rates_over_an_amount() -> None:
    points = [("clean", 14.0, 0.1, 0.05, 0.2), ("clean", 0.0, 0.3, 0.2, 0.4), ("noisy", 0.0, 0.5, 0.4, 0.6)]
    figure = pictures.rate_curve(points, "speakers")
    assert figure.png.startswith(b"\x89PNG") and "clean at 14: 10.0 %; clean at 0: 30.0 %" in figure.alt
    letters = pictures.rate_curve(points, "speakers", rate_name="character error rate")
    assert (
        letters.alt.startswith("Character error rates by speakers: ")
        and letters.panels[0]["title"] == "character error rate, %"
    )
    with pytest.raises(ConfigError, match="nothing to draw"):
        pictures.rate_curve([], "speakers")
