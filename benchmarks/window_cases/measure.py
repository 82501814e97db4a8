"""Open a window, let its event loop run, and measure delays, CPU time and memory meanwhile.

The delays grow when other programs use the cores; the CPU time that the main thread uses from one
tick to the next grows little.
"""

import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TICK = 0.005
LONG, GAP = 0.04, 0.1
PLUGIN = "napari-sslseg"
STEP_NAME = "Few-shot segmentation"


class Lateness:
    """Delay of the event loop at a timer, CPU time, memory, and what the main thread does."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[float] = []
        self.busy: list[float] = []
        self.causes: Counter[str] = Counter()
        self._main = threading.get_ident()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._tick)
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def begin(self) -> None:
        """Start to measure."""
        self.most_memory = self._memory = resident_bytes()
        self._cpu, self._own = time.process_time(), time.thread_time()
        self._begun = self._last = time.perf_counter()
        self._used = self._own
        self.timer.start(round(TICK * 1000))
        self._watch.start()

    def end(self) -> dict[str, Any]:
        """Stop, and return milliseconds, MB, and what long delays were spent on."""
        self._tick()
        self.timer.stop()
        self._over.set()
        late = np.array(self.late) * 1000
        took = (time.perf_counter() - self._begun) * 1000
        return {
            "took": took,
            "cpu": (time.process_time() - self._cpu) * 1000,
            "cpu of the main thread": (time.thread_time() - self._own) * 1000,
            "p50": float(np.percentile(late, 50)),
            "p99": float(np.percentile(late, 99)),
            "longest": float(late.max()),
            "longest in cpu": max(self.busy) * 1000,
            "over 40 ms": int((late > LONG * 1000).sum()),
            "% in gaps over 100 ms": float(late[late > GAP * 1000].sum() / took * 100),
            "peak MB": (self.most_memory - self._memory) / 1e6,
            "MB": (resident_bytes() - self._memory) / 1e6,
            "causes": dict(self.causes.most_common(8)),
        }

    def measure(self, seconds: float) -> dict[str, Any]:
        """Measure for a while; the event loop runs meanwhile."""
        self.begin()
        process_events(seconds)
        return self.end()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, now - self._last - TICK))
        used = time.thread_time()
        self.busy.append(used - self._used)
        self._last, self._used = now, used

    def _look(self) -> None:
        reported = 0.0
        while not self._over.wait(0.01):
            self.most_memory = max(self.most_memory, resident_bytes())
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


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell it in this way."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.exists() else 0


def process_events(seconds: float) -> None:
    """Let the event loop run; vispy replaces ``QTest.qWait`` by a loop that never sleeps."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(round(seconds * 1000), loop.quit)
    loop.exec()


def wait(condition: Callable[[], Any], seconds: float = 400) -> None:
    """Let the event loop run until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        process_events(0.02)


def open_window() -> Any:
    """Open a napari window of the size of a small laptop."""
    import napari

    viewer = napari.Viewer(show=True)
    viewer.window.resize(1366, 768)
    return viewer


def open_plugin(scans: Path | None = None) -> tuple[Any, Any]:
    """Open a window with the plugin and a project, with these scans if there are any."""
    from napari_sslseg import core

    folder = Path(tempfile.mkdtemp()) / "project"
    with core.Project.create(folder) as project:
        if scans is not None:
            project.add_scans(scans)
        project.add_class("liver")
    viewer = open_window()
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, STEP_NAME)
    assert widget.session.open(folder)
    wait(lambda: not widget.session.jobs)
    if scans is not None:
        widget.session.select(widget.session.project.names[0])
        wait(lambda: widget.scene.labels is not None and is_quiet(widget))
    process_events(1)
    return viewer, widget


def is_quiet(widget: Any) -> bool:
    """Whether no job runs, and the labels are known to be saved."""
    return not widget.session.jobs and widget.scene.autosaver.status in ("none", "saved")


def opened(plugin: bool) -> tuple[Any, Any]:
    """A window, with the plugin and a project of phantoms, or with one scan only."""
    from napari_sslseg import core
    from napari_sslseg.core.demo.phantom.patient import make_patient

    if plugin:
        folder = Path(tempfile.mkdtemp())
        core.write_dataset(folder / "scans", n=6)
        return open_plugin(folder / "scans/images")
    viewer = open_window()
    scan, truth = make_patient(0, "MR")
    add_layers(viewer, scan, np.zeros_like(truth.data, np.uint8))
    process_events(1)
    return viewer, None


def add_layers(viewer: Any, volume: Any, labels: np.ndarray) -> None:
    """Add a scan and its labels, as a user of napari alone would."""
    viewer.add_image(volume.data, scale=volume.spacing)
    viewer.add_labels(labels, scale=volume.spacing)


def drawings(viewer: Any) -> list[float]:
    """Return a list to which the end of each drawing of the canvas is appended."""
    drawn: list[float] = []
    viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(
        lambda event: drawn.append(time.perf_counter()), position="last"
    )
    return drawn
