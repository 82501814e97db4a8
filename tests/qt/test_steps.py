"""The dock widget: names of the steps, progress bar, slice numbers and closing."""

import gc
import time
import weakref

import pytest

from loop_project import make_project
from napari_sslseg.core.common.events import Done, Progress
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.gui.widget import LEAST_WIDTH, STEPS


@pytest.fixture
def dock(viewer, qtbot, tmp_path):
    make_project(tmp_path, count=2, labelled=1)
    _, widget = viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
    assert widget.session.open(tmp_path / "project")
    qtbot.waitUntil(lambda: not widget.session.jobs)
    widget.session.select(widget.session.project.names[0])
    qtbot.waitUntil(lambda: widget.scene.image is not None)
    yield widget
    for job in list(widget.session.jobs):
        job.stop()
    qtbot.waitUntil(lambda: not widget.session.jobs)
    widget.session.close()


def test_names_of_steps_fit_with_their_marks(dock, qtbot):
    dock.setFixedWidth(LEAST_WIDTH)
    qtbot.waitUntil(lambda: dock.width() == LEAST_WIDTH)
    for number, name in enumerate(STEPS):
        button = dock.steps.button(number)
        marked = f"{number + 1} {name}" + (" ✓" if name != "Inspect" else "")
        assert button.fontMetrics().horizontalAdvance(marked) <= button.width(), name


def test_the_progress_bar_is_hidden_if_the_step_shows_the_progress(dock, qtbot):
    def events(stop, pause):
        while not stop.is_set:
            yield Progress("Reading", 1, 3)
            time.sleep(0.005)
        yield Done(None, stopped=True)

    dock.session.run("predict", "Predicting", events)
    qtbot.waitUntil(dock.busy.isVisible)
    assert dock.busy.format() == "Reading: %v of %m"
    dock.show_step("Inspect")
    assert not dock.busy.isVisible()
    dock.show_step("Label")
    assert dock.busy.isVisible()
    dock.session.jobs[0].stop()
    qtbot.waitUntil(lambda: not dock.busy.isVisible())


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_slice_numbers_equal_those_of_the_slider(dock, plane, viewer):
    dock.show_step("Label")
    session = dock.session
    session.project.set_plane(plane, unmark=True)
    session.plane_changed.emit()
    axis = PLANE_AXIS[plane]
    slider = viewer.dims.ndim - 3 + axis
    viewer.dims.set_current_step(slider, 2)
    shown = dock.panels["Label"].slices
    last = viewer.dims.nsteps[slider] - 1
    assert shown.here.text().startswith(f"Slice 2 (0 to {last})")
    assert "Slice 2 (" in shown.strip.tip_at(sum(shown.strip.place_of(2)) / 2)


def open_and_close(viewer, qtbot, folder):
    """Use and close a dock widget; return weak references to its session and volume."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-sslseg", "Few-shot segmentation")
    session, shutdown = widget.session, widget.shutdown
    assert session.open(folder)
    qtbot.waitUntil(lambda: not session.jobs)
    session.select(session.project.names[0])
    qtbot.waitUntil(lambda: widget.scene.image is not None)
    widget.show_step("Train")
    widget.show_step("Pretrain")
    viewer.theme = "light"
    assert widget.panels["Train"].scores.plot.theme == "light"
    assert widget.panels["Pretrain"].box.plot.theme == "light"
    qtbot.waitUntil(lambda: not session.jobs)
    references = [weakref.ref(session), weakref.ref(session.volume)]
    viewer.window.remove_dock_widget(widget.parent())
    qtbot.waitUntil(lambda: shutdown.over)
    return references


def test_a_closed_dock_and_its_scan_are_released(viewer, qtbot, tmp_path):
    make_project(tmp_path, count=1, labelled=1)
    references = open_and_close(viewer, qtbot, tmp_path / "project")

    def gone():
        gc.collect()
        return [reference() for reference in references] == [None, None]

    qtbot.waitUntil(gone)
    viewer.theme = "dark"  # Deleted widgets receive no event.


def test_the_canvas_is_not_drawn_while_layers_are_replaced(dock, viewer, qtbot, monkeypatch):
    # Drawing a layer that is not ready can crash.
    scene, swap = dock.scene, dock.scene._swap
    swapping, drawn, within = [], [], []

    def watched(name):
        swapping.append(name)
        swap(name)
        swapping.pop()

    def heard(event):
        drawn.append(event)
        if swapping:
            within.append(swapping[-1])

    monkeypatch.setattr(scene, "_swap", watched)
    viewer.window._qt_viewer.canvas._scene_canvas.events.draw.connect(heard)
    first, second = dock.session.project.names
    for name in (second, first, second):
        dock.session.select(name)
        qtbot.waitUntil(lambda name=name: dock.session.current == name)
    qtbot.waitUntil(lambda: bool(drawn))
    assert not within
