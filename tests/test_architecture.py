"""The rules of the house, checked: which room imports which, and how large a room may grow."""

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
IMPORT_SECONDS = 0.5

FLOORS = (
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
"""Rooms from the ground up; a room imports itself and rooms of lower floors, nothing else."""

WINDOW_FLOORS = (
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
"""Rooms of the window, likewise; no step imports another step."""

MOST_MODULES = 13
"""Modules in a folder that a reader still sees at one look."""

DEEPEST = 4
"""Levels of folders below the package; only file formats have one more."""


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


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=relative_id)
def test_core_does_not_know_the_screen(path):
    assert not {name for name in all_imports(path) if name.split(".")[0] in SCREEN}


def room_of(module: str) -> str:
    """The room that a module is in, such as ``scans`` or ``gui``; empty for the package itself."""
    parts = [*module.split("."), "", ""]
    return parts[2] if parts[1] == "core" else parts[1]


def floor_of(room: str, floors: tuple[set[str], ...]) -> int | None:
    return next((number for number, rooms in enumerate(floors) if room in rooms), None)


def project_modules(path: Path) -> set[str]:
    """Modules of this project that a file imports anywhere, also in functions and for types."""
    found = set()
    for name in all_imports(path):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name and MODULES[name].name != "__init__.py":
            found.add(name)
    return found


def test_every_room_stands_on_a_floor():
    rooms = {room_of(name) for name in MODULES} - {"", "__main__"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=relative_id)
def test_a_room_imports_lower_floors_only(path):
    room = room_of(module_name(path))
    floor = floor_of(room, FLOORS)
    for name in project_modules(path):
        other = room_of(name)
        if floor is None or other == room:
            continue
        below = floor_of(other, FLOORS)
        assert below is not None and below < floor, f"{room} imports {name}"  # noqa: PT018


@pytest.mark.parametrize("path", sorted((PACKAGE / "gui").rglob("*.py")), ids=relative_id)
def test_a_room_of_the_window_imports_lower_floors_only(path):
    room = [*module_name(path).split("."), ""][2]
    floor = floor_of(room, WINDOW_FLOORS)
    for name in project_modules(path):
        parts = [*name.split("."), ""]
        if floor is None or parts[1] != "gui" or parts[2] == room:
            continue
        below = floor_of(parts[2], WINDOW_FLOORS)
        assert below is not None, f"{room} imports {name}"
        assert below < floor, f"{room} imports {name}"


def test_no_imports_run_in_a_circle():
    """Neither when modules load nor inside functions."""
    plain = {name for name, path in MODULES.items() if path.name != "__init__.py"}
    graph = {name: project_modules(MODULES[name]) - {name} for name in sorted(plain)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circular import: " + " -> ".join(error.args[1]))


def test_a_folder_is_seen_at_one_look():
    folders = {path.parent for path in SOURCES}
    for folder in folders:
        modules = [p for p in folder.glob("*.py") if not p.name.startswith("__")]
        rooms = [f for f in folder.iterdir() if (f / "__init__.py").exists()]
        assert len(modules) <= MOST_MODULES, folder
        assert len(modules) + len(rooms) <= MOST_MODULES + 3, folder
        depth = len(folder.relative_to(PACKAGE).parts)
        assert depth <= DEEPEST + ("formats" in folder.parts), folder


def test_every_folder_says_what_lives_in_it():
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
