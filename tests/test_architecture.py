"""The architecture: which package imports which, and how large a folder may become."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import npe2
import pytest

from paths import ROOT

PACKAGE = ROOT / "src" / "napari_sslseg"
CORE = PACKAGE / "core"
SOURCES = sorted(PACKAGE.rglob("*.py"))

GUI_LIBRARIES = {"napari", "magicgui", "superqt", "pyqtgraph", "qtpy"}
GUI_LIBRARIES |= {"PySide2", "PySide6", "PyQt5", "PyQt6", "vispy"}
HEAVY = {"torch", "monai", "napari", "qtpy", "PySide6", "matplotlib", "SimpleITK"}
IMPORT_SECONDS = 0.5

LAYERS = (
    {"common"},
    {"scans", "settings"},
    {"networks", "samples"},
    {"runs"},
    {"training"},
    {"pretext", "segmentation"},
    {"stages", "results"},
    {"project", "demo"},
    {"cli", "gui"},
)
"""Packages by layer, lowest first; a package imports only itself and lower layers."""

WINDOW_LAYERS = (
    {"text"},
    {"widgets", "model"},
    {"autosave"},
    {"viewer"},
    {"runs"},
    {"napari_io", "scans", "pretrain", "label", "train", "inspect"},
    {"problem_box"},
    {"shutdown"},
    {"widget"},
)
"""Packages of the window by layer, in the same way; no step imports another step."""

MOST_MODULES = 13
"""Largest number of modules in a folder."""

DEEPEST = 4
"""Largest number of levels of folders below the package; only file formats have one more."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def relative_id(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imported_names(node: ast.AST, path: Path) -> list[str]:
    """Return the full dotted names that an import statement may load."""
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


@cache
def all_imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in imported_names(node, path)}


def test_core_imports_no_gui_library():
    for path in CORE.rglob("*.py"):
        wrong = {name for name in all_imports(path) if name.split(".")[0] in GUI_LIBRARIES}
        assert not wrong, relative_id(path)


def package_of(module: str) -> str:
    """Return the package of a module, such as ``scans`` or ``gui``; empty for the top level."""
    parts = [*module.split("."), "", ""]
    return parts[2] if parts[1] == "core" else parts[1]


def layer_of(package: str, layers: tuple[set[str], ...]) -> int | None:
    return next((number for number, packages in enumerate(layers) if package in packages), None)


@cache
def project_modules(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, also in functions and for types."""
    found = set()
    for name in all_imports(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name and MODULES[name].name != "__init__.py":
            found.add(name)
    return found


def test_every_package_has_a_layer():
    packages = {package_of(name) for name in MODULES} - {"", "__main__"}
    assert packages == set().union(*LAYERS)


def upward_imports(
    modules: Iterable[str], package: Callable[[str], str], layers: tuple[set[str], ...]
) -> list[str]:
    """Return the imports of modules that do not go to a lower layer or stay in their package."""
    wrong = []
    for module in modules:
        layer = layer_of(package(module), layers)
        for name in project_modules(MODULES[module]):
            if layer is None or package(name) in ("", package(module)):
                continue
            below = layer_of(package(name), layers)
            if below is None or below >= layer:
                wrong.append(f"{module} imports {name}")
    return wrong


def test_packages_import_only_lower_layers():
    assert not upward_imports(MODULES, package_of, LAYERS)


def test_packages_of_the_window_import_only_lower_layers():
    def package(module: str) -> str:
        parts = [*module.split("."), "", ""]
        return parts[2] if parts[1] == "gui" else ""

    assert not upward_imports(
        [name for name in MODULES if package_of(name) == "gui"], package, WINDOW_LAYERS
    )


def test_there_are_no_circular_imports():
    """Imports inside functions are included."""
    plain = {name for name, path in MODULES.items() if path.name != "__init__.py"}
    graph = {name: project_modules(MODULES[name]) - {name} for name in sorted(plain)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circular import: " + " -> ".join(error.args[1]))


def test_folders_have_few_modules_and_levels():
    folders = {path.parent for path in SOURCES}
    for folder in folders:
        modules = [p for p in folder.glob("*.py") if not p.name.startswith("__")]
        packages = [f for f in folder.iterdir() if (f / "__init__.py").exists()]
        assert len(modules) <= MOST_MODULES, folder
        assert len(modules) + len(packages) <= MOST_MODULES + 3, folder
        depth = len(folder.relative_to(PACKAGE).parts)
        assert depth <= DEEPEST + ("formats" in folder.parts), folder


def test_every_folder_has_a_docstring():
    for path in SOURCES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_a_class_name_occurs_once():
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(relative_id(path))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def fresh_import(module: str) -> tuple[float, set[str]]:
    """Return the seconds of an import in a new interpreter, and the heavy libraries it loads."""
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
    assert not fresh_import(", ".join(packages))[1]


def test_importing_the_command_line_is_light():
    assert not fresh_import("napari_sslseg.cli.app")[1] & {"torch", "monai", "napari"}


def test_commands_of_the_manifest_exist_and_are_light():
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    assert manifest.name == "napari-sslseg"
    commands = manifest.contributions.commands or []
    assert commands
    modules = set()
    for command in commands:
        module, _, function = str(command.python_name).partition(":")
        defined = ast.parse(MODULES[module].read_text(encoding="utf-8")).body
        assert function in {getattr(node, "name", None) for node in defined}
        modules.add(module)
    loaded = fresh_import(", ".join(sorted(modules)))[1]
    assert not loaded & {"torch", "monai", "matplotlib", "SimpleITK"}


def test_the_manifest_at_the_top_is_a_link_to_the_packaged_one():
    packaged = PACKAGE / "napari.yaml"
    top = ROOT / "napari.yaml"
    if sys.platform != "win32":  # on Windows git writes a link as a text file
        assert top.is_symlink()
        assert top.resolve() == packaged.resolve()
        assert top.read_bytes() == packaged.read_bytes()
