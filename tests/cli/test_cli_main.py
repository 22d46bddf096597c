"""The front door: fast help, one message per error with its exit code, results on stdout alone."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import types
from pathlib import Path

import pytest
import typer

from uphold import __version__
from uphold.cli import main as cli
from uphold.core.errors import ConfigError, StoreError, UpholdError


def uphold(*arguments, **settings):
    """A real `uphold` process."""
    command = [sys.executable, "-m", "uphold", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


@pytest.fixture
def verb(monkeypatch):
    """Makes a function a verb called `probe`."""

    def make(function):
        module = types.ModuleType("uphold_probe")
        module.command = function
        module.__spec__ = types.SimpleNamespace(name="uphold_probe")
        monkeypatch.setitem(sys.modules, "uphold_probe", module)
        monkeypatch.setattr(cli, "VERBS", {"probe": ("uphold_probe", "A verb for tests.")})

    return make


def test_help_names_every_verb_that_exists_and_imports_none_of_them():
    program = (
        "import sys; from uphold.cli.main import run; run(['--help']); "
        "print(sorted(name for name in sys.modules if name.startswith('uphold.')))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.startswith("Usage: uphold [OPTIONS] COMMAND [ARGS]...")
    for name in cli.verbs():
        assert f"\n  {name} " in out
    assert out.splitlines()[-1] == "['uphold.cli', 'uphold.cli.main', 'uphold.core', 'uphold.core.errors']"


def test_every_verb_that_is_shown_can_be_loaded_and_explains_itself():
    for name in cli.verbs():
        command = cli.load(name)
        assert command.name == name
        assert command.help, f"uphold {name} has no help"


def test_a_verb_without_a_module_is_not_shown(monkeypatch):
    monkeypatch.setattr(cli, "VERBS", {"dream": ("uphold.cli.dream", "No such module."), "list": cli.VERBS["list"]})
    assert list(cli.verbs()) == ["list"]


def test_without_a_verb_the_help_is_shown(capsys):
    assert cli.run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: uphold [OPTIONS] COMMAND [ARGS]...")


def test_the_version(capsys):
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr() == (f"uphold {__version__}\n", "")


def test_an_unknown_verb_is_answered_with_the_nearest(capsys):
    assert cli.run(["lst"]) == 2
    assert capsys.readouterr() == ("", "uphold: No such command 'lst'. Did you mean 'list'? See: uphold --help\n")


def test_an_unknown_option_names_the_verb_it_was_given_to(capsys):
    assert cli.run(["list", "--bogus"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "uphold list: No such option: --bogus. See: uphold list --help\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [(UpholdError("it failed."), 1), (ConfigError("p.yaml:3: wrong."), 2), (StoreError("runs/x: locked."), 2)],
)
def test_our_errors_are_one_message_and_their_own_exit_code(verb, capsys, error, code):
    @verb
    def probe():
        raise error

    assert cli.run(["probe"]) == code
    assert capsys.readouterr() == ("", f"uphold: {error}\n")


def test_an_unexpected_error_tells_its_kind_and_place_but_not_its_message(verb, capsys):
    @verb
    def probe():
        raise KeyError("a private prompt")

    assert cli.run(["probe"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("uphold: unexpected KeyError at ")
    assert err.endswith(", a fault in Uphold. --debug shows it.\n")
    assert "private" not in err


@pytest.mark.parametrize("line", [["--debug", "probe"], ["probe", "--debug"]])
def test_debug_adds_the_traceback_wherever_it_stands(verb, capsys, line):
    @verb
    def probe():
        raise ConfigError("p.yaml:3: wrong.")

    assert cli.run(line) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("uphold: p.yaml:3: wrong.\n")


def test_a_word_after_a_double_dash_is_never_a_flag(verb, capsys):
    @verb
    def probe(word: str):
        print(word)

    assert cli.run(["probe", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "--debug\n"


def test_quiet_silences_progress(verb, capsys):
    from uphold.core.progress import progress, quiet

    @verb
    def probe():
        with progress("work", 1) as bar:
            bar.advance()
        print("done")

    assert cli.run(["probe", "--quiet"]) == 0
    quiet(False)
    assert capsys.readouterr() == ("done\n", "")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_verb_may_choose_its_exit_code(verb, code):
    @verb
    def probe():
        raise typer.Exit(code)

    assert cli.run(["probe"]) == code


def test_a_file_the_system_refuses_is_named_with_its_mend(verb, capsys):
    @verb
    def probe():
        raise PermissionError(13, "Permission denied", "/data/x.json")

    assert cli.run(["probe"]) == 2
    assert capsys.readouterr().err == (
        "uphold: /data/x.json: cannot use it: Permission denied. "
        "No permission there. Change the permissions or choose another folder.\n"
    )


def test_a_package_of_an_extra_that_is_not_installed_says_what_to_install(verb, capsys):
    @verb
    def probe():
        raise ModuleNotFoundError("No module named 'starlette'", name="starlette")

    assert cli.run(["probe"]) == 2
    assert capsys.readouterr().err == (
        "uphold: starlette is not installed. Install it with: pip install 'uphold[gateway]'\n"
    )


def test_every_package_named_with_an_extra_is_in_that_extra():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for package, extra in cli.EXTRAS.items():
        names = [wanted.split(">")[0].replace("-", "_") for wanted in extras[extra]]
        assert package in names


def test_running_out_of_memory_is_said(verb, capsys):
    @verb
    def probe():
        raise MemoryError

    assert cli.run(["probe"]) == 1
    assert capsys.readouterr().err.startswith("uphold: out of memory. Use smaller batches")


SLEEPER = """
import sys, time, types
from uphold.cli import main
def probe():
    print("ready", flush=True)
    time.sleep(60)
module = types.ModuleType("uphold_probe"); module.command = probe
module.__spec__ = types.SimpleNamespace(name="uphold_probe")
sys.modules["uphold_probe"] = module
main.VERBS = {"probe": ("uphold_probe", "Sleep.")}
sys.exit(main.run(["probe"]))
"""


def test_ctrl_c_is_one_line_and_exit_130():
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "uphold: stopped. What was finished is kept: the same command continues.\n"


def test_a_reader_that_goes_away_is_no_error():
    """As in `uphold list transforms | head -0`: the pipe is closed before anything is written."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uphold", "list", "transforms"],
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert done.stderr == b""
    assert done.returncode in (1, 141)


@pytest.mark.slow
def test_starting_up_is_fast():
    """The best of several runs: a limit on the program, not on what else the machine is doing."""

    def best_s(*arguments):
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best_s("-c", "import uphold") < 0.3
    assert best_s("-m", "uphold", "--help") < 0.5


def test_list_without_a_kind_lists_the_kinds(capsys):
    assert cli.run(["list"]) == 0
    kinds = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"attacks", "backends", "sources", "transforms"} <= set(kinds)


@pytest.mark.parametrize("kind", ["transforms", "transform"])
def test_list_shows_what_can_be_named_with_a_line_on_each(capsys, kind):
    assert cli.run(["list", kind]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["rot13"] == "each letter moved by 13 places"


def test_list_as_json_is_one_object_and_nothing_else():
    done = uphold("list", "transforms", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["kind"] == "transform"
    assert {"name": "rot13", "about": "each letter moved by 13 places"} in found["entries"]


def test_list_of_a_misspelt_kind(capsys):
    assert cli.run(["list", "atacks"]) == 2
    assert capsys.readouterr().err == (
        "uphold: unknown kind 'atacks'. Did you mean 'attacks'? See all: uphold list kinds\n"
    )
