"""The pretraining panel in a real window: settings, pictures, and a complete training."""

import sys
import time
from typing import Literal

import numpy as np
import pytest
from pydantic import BaseModel, Field, model_validator
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QScrollArea

from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.pretrain.panel import PretrainPanel
from napari_sslseg.gui.pretrain.picture_strip import PictureStrip
from napari_sslseg.gui.pretrain.tiles import Tile
from napari_sslseg.gui.viewer.scene import Scene
from napari_sslseg.gui.widgets.curve_plot import REDRAW_SECONDS, CurvePlot
from napari_sslseg.gui.widgets.forms import SettingsForm
from patience import LIMIT
from small_scans import write_small_scans

LEFT = Qt.MouseButton.LeftButton
MILLISECONDS = round(1000 * LIMIT)


# Forms


class Inner(BaseModel):
    patience: int = Field(3, ge=1, le=9, title="Patience")


class Example(BaseModel):
    steps: int = Field(5, ge=1, le=10, title="Steps", description="How <many> of them.")
    rate: float = Field(0.001, gt=0, le=1, title="Rate")
    way: Literal["one", "other"] = "one"
    clip: float | None = Field(None, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    spacing: Literal["keep"] | float = "keep"
    fast: bool = False
    inner: Inner | None = None
    table: dict[str, int] | None = None
    kind: Literal["example"] = "example"

    @model_validator(mode="after")
    def _check(self) -> "Example":
        if self.fast and self.way == "other":
            raise ValueError("the other way is never fast")
        return self


def typed(form, name, text):
    line = form.editor(name).line
    line.selectAll()
    QTest.keyClicks(line, text)


def test_a_form_shows_settings_and_returns_changed_ones(qtbot):
    start = Example(clip=2, spacing=1.5, inner=Inner(patience=4))
    form = SettingsForm(start, without=("fast",))
    qtbot.addWidget(form)
    form.show()
    assert form.fields == ("steps", "rate", "way", "clip", "betas", "spacing", "inner")
    assert form.value() == start
    assert form.changes() == {}
    assert "&lt;many&gt;" in form.editor("steps").toolTip()
    assert form.editor("steps").inner.accessibleName() == "Steps"
    typed(form, "rate", "1e-2")
    typed(form, "betas", "0.5, 0.6")
    typed(form, "spacing", "keep")
    form.editor("clip").line.clear()
    QTest.keyClick(form.editor("clip").line, Qt.Key.Key_Delete)
    form.editor("inner").box.setChecked(False)
    assert form.value() == Example(rate=0.01, betas=(0.5, 0.6))
    assert set(form.changes()) == {"rate", "betas", "spacing", "clip", "inner"}
    form.set_value(start)
    assert form.value() == start


def test_an_invalid_value_is_explained_next_to_its_field(qtbot):
    form = SettingsForm(Example())
    qtbot.addWidget(form)
    form.show()
    with qtbot.waitSignal(form.changed):
        typed(form, "rate", "7")
    assert form.value() is None
    assert "at most 1" in form.problem("rate")
    typed(form, "rate", "0")
    assert "more than 0" in form.problem("rate")
    typed(form, "rate", "fast")
    assert "number, such as 0.001" in form.problem("rate")
    assert form._problems["rate"].isVisible()
    typed(form, "rate", "0.5")
    assert not form._problems["rate"].isVisible()
    form.editor("fast").box.setChecked(True)
    form.editor("way").set("other")
    assert form.problem() == "The other way is never fast."
    assert form.value() is None
    form.editor("way").set("one")
    assert form.value() == Example(rate=0.5, fast=True)


# Pictures and curves


def test_pictures_wrap_to_the_width_of_the_panel(qtbot):
    strip = PictureStrip()
    qtbot.addWidget(strip)
    pixels = np.zeros((20, 40, 3), np.uint8)
    strip.show_tiles([Tile(str(n), str(n), pixels, aspect=3.0) for n in range(5)])
    for width, columns in ((345, 3), (900, 5), (345, 3)):
        strip.resize(width, 400)
        strip.show()
        qtbot.waitUntil(lambda c=columns: strip.columns == c)
        picture = strip._parts[0].picture
        qtbot.waitUntil(lambda p=picture: p.target().width() > 80)
        target = picture.target()
        # A pixel is three times as high as wide.
        assert target.height() / target.width() == pytest.approx(1.5, abs=0.05)
    strip.show_tiles(strip.shown[:2])
    assert strip.columns == 2
    assert not strip._parts[3].isVisible()


def test_a_curve_is_redrawn_at_most_once_a_second(qtbot):
    plot = CurvePlot()
    qtbot.addWidget(plot)
    plot.show()
    plot.add("Loss", 0, 10)
    plot.request_redraw()
    qtbot.waitUntil(lambda: plot.drawn == 1, timeout=MILLISECONDS)
    begun, drawn = time.monotonic(), plot.drawn
    for step in range(1, 100):
        plot.add("Loss", step, 10 / step)
        plot.add("Validation", step, -1 if step % 2 else 1, marked=True)
        plot.request_redraw()
        QTest.qWait(20)
    passed = time.monotonic() - begun
    assert 1 <= plot.drawn - drawn <= passed / REDRAW_SECONDS + 1
    plot.log.setChecked(True)
    plot.set_theme("light")
    qtbot.waitUntil(lambda: not plot._timer.isActive())
    assert plot.theme == "light"
    assert "Loss" in plot.key.text()
    # The words at a step that is not reached would be cut at the edge.
    for step, shown in ((50, True), (101, False)):
        plot.mark(step, "with unlabelled scans")
        plot.redraw()
        assert plot._lines[step].isVisible() is shown
    plot.clear()
    assert not plot.curves


# The panel


@pytest.fixture
def session(tmp_path):
    with Project.create(tmp_path / "project") as project:
        project.add_scans(write_small_scans(tmp_path / "scans", 3))
    session = Session()
    session.problems = []
    session.problem.connect(lambda problem: session.problems.append(problem.sentence))
    yield session
    for job in session.jobs:
        job.stop()
        job.wait(30)
    session.close()


@pytest.fixture
def panel(viewer, session, qtbot, tmp_path):
    scene = Scene(session, viewer)
    panel = PretrainPanel(session, scene)
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setWidget(panel)
    area.setFixedWidth(380)
    viewer.window.add_dock_widget(area, area="right")
    timer = QTimer(panel)
    timer.timeout.connect(session.pump)
    timer.start(20)
    assert session.open(tmp_path / "project")
    session.select("patient_0")
    qtbot.waitUntil(lambda: bool(panel.strip.shown), timeout=MILLISECONDS)
    return panel


def pump_until_idle(session, qtbot):
    def idle():
        session.pump()
        return not session.jobs

    qtbot.waitUntil(idle, timeout=MILLISECONDS)


def names(panel):
    return [tile.name for tile in panel.strip.shown]


def test_pictures_follow_the_chosen_task_and_the_slice(panel, session, qtbot):
    assert names(panel) == ["original", "corrupted", "mask"]
    assert "3 scans of 3 patients, 36 axial slices" in panel.estimate.text()
    qtbot.waitUntil(lambda: "Runs on" in panel.estimate.text(), timeout=MILLISECONDS)
    assert "known after the first steps" in panel.estimate.text()
    first = panel.strip.shown[0].pixels
    panel.scene.go_to(2)
    qtbot.waitUntil(lambda: not np.array_equal(panel.strip.shown[0].pixels, first))
    masks = panel.strip.shown[2].pixels
    panel.form.patch.setCurrentIndex(panel.form.patch.findData(16))
    qtbot.waitUntil(lambda: not np.array_equal(panel.strip.shown[2].pixels, masks))
    panel.form.choose("global-contrast")
    assert not panel.form.patch.isVisible()
    qtbot.waitUntil(
        lambda: names(panel) == ["original", "partner", "corrupted"], timeout=MILLISECONDS
    )
    panel.form.choose("polycl-s")
    qtbot.waitUntil(lambda: "once the training runs" in panel.note.text(), timeout=MILLISECONDS)
    assert panel.box.start.isEnabled()
    assert not session.problems


def test_an_invalid_setting_is_reported_and_disables_start(panel, qtbot):
    qtbot.mouseClick(panel.form.fold.button, LEFT)
    form = panel.form._forms["options"]
    typed(form, "min_area", "3")
    assert "at most 0.9" in form.problem("min_area")
    qtbot.waitUntil(lambda: not panel.box.start.isEnabled())
    assert "Advanced" in panel.estimate.text()
    typed(form, "min_area", "0.2")
    qtbot.waitUntil(panel.box.start.isEnabled)
    # The preview reports patches that are too large for the slices.
    panel.form.patch.setCurrentIndex(panel.form.patch.findData(64))
    qtbot.waitUntil(lambda: not panel.box.start.isEnabled(), timeout=MILLISECONDS)
    assert panel.note.text().startswith("⚠ ")
    panel.form.patch.setCurrentIndex(0)
    qtbot.waitUntil(panel.box.start.isEnabled)


def test_the_batch_size_follows_the_network_until_it_is_set(panel, session, qtbot):
    form = panel.form
    assert (form.batch.value(), form.batch.suffix()) == (16, " slices")
    form.network.setCurrentIndex(form.network.findData("dense3d"))
    assert (form.batch.value(), form.batch.suffix()) == (2, " crops")
    assert form.plan().training_settings().batch_size == 2
    form.batch.setValue(3)
    form.network.setCurrentIndex(form.network.findData("tiny"))
    assert form.batch.value() == 3
    assert form.plan().training_settings().batch_size == 3


def test_a_training_is_started_paused_stopped_and_resumed(panel, session, qtbot):
    from napari.utils import progress

    form, box = panel.form, panel.box
    form.network.setCurrentIndex(form.network.findData("tiny"))
    form.steps.setValue(60)
    assert form.length.currentText() == "Other"
    form.batch.setValue(4)
    qtbot.waitUntil(box.start.isEnabled)
    qtbot.mouseClick(box.start, LEFT)
    assert not form.isVisible()
    assert box.stop.isVisible()
    assert not box.start.isVisible()
    qtbot.waitUntil(lambda: box.eta.step > 1, timeout=MILLISECONDS)
    assert len(progress._all_instances) == 1
    qtbot.mouseClick(box.pause, LEFT)
    qtbot.waitUntil(lambda: box.job.status == "paused", timeout=MILLISECONDS)
    assert box.state.text().startswith("Paused at step")
    assert box.pause.text().replace("&", "") == "Resume"
    held = box.eta.step
    QTest.qWait(200)
    assert box.eta.step == held
    qtbot.mouseClick(box.pause, LEFT)
    qtbot.waitUntil(lambda: box.eta.step > held, timeout=MILLISECONDS)
    qtbot.waitUntil(lambda: "restored" in names(panel), timeout=MILLISECONDS)
    assert {"restored", "error"} <= set(names(panel))
    qtbot.mouseClick(box.stop, LEFT)
    if box.job is not None:
        assert box.state.text().startswith("Stopping")
        assert not box.stop.isEnabled()
    qtbot.waitUntil(lambda: box.job is None, timeout=MILLISECONDS)
    assert form.isVisible()
    assert not progress._all_instances
    qtbot.waitUntil(lambda: not session.jobs, timeout=MILLISECONDS)
    (line,) = panel.runs.lines
    if line.resumable:  # On a fast machine the training may have finished.
        assert "was stopped at step" in box.state.text()
        assert panel.runs.button.text().replace("&", "") == "Resume pretrain-001"
        qtbot.mouseClick(panel.runs.button, LEFT)
        qtbot.waitUntil(lambda: box.job is None, timeout=MILLISECONDS)
    assert "pretrain-001 is finished" in box.state.text()
    qtbot.waitUntil(lambda: not session.jobs, timeout=MILLISECONDS)
    (line,) = panel.runs.lines
    assert line.text.startswith("pretrain-001, finished, 60 steps, loss ")
    assert not panel.runs.button.isVisible()
    # The restoration of the current slice is shown.
    qtbot.waitUntil(lambda: "pretrain-001" in panel.heading.text(), timeout=MILLISECONDS)
    assert "restored" in names(panel)
    assert len(box.plot.curves["Loss"]) > 0
    assert "Device:" in box.log.toPlainText()
    assert box.messages.title.startswith("&Messages (")
    assert session.project.recall("pretrain")["steps"] == 60
    assert not session.problems


def test_an_unfinished_run_is_offered_for_resuming_when_the_project_opens(
    viewer, session, qtbot, tmp_path
):
    folder = tmp_path / "project/runs/pretrain-007"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        '{"format": 1, "kind": "pretrain", "settings": {"training": {"steps": 1000}},'
        ' "status": "running"}'
    )
    panel = PretrainPanel(session, Scene(session, viewer))
    qtbot.addWidget(panel)
    panel.show()
    assert panel.estimate.text() == "" or "⚠" in panel.estimate.text()
    assert session.open(tmp_path / "project")
    pump_until_idle(session, qtbot)
    assert panel.runs.button.text().replace("&", "") == "Resume pretrain-007"
    # The record is too incomplete to resume, which is reported.
    qtbot.mouseClick(panel.runs.button, LEFT)
    pump_until_idle(session, qtbot)
    assert len(session.problems) == 1
    assert "failed" in panel.box.state.text()


def test_the_curve_has_the_theme_of_the_window(viewer, session, qtbot):
    panel = PretrainPanel(session, Scene(session, viewer))
    qtbot.addWidget(panel)
    for theme in ("light", "dark"):
        viewer.theme = theme
        assert panel.box.plot.theme == theme


@pytest.mark.parametrize(
    "kept", [5, {"what": ["x"]}, {"what": "context-restoration", "steps": 2**40, "batch": -(2**40)}]
)
def test_invalid_values_stored_in_the_project_are_replaced(viewer, session, qtbot, tmp_path, kept):
    assert session.open(tmp_path / "project")
    session.project.remember("pretrain", kept)
    panel = PretrainPanel(session, Scene(session, viewer))
    qtbot.addWidget(panel)
    for box in (panel.form.steps, panel.form.batch):
        assert box.minimum() <= box.value() <= box.maximum()
    if isinstance(kept, dict) and "steps" in kept:
        assert panel.form.steps.value() == panel.form.steps.maximum()


def test_opening_the_panel_loads_no_pytorch():
    import subprocess

    code = (
        "import napari_sslseg.gui.pretrain.panel, sys;"
        "print(sorted(set(sys.modules) & {'torch', 'monai', 'pyqtgraph', 'matplotlib'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
