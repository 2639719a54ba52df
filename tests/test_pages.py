"""README and pages: links lead somewhere, and the commands that they show are those of the command line."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from asrkd.cli import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/*.md"), *ROOT.glob("tests/data/*/*.md")]
)
FENCE = re.compile(r"^(```+)(\w*)\n(.*?)^\1$", re.S | re.M)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as Markdown viewers make them."""
    seen: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", text), re.M):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        names.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def broken_links(page: Path, text: str) -> list[str]:
    """Links of a page, relative ones, to files or headings that are not there."""
    broken = []
    for link in re.findall(r"\]\(([^()\s]+)\)", without_code(text)):
        path, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link)
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if path else text):
            broken.append(link)
    return broken


def shown_commands(text: str) -> Iterator[str]:
    """What a page shows of shell: lines of blocks, and code within sentences that begins with a command."""
    blocks = [body for _, language, body in FENCE.findall(text) if language in ("sh", "bash", "shell")]
    blocks += re.findall(r"^    (?=[a-z]).*$", FENCE.sub("", text), re.M)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.split(r" (?:&&|\|\|?|>) |, (?=asrkd )", line.strip())
    for inline in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        yield from re.split(r" (?:&&|>) ", inline)


def wrong_with(command: str) -> str:
    """What the command line does not have of a shown command; empty where all of it is there, or it is of something else."""
    plain = re.sub(r"(?<= )\[|\](?= |$)", "", command)  # [--option VALUE], as usage is written
    words = shlex.split(plain, comments=True) if plain.count("'") % 2 == 0 else plain.split()
    while words and re.fullmatch(r"[A-Z][A-Z_]*=\S*", words[0]):
        del words[0]
    if not words or words[0] != "asrkd":
        script = next((word for word in words[1:2] if words[0] in ("python", "sh", "bash", "sbatch")), "")
        of_here = script.startswith(("tools/", "recipes/"))
        return f"there is no {script}" if of_here and not (ROOT / script).exists() else ""
    nodes: list[click.Command] = [cli]
    given = words[1:]
    while given and isinstance(nodes[0], click.Group) and not given[0].startswith("-"):
        name, given = given[0], given[1:]
        if name == "...":
            return ""
        below = [nodes[0].commands.get(part) for part in name.split("|")]
        nodes = [getattr(command, "loaded", command) for command in below if command]
        if len(nodes) < len(below):
            return f"there is no command {name!r}"
    parameters = [parameter for node in nodes for parameter in node.params]
    options = {name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)}
    shown = [option for word in given if word.startswith("--") for option in word.partition("=")[0].split("|")]
    unknown = [option for option in shown if option not in options | {"--", "--help"}]
    return f"{nodes[0].name} has no {', '.join(unknown)}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_commands_of_a_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not broken_links(page, text)
    if page.name != "CHANGELOG.md":  # it names what is gone
        assert not [(command, wrong) for command in shown_commands(text) if (wrong := wrong_with(command))]


def test_links_that_lead_nowhere_are_found() -> None:
    text = "# A `b`: c\n[a](#a-b-c) [b](#d) [c](docs/index.md#start) [d](docs/index.md#x) [e](nothing.md) [f](https://x.org/#y) `[g](nothing)`"
    assert broken_links(ROOT / "README.md", text) == ["#d", "docs/index.md#x", "nothing.md"]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```sh\nasrkd label plan a b --codecs x  # why\n```", "plan has no --codecs"),
        ("```sh\nasrkd label plan a \\\n  b --teacher x\n```", ""),
        ("so `asrkd lable plan` is", "there is no command 'lable'"),
        ("`asrkd store info|head STORE`", ""),
        ("`asrkd store info|heads STORE`", "there is no command 'info|heads'"),
        ("    asrkd train c.yaml --dryrun", "train has no --dryrun"),
        ("`python tools/benchmarks/nothing.py --x`", "there is no tools/benchmarks/nothing.py"),
        ("`asrkd align --model SPEC`, `asrkd doctor`", ""),
    ],
)
def test_commands_that_are_not_there_are_found(text: str, wrong: str) -> None:
    assert [found for command in shown_commands(text) if (found := wrong_with(command))] == ([wrong] if wrong else [])


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
