"""Response of the window: event loop, strokes and previews during a training, and start-up.

All measurements are from a real napari window (``scripts/with-screen.sh`` starts a virtual screen),
each in a separate process:

loop      Delay of the event loop at a timer of 5 ms, for ``--seconds``: in a window without the
          plugin; during a bare thread that trains the same network; during that and a number that
          changes once a second, which redraws the window; and during the pretraining of the
          plugin, with its curve and its pictures.
stroke    From the press of the mouse to the end of the first drawing that shows the paint: on a
          labels layer of napari alone, and in the plugin while it pretrains.
preview   From a change of a setting to the new picture.
dock      From the call that opens the dock widget to its return, in an open window.
start     From the start of the process to a drawn napari window, without the plugin and with it,
          alternating; the median of the differences is the cost.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

STARTED = time.time()
TICK = 0.005
LONG = 0.04
BATCH, SIZE = 16, 128
STROKES = 40
PLUGIN = "napari-sslseg"
DRAWN = "bare thread and a number"


def hide_plugin() -> None:
    """Hide this plugin from napari, as if it were not installed."""
    found = metadata.distributions
    metadata.distributions = lambda **options: (  # type: ignore[assignment]
        item for item in found(**options) if item.metadata["Name"] != PLUGIN
    )


class Lateness:
    """Delay of the event loop at a timer, and the activity of the main thread meanwhile."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[float] = []
        self.causes: Counter[str] = Counter()
        self._last = time.perf_counter()
        self._main = threading.get_ident()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._tick)
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def measure(self, seconds: float) -> dict[str, Any]:
        """Measure for a while; the event loop runs meanwhile."""
        from qtpy.QtTest import QTest

        self._last = time.perf_counter()
        self.timer.start(round(TICK * 1000))
        self._watch.start()
        QTest.qWait(round(seconds * 1000))
        self.timer.stop()
        self._over.set()
        late = np.array(self.late) * 1000
        return {
            "p50": float(np.percentile(late, 50)),
            "p99": float(np.percentile(late, 99)),
            "longest": float(late.max()),
            "over 40 ms": int((late > LONG * 1000).sum()),
            "causes": dict(self.causes.most_common(8)),
        }

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, now - self._last - TICK))
        self._last = now

    def _look(self) -> None:
        reported = 0.0
        while not self._over.wait(0.01):
            last = self._last
            if time.perf_counter() - last > LONG and last != reported:
                reported = last
                frame = sys._current_frames().get(self._main)
                if frame is not None:
                    lines = [
                        f"{Path(entry.filename).name}:{entry.name}"
                        for entry in traceback.extract_stack(frame)
                    ]
                    self.causes[" < ".join(reversed(lines[-6:]))] += 1


def opened(plugin: bool) -> tuple[Any, Any]:
    """A window, with the plugin and a project of phantoms, or with one scan only."""
    import napari

    from napari_sslseg.core.demo.phantom.patient import make_patient

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)
    if not plugin:
        scan, truth = make_patient(0, "MR")
        viewer.add_image(scan.data, scale=scan.geometry.spacing)
        viewer.add_labels(np.zeros_like(truth.data, np.uint8), scale=scan.geometry.spacing)
        process_events(1)
        return viewer, None
    from napari_sslseg import core

    folder = Path(tempfile.mkdtemp())
    core.write_dataset(folder / "scans", n=6)
    with core.Project.create(folder / "project") as project:
        project.add_scans(folder / "scans/images")
        project.add_class("liver")
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Few-shot segmentation")
    assert widget.session.open(folder / "project")
    wait(lambda: not widget.session.jobs)
    widget.session.select(widget.session.project.names[0])
    wait(lambda: widget.scene.labels is not None)
    return viewer, widget


def process_events(seconds: float) -> None:
    """Let the event loop run."""
    from qtpy.QtTest import QTest

    QTest.qWait(round(seconds * 1000))


def wait(condition: Any, seconds: float = 120) -> None:
    """Let the event loop run until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        process_events(0.02)


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


def loop(arm: str, seconds: float) -> dict[str, Any]:
    viewer, widget = opened(arm == "plugin")
    if arm.startswith("bare thread"):
        bare_training()
        if arm == DRAWN:
            counting_label(viewer)
    elif arm == "plugin":
        pretraining(widget)
    process_events(3)
    return Lateness().measure(seconds)


def stroke(arm: str) -> dict[str, Any]:
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    viewer, widget = opened(arm == "plugin")
    if widget is not None:
        pretraining(widget)
        widget.show_step("Label")
    layer = widget.scene.labels if widget is not None else viewer.layers[-1]
    viewer.layers.selection = {layer}
    layer.mode, layer.brush_size, layer.selected_label = "paint", 6, 1
    process_events(3)
    canvas = viewer.window._qt_viewer.canvas
    drawn: list[float] = []
    canvas._scene_canvas.events.draw.connect(
        lambda event: drawn.append(time.perf_counter()), position="last"
    )
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


def dock() -> dict[str, Any]:
    import napari

    viewer = napari.Viewer(show=True)
    process_events(1)
    begun = time.perf_counter()
    viewer.window.add_plugin_dock_widget(PLUGIN, "Few-shot segmentation")
    return {"took": (time.perf_counter() - begun) * 1000}


def start(arm: str) -> dict[str, Any]:
    if arm == "without":
        hide_plugin()
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    QApplication.processEvents()
    took = (time.time() - STARTED) * 1000
    viewer.close()
    return {"took": took}


def ask(*arguments: str) -> dict[str, Any]:
    """Measure in a separate process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def row(name: str, figures: dict[str, Any]) -> None:
    shown = [f"{k} {v:.1f}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
             if k != "causes"]  # fmt: skip
    print(f"{name:<28} {', '.join(shown)}", flush=True)
    for cause, count in figures.get("causes", {}).items():
        print(f"{'':<30}{count} x {cause}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=10, help="of starts and docks")
    parser.add_argument("--only", choices=("loop", "stroke", "preview", "dock", "start"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--arm", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        arms: dict[str, Any] = {
            "loop": lambda: loop(given.arm, given.seconds), "stroke": lambda: stroke(given.arm),
            "preview": preview, "dock": dock, "start": lambda: start(given.arm),
        }  # fmt: skip
        print("\n" + json.dumps(arms[given.measure]()), flush=True)
        os._exit(0)  # Training threads would continue.

    def wanted(name: str) -> bool:
        return given.only in (None, name)

    print("milliseconds")
    if wanted("loop"):
        for arm in ("napari alone", "bare thread", DRAWN, "plugin"):
            row(f"loop, {arm}", ask("--measure=loop", f"--arm={arm}", f"--seconds={given.seconds}"))
    if wanted("stroke"):
        for arm in ("napari alone", "plugin"):
            row(f"stroke, {arm}", ask("--measure=stroke", f"--arm={arm}"))
    if wanted("preview"):
        row("preview", ask("--measure=preview"))
    if wanted("dock"):
        took = [ask("--measure=dock")["took"] for _ in range(given.rounds)]
        row("dock", {"p50": float(np.median(took)), "longest": max(took)})
    if wanted("start"):
        pairs = [
            [ask("--measure=start", f"--arm={arm}")["took"] for arm in ("without", "with")]
            for _ in range(given.rounds + 1)
        ][1:]  # The first one reads files that are not in the cache yet.
        without, with_ = np.median(pairs, axis=0)
        cost = float(np.median(np.diff(pairs, axis=1)))
        row("start", {"without": float(without), "with": float(with_), "cost": cost})


if __name__ == "__main__":
    main()
