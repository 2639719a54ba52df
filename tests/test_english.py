"""Habits of English that a regular expression finds, in messages, help texts, docstrings, comments, pages and the changelog: the list of CONTRIBUTING.md."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from asrkd.cli import cli

ROOT = Path(__file__).parents[1]
SEARCHED = (
    "*.md",
    "docs/**/*.md",
    "recipes/**/*.md",
    "asrkd/**/*.py",
    "recipes/**/*.py",
    "tools/**/*.py",
    "recipes/**/*.yaml",
)
# What is written: what an engineer would write.
HABITS = {
    r"\bstands?\b(?! (for|in for)\b)": "is, occurs",
    r"\b(go|goes|going|gone|went) on\b(?! to\b)": "continue, resume",
    r"\bso many\b": "N",
    r"\bhears\b": "receives, detects",
    r"\banew\b": "again, re-",
    r"\bbeside\b": "next to, in addition to, under load",
    r"\b(?<![tT]here )(is|are|was|were) no (?!\w+er than\b)(?!(better|faster|slower|worse|longer|more|less|fewer|further|larger|smaller|one|reason)\b)\w": "is not a",
    r"\bof (\d+|two|four|eight|sixteen) bits\b": "8-bit",
    r"\b(mend|mends|mended)\b": "fix",
    r"\b[tT]hat reading .{0,40}may take\b": "timeout",
    r"\bby the name of what\b": "that names what",
    r"\btold apart\b": "distinguished",
    r"\bsign of life\b": "heartbeat",
    r"\bbehind (the (last|end)|every|each|an utterance)\b": "after",
}
# A key of recorded results.
ALLOWED = ('"beside"',)
PREPOSITIONS = (
    "As",
    "At",
    "Between",
    "By",
    "From",
    "In",
    "Of",
    "On",
    "That",
    "Through",
    "To",
    "Under",
    "With",
    "Without",
)


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of what is written for people: strings and comments of Python, every line of other files but blocks of code."""
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
                for number, line in enumerate(re.sub(r"\{[^{}\n]*\}", "{}", token.string).splitlines()):
                    yield token.start[0] + number, line
    else:
        yield from enumerate(text.splitlines(), 1)


def habits(path: Path, text: str) -> list[str]:
    """The habits in a file, with their lines and what to write instead."""
    if not any(re.search(habit, text) for habit in HABITS):  # saves reading most files token by token
        return []
    return [
        f"{path}:{number}: {found[0]!r} (write: {better}): {line.strip()}"
        for number, line in prose(path, text)
        for habit, better in HABITS.items()
        for found in re.finditer(habit, line)
        if line not in ALLOWED
    ]


FILES = sorted({path for pattern in SEARCHED for path in ROOT.glob(pattern)} - {ROOT / "CONTRIBUTING.md"})


def test_the_prose_is_free_of_them() -> None:
    found = [line for path in FILES for line in habits(path.relative_to(ROOT), path.read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)
    assert len(FILES) > 300


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ('raise ConfigError(f"id {one!r} stands twice")', 1),
        ("beside = 1  # next to it", 0),
        ('"""A unit stands for a word."""', 0),
        ('"""Stops after so many updates, then\n\n    goes on."""', 2),
        ('help="There is no such file, and no longer a folder"', 0),
        ('"this is no folder"', 1),
    ],
)
def test_habits_are_found(text: str, number: int) -> None:
    assert len(habits(Path("a.py"), text)) == number


def test_what_the_contributing_page_calls_tested_is() -> None:
    rows = re.findall(r"^\| (.+?) \| .+? \| yes \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) == len(HABITS) + 1  # and that of help texts
    for row in rows:
        assert "preposition" in row or habits(Path("a.md"), row), row


def commands(command: click.Command) -> Iterator[click.Command]:
    command = getattr(command, "loaded", command)
    yield command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from commands(below)


def test_help_of_an_option_does_not_begin_with_a_preposition() -> None:
    begun = [
        f"{command.name} {option.opts[0]}: {option.help}"
        for command in commands(cli)
        for option in command.params
        if isinstance(option, click.Option) and (option.help or "").partition(" ")[0] in PREPOSITIONS
    ]
    assert not begun, "\n".join(begun)
