"""The window during a training: event loop, strokes, previews, and closing."""

import threading
import time
from typing import Any

import numpy as np

from window_cases.measure import Lateness, drawings, opened, process_events, wait

BATCH, SIZE = 16, 128
STROKES = 40
STROKE_MILLISECONDS = 400
DRAWN = "bare thread and a number"
LOOPS = {
    "napari alone": False, "bare thread": False, DRAWN: False, "plugin": False,
    "napari alone, strokes": True, "bare thread, strokes": True, "plugin, strokes": True,
}  # fmt: skip
"""Arms of the event loop, and whether strokes are painted meanwhile."""


def pretraining(widget: Any) -> None:
    """Start the recommended pretraining with its button, and wait for its first steps."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    widget.show_step("Pretrain")
    panel = widget.panels["Pretrain"]
    wait(lambda: panel.box.start.isEnabled() and panel.strip.shown)
    panel.form.length.setCurrentIndex(panel.form.length.findData(0))
    panel.form.steps.setValue(100_000)
    process_events(0.3)
    QTest.mouseClick(panel.box.start, Qt.MouseButton.LeftButton)
    wait(lambda: panel.box.eta.step > 3)


def bare_training() -> None:
    """Train the network of the plugin in a thread, without the plugin."""
    import torch

    from napari_sslseg.core.networks.build import make_network
    from napari_sslseg.core.settings.stages import PretrainSettings

    network = make_network(PretrainSettings().network, 1, 1)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.rand(BATCH, 1, SIZE, SIZE)

    def work() -> None:
        while True:
            loss = ((network(images) - images) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    threading.Thread(target=work, daemon=True).start()


def counting_label(viewer: Any) -> None:
    """A dock with a number that changes once a second, which redraws the whole window."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QLabel

    label = QLabel("0")
    viewer.window.add_dock_widget(label, name="Steps")
    timer = QTimer(label)
    timer.timeout.connect(lambda: label.setText(str(int(label.text()) + 1)))
    timer.start(1000)


def ready_brush(viewer: Any, widget: Any) -> Any:
    """Make the brush ready on the labels, and return their layer."""
    if widget is not None:
        widget.show_step("Label")
    layer = widget.scene.labels if widget is not None else viewer.layers[-1]
    viewer.layers.selection = {layer}
    layer.mode, layer.brush_size, layer.selected_label = "paint", 6, 1
    return layer


def keep_painting(viewer: Any, widget: Any) -> None:
    """Paint a short stroke again and again."""
    from qtpy.QtCore import QPoint, Qt, QTimer
    from qtpy.QtTest import QTest

    ready_brush(viewer, widget)
    native = viewer.window._qt_viewer.canvas.native
    generator = np.random.default_rng(0)
    middle = np.array([native.width(), native.height()]) / 2

    def paint() -> None:
        begin, end = middle + generator.uniform(-120, 120, (2, 2))
        QTest.mousePress(native, Qt.MouseButton.LeftButton, pos=QPoint(*begin.astype(int)))
        for share in (0.25, 0.5, 0.75, 1):
            place = begin + share * (end - begin)
            QTest.mouseMove(native, QPoint(*place.astype(int)))
        QTest.mouseRelease(native, Qt.MouseButton.LeftButton, pos=QPoint(*end.astype(int)))

    timer = QTimer(native)
    timer.timeout.connect(paint)
    timer.start(STROKE_MILLISECONDS)


def loop(arm: str, seconds: float) -> dict[str, Any]:
    plugin = arm.startswith("plugin")
    viewer, widget = opened(plugin)
    if arm.startswith("bare thread"):
        bare_training()
        if arm == DRAWN:
            counting_label(viewer)
    elif plugin:
        pretraining(widget)
    if LOOPS[arm]:
        keep_painting(viewer, widget)
    process_events(3)
    return Lateness().measure(seconds)


def stroke(arm: str) -> dict[str, Any]:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer, widget = opened(arm == "plugin")
    if widget is not None:
        pretraining(widget)
    layer = ready_brush(viewer, widget)
    process_events(3)
    canvas = viewer.window._qt_viewer.canvas
    drawn = drawings(viewer)
    generator, took = np.random.default_rng(0), []
    for _ in range(STROKES):
        middle = np.array([canvas.native.width(), canvas.native.height()]) / 2
        place = QPoint(*(int(n) for n in middle + generator.uniform(-120, 120, 2)))
        QTest.mouseMove(canvas.native, place)
        process_events(0.3)
        painted = layer.data.sum(dtype=np.int64)
        drawn.clear()
        begun = time.perf_counter()
        QTest.mousePress(canvas.native, Qt.MouseButton.LeftButton, pos=place)
        QTest.mouseRelease(canvas.native, Qt.MouseButton.LeftButton, pos=place)
        wait(lambda: bool(drawn), 5)
        if layer.data.sum(dtype=np.int64) != painted:
            took.append((drawn[0] - begun) * 1000)
    return {
        "strokes": len(took),
        "p50": float(np.percentile(took, 50)),
        "p95": float(np.percentile(took, 95)),
        "longest": float(np.max(took)),
    }


def preview() -> dict[str, Any]:
    _, widget = opened(True)
    widget.show_step("Pretrain")
    panel = widget.panels["Pretrain"]
    wait(lambda: bool(panel.strip.shown))
    took = []
    patch = panel.form.patch
    for number in range(20):
        wait(lambda: not panel.pictures.busy)
        process_events(0.3)
        before = panel.strip.shown
        begun = time.perf_counter()
        patch.setCurrentIndex(patch.findData((8, 16)[number % 2]))
        while panel.strip.shown is before:
            process_events(0.002)
            if time.perf_counter() - begun > 10:
                raise TimeoutError
        took.append((time.perf_counter() - begun) * 1000)
    return {"p50": float(np.percentile(took, 50)), "longest": max(took)}


def close() -> dict[str, Any]:
    """Close the window during a pretraining, and agree that it is stopped and saved."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication, QPushButton

    viewer, widget = opened(True)
    pretraining(widget)
    process_events(5)
    job = widget.session.training
    step = widget.panels["Pretrain"].box.eta.step
    pressed: list[float] = []

    def agree() -> None:
        dialog = QApplication.activeModalWidget()
        button = dialog.findChild(QPushButton, "answer-Stop it and close") if dialog else None
        if button is not None and not pressed:
            pressed.append(time.perf_counter())
            button.click()

    timer = QTimer()
    timer.timeout.connect(agree)
    timer.start(20)
    viewer.window._qt_window.close()
    lateness = Lateness()
    lateness.begin()
    wait(lambda: widget.shutdown.over)
    took = (time.perf_counter() - pressed[0]) * 1000
    saved = max(int(path.stem) for path in (job.folder / "states").glob("*.safetensors"))
    figures = lateness.end()
    return {"took": took, "longest": figures["longest"], "step": step, "saved step": saved}
