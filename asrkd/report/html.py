"""Reports of one file: a title, an introduction, and sections of text, tables, pictures and audio."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkd import files
from asrkd.extras import import_optional
from asrkd.report.pictures import Figure
from asrkd.report.tables import Table, html_table

_SCRIPT = Path(__file__).with_name("page.js")


@dataclass(frozen=True)
class PlayableClip:
    """Audio to play, as a `data:` URI (empty where there is none), with what is said of it, in one line or several."""

    caption: str
    uri: str


@dataclass(frozen=True)
class Section:
    """A part of a report. `text` is plain; an empty line begins a new paragraph."""

    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    clips: Sequence[PlayableClip] = ()


def check_report() -> None:
    """Raise `DependencyError` where reports cannot be written: before hours of work that end with one."""
    import_optional("jinja2")
    import_optional("matplotlib")


def render(title: str, intro: str, sections: Sequence[Section]) -> str:
    """The whole page. All text is escaped; nothing is loaded from elsewhere, and the page's policy forbids all but its own script."""
    jinja2 = import_optional("jinja2")  # here: most commands write no page

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["paragraphs"] = lambda text: [part.strip() for part in text.split("\n\n") if part.strip()]
    environment.filters["table"] = lambda table: html_table(table.columns, table.rows, table.caption)
    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("template.html").render(
        title=title, intro=intro, sections=sections, script=script, script_hash=f"sha256-{digest}"
    )


def write_page(path: str | Path, title: str, intro: str, sections: Sequence[Section]) -> Path:
    """Render a page into a file, whole or not at all; folders are made if need be. Returns the path."""
    page = render(title, intro, sections)
    return files.write(path, page)
