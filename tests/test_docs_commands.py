"""Every command the documentation shows is run as shown, in a copy of the checkout's surface, and must exit as said.

A ```console block's lines that start with `$ uphold` or `$ python` are run in order; the blocks of one page share a folder, so a
tutorial may build on itself. The fence may say more: `console slow` is run by `make test-all` only; `console exit=1` expects that exit
code of its last command; `console norun REASON` is not run. Nothing else of the output is compared.
"""

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LEFT_OUT = {".git", ".venv", "runs", "tests", "build", "dist"}
TIMEOUT_S = 900


@dataclass
class Block:
    line: int
    words: list[str]
    text: list[str]

    @property
    def is_run(self):
        return "norun" not in self.words

    @property
    def is_slow(self):
        return "slow" in self.words

    @property
    def exit_code(self):
        codes = [word.removeprefix("exit=") for word in self.words if word.startswith("exit=")]
        return int(codes[0]) if codes else 0

    def commands(self):
        """Lines after `$ `, continued where they end in a backslash."""
        joined = re.sub(r"\\\n", " ", "\n".join(self.text))
        lines = (line.removeprefix("$ ") for line in joined.split("\n") if line.startswith("$ "))
        return [line for line in lines if line.startswith(("uphold", "python"))]


def fenced(text):
    """Every fenced block of a page, as Blocks; `words` is what stands after the opening fence."""
    found, inside = [], None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("```"):
            if inside is None:
                inside = Block(number, line[3:].split(), [])
                found.append(inside)
            else:
                inside = None
        elif inside is not None:
            inside.text.append(line)
    return found


def console(page):
    return [block for block in fenced(page.read_text(encoding="utf-8")) if block.words[:1] == ["console"]]


@pytest.fixture
def surface(tmp_path):
    """A folder that looks like the checkout, with `uphold` and `python` on the path; what commands write stays in it."""
    home, programs = tmp_path / "checkout", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in LEFT_OUT:
            (home / entry.name).symlink_to(entry)
    for name, command in {"uphold": "-m uphold", "python": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return home, {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}


def run_all(blocks, page, surface):
    home, environment = surface
    for block in blocks:
        commands = block.commands()
        for command in commands:
            expected = block.exit_code if command is commands[-1] else 0
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=home,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            place = f"{page.relative_to(ROOT)}:{block.line}: $ {command}"
            assert done.returncode == expected, (
                f"{place}\nexit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )


def with_commands(is_slow):
    """The pages that have such commands."""
    return [page for page in PAGES if any(b.is_run and b.is_slow == is_slow and b.commands() for b in console(page))]


@pytest.mark.parametrize("page", with_commands(is_slow=False), ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page, surface):
    run_all([block for block in console(page) if block.is_run and not block.is_slow], page, surface)


@pytest.mark.slow
@pytest.mark.parametrize("page", with_commands(is_slow=True), ids=lambda page: page.name)
def test_all_commands_of_a_page_run_the_slow_ones_too(page, surface):
    run_all([block for block in console(page) if block.is_run], page, surface)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_that_is_not_run_has_a_reason(page):
    for block in console(page):
        if not block.is_run:
            reason = block.words[block.words.index("norun") + 1 :]
            assert reason, f"{page.relative_to(ROOT)}:{block.line}: say after norun why it is not run"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_console_blocks_where_they_are_run(page):
    for block in fenced(page.read_text(encoding="utf-8")):
        if block.words[:1] not in (["console"], ["text"]):
            shown = [line for line in block.text if re.match(r"(\$ )?uphold [a-z]", line)]
            assert not shown, (
                f"{page.relative_to(ROOT)}:{block.line}: make it ```console, with '$ ' before {shown[0]!r}"
            )


def test_the_blocks_of_a_page_are_found_and_read():
    page = "x\n```console slow exit=1\n$ uphold a \\\n  b\noutput\n$ ls\n```\n```console norun needs a GPU\n$ uphold c\n```\n"
    first, second = fenced(page)
    assert (first.line, first.is_slow, first.exit_code, first.is_run) == (2, True, 1, True)
    assert first.commands() == ["uphold a    b"]
    assert (second.is_run, second.exit_code, second.is_slow) == (False, 0, False)


def test_the_command_reference_is_up_to_date_and_no_link_is_broken():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
