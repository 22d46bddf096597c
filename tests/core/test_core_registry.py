"""One registry: names are unique, misspellings are answered, plugins that fail are named."""

import subprocess
import sys

import pytest

from uphold.core import registry
from uphold.core.errors import ConfigError, MissingExtra, UpholdError, did_you_mean, unknown


@pytest.fixture
def kind(monkeypatch):
    """A kind of our own, in tables that are forgotten afterwards."""
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_loaded", {"plugins"})
    monkeypatch.setattr(registry, "PROVIDERS", {})
    return "fruit"


def test_what_is_registered_is_found_by_kind_and_name(kind):
    @registry.register(kind, "apple")
    def apple():
        return "crunch"

    registry.register(kind, "pear")(42)
    assert registry.get(kind, "apple") is apple
    assert registry.names(kind) == ["apple", "pear"]
    assert registry.kinds() == ["fruit"]
    assert registry.names("nothing") == []


def test_a_name_is_taken_once_but_the_same_thing_may_come_again(kind):
    thing = object()
    registry.register(kind, "apple")(thing)
    registry.register(kind, "apple")(thing)
    with pytest.raises(ValueError, match="fruit 'apple' is registered twice"):
        registry.register(kind, "apple")(object())


def test_a_misspelt_name_is_answered_with_the_nearest_and_where_it_stood(kind):
    registry.register(kind, "apple")(1)
    with pytest.raises(ConfigError) as caught:
        registry.get(kind, "aple", where="uphold.yaml:7")
    assert str(caught.value) == (
        "uphold.yaml:7: unknown fruit 'aple'. Did you mean 'apple'? See all: uphold list fruits"
    )


def test_a_name_near_nothing_is_answered_with_what_there_is():
    assert str(unknown("fruit", "xyz", ["pear", "apple"])) == (
        "unknown fruit 'xyz'. Known: apple, pear. See all: uphold list fruits"
    )
    assert did_you_mean("x", []) == "Known: none."


def test_a_provider_is_imported_when_its_kind_is_asked_for(kind, monkeypatch, tmp_path):
    (tmp_path / "orchard_of_test.py").write_text(
        "from uphold.core.registry import register\nregister('fruit', 'plum')('sweet')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "PROVIDERS", {"fruit": ("orchard_of_test",), "nut": ("no_such_module",)})
    assert "orchard_of_test" not in sys.modules
    assert registry.get("fruit", "plum") == "sweet"


def test_a_provider_that_fails_fails_again_and_never_gives_half_a_table(kind, monkeypatch):
    monkeypatch.setattr(registry, "PROVIDERS", {"nut": ("no_such_module_of_ours",)})
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_of_ours"):
            registry.names("nut")


PLUGIN_RUN = """
from uphold.core import registry
from uphold.core.errors import ConfigError
try:
    print(registry.get("transform", "shouting"))
except ConfigError as error:
    print(error)
"""


def plugin(folder, body):
    """A distribution in `folder` that offers one plugin module, as an installed package would; returns what a run then prints."""
    (folder / "loud_plugin.py").write_text(body)
    info = folder / "loud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[uphold.plugins]\nloud = loud_plugin\n")
    program = f"import sys; sys.path.insert(0, {str(folder)!r})\n{PLUGIN_RUN}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_an_installed_plugin_adds_its_entries(tmp_path):
    body = "from uphold.core.registry import register\nregister('transform', 'shouting')('LOUD')\n"
    assert plugin(tmp_path, body) == "LOUD\n"


def test_a_plugin_that_cannot_be_loaded_is_named(tmp_path):
    assert plugin(tmp_path, "raise RuntimeError('no voice')\n") == (
        "plugin 'loud' (loud_plugin) cannot be loaded: RuntimeError: no voice. Mend or uninstall it.\n"
    )


def test_a_missing_extra_says_what_to_install():
    error = MissingExtra("starlette", "gateway")
    assert str(error) == "starlette is not installed. Install it with: pip install 'uphold[gateway]'"
    assert isinstance(error, ImportError)
    assert isinstance(error, UpholdError)
    assert error.exit_code == 2
