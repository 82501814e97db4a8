"""The rules of the house, checked: who may import whom, what stays light, how long a file gets."""

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import npe2
import pytest

from paths import ROOT

PACKAGE = ROOT / "src" / "napari_sslseg"
CORE = PACKAGE / "core"
SOURCES = sorted(PACKAGE.rglob("*.py"))

SCREEN = {"napari", "magicgui", "superqt", "pyqtgraph", "qtpy"}
SCREEN |= {"PySide2", "PySide6", "PyQt5", "PyQt6", "vispy"}
HEAVY = {"torch", "monai", "napari", "qtpy", "PySide6", "matplotlib", "SimpleITK"}
MAX_LINES = 350
IMPORT_SECONDS = 0.5


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def relative_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported(node: ast.AST, path: Path) -> list[str]:
    """Full dotted names that an import statement may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = module_name(path).split(".")
        if path.name != "__init__.py":
            package = package[:-1]
        above = package[: len(package) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def all_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in imported(node, path)}


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def module_level_imports(path: Path) -> set[str]:
    """Names imported when the module loads: not in functions, not for the type checker alone."""
    found: set[str] = set()
    pending: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.stmt) and is_type_checking(node):
            continue
        found.update(imported(node, path))
        pending.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=relative_id)
def test_core_does_not_know_the_screen_or_the_command_line(path):
    names = all_imports(path)
    assert not {name for name in names if name.split(".")[0] in SCREEN}
    above = ("napari_sslseg.gui", "napari_sslseg.cli.app")
    assert not {name for name in names if name.startswith(above)}


def test_nothing_imports_gui_or_cli_but_themselves():
    """The two stand beside each other on top of core."""
    for name, path in MODULES.items():
        layer = name.split(".")[1] if "." in name else ""
        for other in {"gui", "cli"} - {layer}:
            wrong = [n for n in all_imports(path) if n.startswith(f"napari_sslseg.{other}")]
            assert not wrong, f"{name} imports {wrong}"


def test_core_imports_run_one_way():
    # `from package import name` names the package too, but needs only the module in it.
    core = {name for name, path in MODULES.items() if CORE in path.parents}
    plain = {name for name in core if MODULES[name].name != "__init__.py"}
    graph = {name: module_level_imports(MODULES[name]) & plain - {name} for name in sorted(plain)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circular import: " + " -> ".join(error.args[1]))


def fresh_import(module: str) -> tuple[float, set[str]]:
    """Seconds that an import takes in a new interpreter, and the heavy libraries it pulls in."""
    code = (
        "import sys, time, json\n"
        "start = time.perf_counter()\n"
        f"import {module}\n"
        "seconds = time.perf_counter() - start\n"
        "print(json.dumps([seconds, sorted({n.partition('.')[0] for n in sys.modules})]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "EAGER_IMPORT"}  # of lazy_loader
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    seconds, loaded = json.loads(result.stdout.splitlines()[-1])
    return seconds, set(loaded) & HEAVY


def test_importing_core_is_quick_and_light():
    runs = [fresh_import("napari_sslseg.core") for _ in range(3)]
    assert not runs[0][1]
    assert min(seconds for seconds, _ in runs) < IMPORT_SECONDS


def test_importing_any_package_is_light():
    """Napari imports the parents of an entry point before the user asks for anything."""
    packages = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    for name in packages:
        assert not fresh_import(name)[1], name


def test_importing_the_command_line_is_light():
    assert not fresh_import("napari_sslseg.cli.app")[1] & {"torch", "monai", "napari"}


def test_what_the_manifest_names_exists_and_is_light():
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    assert manifest.name == "napari-sslseg"
    commands = manifest.contributions.commands or []
    assert commands
    for command in commands:
        module, _, function = str(command.python_name).partition(":")
        defined = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
        assert function in {getattr(node, "name", None) for node in defined}
        assert not fresh_import(module)[1] & {"torch", "monai", "matplotlib", "SimpleITK"}, module


def test_the_manifest_at_the_top_is_the_packaged_one():
    packaged = PACKAGE / "napari.yaml"
    top = ROOT / "napari.yaml"
    if sys.platform != "win32":  # there git checks a link out as a file that holds its target
        assert top.is_symlink()
        assert top.resolve() == packaged.resolve()
        assert top.read_bytes() == packaged.read_bytes()


@pytest.mark.parametrize("path", SOURCES, ids=relative_id)
def test_no_source_file_is_long(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines; split it by what it is about"
