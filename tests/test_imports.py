"""Every module imports, says what it is, and the package starts light."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import uphold
from uphold.core.errors import MissingExtra

ROOT = Path(uphold.__file__).parent
MODULES = sorted(info.name for info in pkgutil.walk_packages([str(ROOT)], "uphold.") if "__main__" not in info.name)

# imported where they are used, never to start
HEAVY = (
    "torch",
    "transformers",
    "tokenizers",
    "sklearn",
    "scipy",
    "matplotlib",
    "pandas",
    "starlette",
    "uvicorn",
    "jinja2",
)
LIGHT_ROOMS = ("uphold.core", "uphold.constitution", "uphold.cli")


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    try:
        importlib.import_module(name)
    except MissingExtra as error:
        assert "pip install 'uphold[" in str(error)  # an optional dependency may be absent, if it is said how to get it


@pytest.mark.parametrize("name", MODULES)
def test_every_module_opens_with_what_it_is(name):
    path = ROOT.parent / Path(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), f"{file} has no docstring"


@pytest.mark.parametrize("name", uphold.__all__)
def test_every_public_name_is_there(name):
    assert getattr(uphold, name) is not None
    assert name in dir(uphold)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'uphold' has no attribute 'Constituton'"):
        uphold.Constituton  # noqa: B018


def test_packages_and_light_rooms_import_nothing_heavy():
    """In a fresh process: every package's `__init__` and every module of the light rooms."""
    packages = [info.name for info in pkgutil.walk_packages([str(ROOT)], "uphold.") if info.ispkg]
    light = [name for name in MODULES if name.startswith(LIGHT_ROOMS)]
    program = (
        f"import importlib, sys\n"
        f"for name in {['uphold', *packages, *light]!r}:\n"
        f"    importlib.import_module(name)\n"
        f"    found = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        f"    assert not found, f'{{name}} imports {{found}}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]


def test_imports_point_inward():
    """core knows no activity; nothing but the front doors knows cli or web; only models and data know the built-in world."""
    for name in MODULES:
        room = name.split(".")[1]
        for imported in _imports(name):
            target = imported.split(".")[1] if imported.count(".") else ""
            if room == "core":
                assert target in ("core", ""), f"{name} imports {imported}"
            if target in ("cli", "web"):
                assert room in ("cli", "web"), f"{name} imports {imported}"
            if target == "world":
                assert room in ("world", "models", "data", "cli", "pipeline"), f"{name} imports {imported}"


def _imports(name):
    """Dotted names of ours that a module imports, anywhere in it."""
    path = ROOT.parent / Path(*name.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else names
        yield from (found for found in names if found.split(".")[0] == "uphold")


def test_nothing_is_unpickled_and_yaml_is_read_safely():
    for path in ROOT.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not {"pickle", "cloudpickle", "dill", "joblib", "yaml"} & _imported_roots(text), f"{path}"
        assert text.count("YAML(") == text.count('YAML(typ="safe", pure=True)'), f"{path} reads YAML in an unsafe way"


def _imported_roots(text):
    """Names of the modules that a text imports."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_python_running_this_is_one_we_support():
    assert sys.version_info >= (3, 11)
