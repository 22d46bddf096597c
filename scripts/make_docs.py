"""Rebuilds docs/cli.md from the command line itself, and checks that every relative link in the documentation leads somewhere.

`make docs` writes; `--check` only says what is stale or broken, and exits 1 if anything is. Left out: links to the outside, which
need a network.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uphold.cli.main import load, verbs

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cli.md"
HEAD = """# Command line

Made from the program by `make docs`; do not edit. Every command takes `--help`. Global flags, anywhere on the line: `--debug` shows
the traceback of an error, `--quiet` silences progress. Results go to stdout, progress to stderr; `--json` prints one JSON object.
Exit codes: 0 done, 1 failed or gate not met, 2 misuse (`uphold gate`: 2 insufficient evidence), 130 interrupted.
"""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def cli_page() -> str:
    """The text of docs/cli.md for the verbs that exist now."""
    return "\n".join([HEAD, *(section for verb in verbs() for section in _sections(load(verb), f"uphold {verb}"))])


def _sections(command: Any, path: str) -> Iterator[str]:
    """One section per command, groups first, then what is inside them."""
    inner = getattr(command, "commands", {})
    depth = "#" * len(path.split())
    parts = [f"{depth} `{path}`\n", _prose(command.help or ""), _parameters(command)]
    yield "\n".join(part for part in parts if part)
    for name in inner:
        yield from _sections(inner[name], f"{path} {name}")


def _prose(text: str) -> str:
    r"""A docstring as Markdown: a paragraph that starts with \b is set as it is written."""
    parts = re.split(r"\n\s*\n", text.strip())
    return "\n".join(_paragraph(part) for part in parts if part.strip())


def _paragraph(text: str) -> str:
    if text.lstrip().startswith("\b"):
        body = "\n".join(line.rstrip() for line in text.lstrip().removeprefix("\b").strip("\n").split("\n"))
        return f"```text\n{body}\n```\n"
    return " ".join(text.split()) + "\n"


def _parameters(command: Any) -> str:
    """A Markdown list of arguments and options, '' when there are none."""
    lines = []
    for param in command.params:
        if getattr(param, "hidden", False) or "--help" in param.opts:
            continue
        is_option = param.opts[0].startswith("-")
        name = ", ".join([*param.opts, *param.secondary_opts]) if is_option else param.name.upper()
        text = " ".join((getattr(param, "help", None) or "").split())
        lines.append(f"- `{name}`{': ' if text else ''}{text}{_default(param)}")
    return "\n".join(lines) + "\n" if lines else ""


def _default(param: Any) -> str:
    if param.required:
        return " (required)"
    value = param.default
    shown = isinstance(value, str | int | float) and not isinstance(value, bool) and value != ""
    return f" (default `{value}`)" if shown else ""


def pages() -> list[Path]:
    """Every Markdown page of ours."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])


def broken_links() -> list[str]:
    """'PAGE: LINK' for every relative link to a file or heading that is not there."""
    return [f"{page.relative_to(ROOT)}: {link}" for page in pages() for link in _links(page) if not _leads(page, link)]


def _links(page: Path) -> list[str]:
    found = LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def _leads(page: Path, link: str) -> bool:
    name, _, heading = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return False
    return not heading or target.suffix != ".md" or heading in _anchors(target)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    titles = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles)
    return {title.replace(" ", "-") for title in plain}


def main() -> None:
    """Write or check; see the module's docstring."""
    problems = []
    text = cli_page()
    if "--check" not in sys.argv[1:]:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        print(f"written {PAGE.relative_to(ROOT)}")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        problems.append(f"{PAGE.relative_to(ROOT)} is stale. Run: make docs")
    problems += [f"broken link in {link}" for link in broken_links()]
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
