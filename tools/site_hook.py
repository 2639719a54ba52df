"""What mkdocs does to the pages in docs/ so that they read on a site as they do in a repository: the README is a page of it, links to files outside docs/
become their paths, and a list may follow a line of text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OVERVIEW = "overview.md"


def on_files(files: Files, config: Any) -> Files:
    """Adds the README."""
    files.append(File.generated(config, OVERVIEW, content=overview((ROOT / "README.md").read_text(encoding="utf-8"))))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page as the site shows it."""
    up = "../" * page.file.src_uri.count("/")
    return with_blank_lines(without_links_outside(markdown, up))


def overview(readme: str) -> str:
    """The README with its links as seen from docs/."""
    inside = re.sub(r"\]\(docs/", "](", readme)
    return re.sub(r"\[([^]]+)\]\((?!#|\w+:)(?![\w/]+\.md[#)])([^)]+)\)|\[([^]]+)\]\((?:[A-Z]+\.md)\)", r"\1\3", inside)


def without_links_outside(markdown: str, up: str) -> str:
    """Links to the README lead to its page; those to other files outside docs/ become the text and the path."""
    markdown = markdown.replace(f"]({up}../README.md", f"]({up}{OVERVIEW}")
    return re.sub(rf"\[([^]]+)\]\({re.escape(up)}\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def with_blank_lines(markdown: str) -> str:
    """A blank line before each list and table that follows a line of text, as Python-Markdown wants it."""
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        fenced ^= line.startswith("```")
        before = lines[-1] if lines else ""
        if not fenced and line[:2] in ("- ", "| ") and before.strip() and before[:2] not in (line[:2], "  "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)
