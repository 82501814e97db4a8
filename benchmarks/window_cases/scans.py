"""The window while scans are added, shown and predicted."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from window_cases.measure import (
    Lateness,
    add_layers,
    drawings,
    is_quiet,
    open_plugin,
    open_window,
    process_events,
    wait,
)

SMALL, LARGE = (35, 51, 35), (512, 512, 300)
SWITCH_ARMS = ("napari alone, new layers", "napari alone, same layers", "plugin")
SCANS = 100
PREDICTED = 12


def write_scans(folder: Path, count: int, shape: tuple[int, int, int]) -> Path:
    """Write CT scans of a cylinder in air, with noise, as integers of 16 bits."""
    import nibabel as nib

    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows, columns = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    body = np.where(rows**2 + columns**2 < 0.8, 40, -1000)
    spacing = np.diag((0.8, 0.8, 1.0, 1.0))
    for number in range(count):
        data = np.empty(shape, np.int16, order="F")
        for plane in range(shape[2]):
            data[..., plane] = body + generator.integers(-20, 20, shape[:2])
        nib.save(nib.Nifti1Image(data, spacing), folder / f"patient{number:03d}.nii")
    return folder


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of some figures and the longest delay, with the causes of all."""
    figures = {
        name: float(np.median([run[name] for run in runs]))
        for name in ("took", "cpu", "cpu of the main thread")
    }
    causes: dict[str, int] = {}
    for run in runs:
        for cause, count in run["causes"].items():
            causes[cause] = causes.get(cause, 0) + count
    longest = {name: max(run[name] for run in runs) for name in ("longest", "longest in cpu")}
    return {**figures, **longest, "causes": causes}


def measured(viewer: Any, act: Callable[[], None], ready: Callable[[], Any]) -> dict[str, Any]:
    """Measure an action until a condition is true and the canvas was drawn."""
    drawn = drawings(viewer)
    lateness = Lateness()
    lateness.begin()
    act()
    wait(ready)
    longest = time.monotonic() + 0.5
    wait(lambda: drawn or time.monotonic() > longest)
    return lateness.end()


def switch(arm: str, shape: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Show one scan after another, with those that were shown before among them."""
    from napari_sslseg import core

    files = write_scans(Path(tempfile.mkdtemp()) / "scans", 5, shape)
    if arm == "plugin":
        viewer, widget = open_plugin(files)
    else:
        viewer, widget = open_window(), None
        first = core.load_volume(sorted(files.iterdir())[0])
        add_layers(viewer, first, np.zeros(first.data.shape, np.uint8))
        process_events(1)

    def show(number: int) -> dict[str, Any]:
        if widget is not None:
            name = widget.session.project.names[number % 5]

            def ready() -> bool:
                shown = widget.scene.image is not None and widget.session.current == name
                return bool(shown and is_quiet(widget))

            return measured(viewer, lambda: widget.session.select(name), ready)

        def act() -> None:
            volume = core.load_volume(sorted(files.iterdir())[number % 5])
            labels = np.zeros(volume.data.shape, np.uint8)
            if arm == SWITCH_ARMS[0]:
                viewer.layers.clear()
                add_layers(viewer, volume, labels)
            else:
                viewer.layers[0].data, viewer.layers[1].data = volume.data, labels

        return measured(viewer, act, lambda: True)

    return summary([show(number) for number in range(1, rounds + 1)])


def add() -> dict[str, Any]:
    """Add scans to an empty project, until the first is shown and all thumbnails are made."""
    files = write_scans(Path(tempfile.mkdtemp()) / "scans", SCANS, SMALL)
    viewer, widget = open_plugin()
    session = widget.session
    return measured(
        viewer, lambda: session.add([files]), lambda: widget.scene.labels and is_quiet(widget)
    )


def large(arm: str, scan: str) -> dict[str, Any]:
    """Add a large CT to an empty project, and show it."""
    from napari_sslseg import core

    file = Path(scan) if scan else write_scans(Path(tempfile.mkdtemp()) / "scans", 1, LARGE)
    if arm == "plugin":
        viewer, widget = open_plugin()
        return measured(
            viewer,
            lambda: widget.session.add([file]),
            lambda: widget.scene.labels is not None and is_quiet(widget),
        )
    viewer = open_window()
    process_events(1)

    def act() -> None:
        volume = core.load_volume(file)
        add_layers(viewer, volume, np.zeros(volume.data.shape, np.uint8))

    return measured(viewer, act, lambda: True)


def predict() -> dict[str, Any]:
    """Predict all scans of a project with the button of step 5."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_sslseg import core

    folder = Path(tempfile.mkdtemp())
    core.write_dataset(folder / "scans", n=PREDICTED)
    viewer, widget = open_plugin(folder / "scans/images")
    session = widget.session
    project = session.project
    for name in project.names[:4]:
        file = folder / "scans/labels" / f"{name}.nii.gz"
        project.import_labels(name, file, "with labels")
    network = core.FinetuneSettings(training=core.Training(steps=5))
    session.finetune(None, network, device="cpu")
    wait(lambda: not session.jobs)
    widget.show_step("Inspect")
    process_events(1)
    panel = widget.panels["Inspect"]
    begun = time.monotonic()
    return measured(
        viewer,
        lambda: QTest.mouseClick(panel.all, Qt.MouseButton.LeftButton),
        lambda: panel.job is None and time.monotonic() - begun > 1,
    )
