"""What a page's script does, in Chromium: tables are sorted, charts are drawn and say the values under the pointer."""

from __future__ import annotations

import pytest
from chromium import BROWSER, Page, browser

from asrkd.report import html
from asrkd.report.html import Section
from asrkd.report.pictures import histogram, learning_curves, rate_bars, rate_curve, reliability
from asrkd.report.tables import Table

ROWS = [["b", "1,200", "2.5 [1, 3]"], ["a10", "-", "10.0 [9, 11]"], ["a9", "30", "-1.0 [-2, 0]"]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    if not BROWSER:
        pytest.skip("needs Chromium")
    folder = tmp_path_factory.mktemp("page")
    curves = {"student": {"soft": ([10, 20, 30], [3.0, 2.0, 1.0]), "dev": ([30], [2.5])}}
    figures = [
        learning_curves(curves),
        rate_bars([("teacher", "clean", 0.2, 0.1, 0.3), ("student", "clean", 0.1, float("nan"), float("nan"))]),
        histogram({"cuts": [1.0, 1.0, 2.0]}, "seconds"),
        rate_curve([("clean", 0.0, 0.4, 0.3, 0.5), ("clean", 8.0, 0.2, 0.1, 0.3)], "speakers"),
        reliability({"teacher": ([0.5, 0.9], [0.6, 0.8])}, "confidence", "right", caption=""),
    ]
    wide = Table(
        [f"a long name of column {number}" for number in range(7)], [["12.3 [11.1, 13.3]"] * 7], "A wide table."
    )
    section = Section("Result", tables=[Table(("name", "count", "rate"), ROWS), wide], figures=figures)
    path = html.write_page(folder / "report.html", "Report", "", [section])
    with browser(folder / "profile") as page:
        page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=False)
        page.call("Page.navigate", url=path.as_uri())
        page.wait("document.querySelectorAll('th button').length === 10")
        yield page


def column(page: Page, number: int) -> list[str]:
    return page.value(f"[...document.querySelector('tbody').rows].map(row => row.cells[{number}].textContent)")


@pytest.mark.browser
def test_a_click_on_a_head_sorts(page: Page) -> None:
    for head, expected in enumerate(
        (["a9", "a10", "b"], ["30", "1,200", "-"], ["-1.0 [-2, 0]", "2.5 [1, 3]", "10.0 [9, 11]"])
    ):
        page.value(f"document.querySelectorAll('th button')[{head}].click()")
        assert column(page, head) == expected
        page.value(f"document.querySelectorAll('th button')[{head}].click()")
        # What is not a number is last, in either direction.
        falling = expected[::-1] if head != 1 else ["1,200", "30", "-"]
        assert column(page, head) == falling
        assert page.value("[...document.querySelectorAll('th')].filter(head => head.ariaSort).length") == 1


@pytest.mark.browser
def test_a_chart_says_what_is_under_the_pointer(page: Page) -> None:
    assert page.value("document.querySelectorAll('figure.chart img').length") == 0
    assert page.value("document.querySelector('.key').textContent") == "soft 1dev 2.5"
    page.value("document.querySelector('.panel svg').scrollIntoView()")
    bounds = page.value("JSON.parse(JSON.stringify(document.querySelector('.panel svg').getBoundingClientRect()))")
    middle = bounds["x"] + bounds["width"] * (44 + 380 - 20) / 2 / 380
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=middle, y=bounds["y"] + bounds["height"] / 2)
    page.wait("document.querySelector('.key').textContent === 'soft 2 at 20dev 2.5 at 30'", 10)


@pytest.mark.browser
def test_other_charts_are_drawn_from_their_data(page: Page) -> None:
    keys = page.value("[...document.querySelectorAll('.key')].map(key => key.textContent)")
    assert keys[1:] == ["clean", "cuts median 1", "clean 20 [10, 30]", "teacher 0.8"]
    widths = page.value("[...document.querySelectorAll('.fill')].map(fill => parseFloat(fill.style.width))")
    assert widths == pytest.approx([200 / 3, 100 / 3], abs=0.01)  # of the end of the longest whisker
    assert page.value("document.querySelectorAll('.whisker').length") == 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200, 1920])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    assert page.value("document.documentElement.scrollWidth") <= width
    scrolled = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    assert page.value(scrolled) == 0
    listed = page.value("getComputedStyle(document.querySelector('.wide td')).display")
    assert listed == ("flex" if width == 390 else "table-cell")
