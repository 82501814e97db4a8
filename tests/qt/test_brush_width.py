"""The width of the brush in mm, in a real window."""

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt

from label_dock import Dock
from napari_sslseg.core.project.project import Project

SPACINGS = {"coarse": (2.0, 2.0, 6.0), "fine": (0.8, 0.8, 3.0)}


@pytest.fixture
def dock(viewer, qtbot, tmp_path, monkeypatch):
    """The label panel with a project of two scans of other pixels; the coarse one is shown."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    paths = []
    for name, spacing in SPACINGS.items():
        shape = tuple(int(200 / side) for side in spacing)
        values = np.random.default_rng(0).normal(300, 60, shape).astype(np.int16)
        paths.append(tmp_path / f"{name}.nii")
        nib.save(nib.Nifti1Image(values, np.diag([*spacing, 1.0])), paths[-1])
    with Project.create(tmp_path / "project") as project:
        project.add_scans(paths)
        project.add_class("liver")
        project.remember("scan", "coarse")
    made = Dock(viewer, qtbot, tmp_path / "project")
    yield made
    made.leave()


def type_mm(dock, text):
    box = dock.find("brush-mm")
    box.setFocus()
    box.selectAll()
    dock.qtbot.keyClicks(box, text)
    dock.qtbot.keyClick(box, Qt.Key.Key_Return)


def show(dock, name):
    dock.session.select(name)
    dock.until(lambda: dock.session.current == name)


def painted_mm(dock):
    """Width of a dot of the brush along both axes of the view."""
    dock.press(Qt.Key.Key_P)
    dock.click_picture()
    drawn = np.argwhere(dock.layer.data)[:, 1:]
    extent = (np.ptp(drawn, axis=0) + 1) * np.array(dock.layer.scale[1:])
    dock.layer.undo()
    return extent


def test_the_brush_is_as_wide_on_every_scan(dock):
    box = dock.find("brush-mm")
    type_mm(dock, "16")
    assert dock.layer.brush_size == 8
    np.testing.assert_allclose(painted_mm(dock), 16, atol=2)
    show(dock, "fine")
    assert dock.layer.brush_size == 20
    assert box.value() == pytest.approx(16)
    assert "20 px" in box.toolTip()
    np.testing.assert_allclose(painted_mm(dock), 16, atol=0.81)
    # 5 mm are not a whole number of pixels of either scan, and do not drift between them.
    type_mm(dock, "5")
    for _ in range(2):
        assert (dock.layer.brush_size, box.value()) == (6, 4.8)
        show(dock, "coarse")
        assert (dock.layer.brush_size, box.value()) == (2, 4)
        show(dock, "fine")


def test_keys_and_napari_change_the_width_that_is_kept(dock):
    box = dock.find("brush-mm")
    type_mm(dock, "16")
    # After Enter the keys work on the picture again.
    focused = dock.viewer.window._qt_window.focusWidget()
    assert focused is not box
    for _ in range(2):
        dock.press(Qt.Key.Key_BracketRight)
    assert dock.layer.brush_size == 10
    assert box.value() == 20
    show(dock, "fine")
    assert dock.layer.brush_size == 25
    dock.press(Qt.Key.Key_BracketLeft)
    assert box.value() == pytest.approx(19.2)
    dock.layer.brush_size = 5
    assert box.value() == 4
    show(dock, "coarse")
    assert dock.layer.brush_size == 2


def test_wide_brushes_and_single_pixels_are_reached_by_the_slider(dock):
    slider, box = dock.find("brush-size"), dock.find("brush-mm")
    show(dock, "fine")  # 250 pixels wide.
    slider.setValue(slider.maximum())
    assert dock.layer.brush_size >= 100
    type_mm(dock, "72")
    assert dock.layer.brush_size == 90
    slider.setValue(0)
    assert dock.layer.brush_size == 1
    slider.setFocus()
    seen = [dock.layer.brush_size]
    for _ in range(slider.maximum()):
        dock.qtbot.keyClick(slider, Qt.Key.Key_Right)
        seen.append(dock.layer.brush_size)
    assert seen == sorted(set(seen))  # Each step changes the brush.
    type_mm(dock, "0.1")
    assert (dock.layer.brush_size, box.value()) == (1, 0.8)


def test_in_another_plane_the_width_stays(dock):
    type_mm(dock, "12")
    dock.viewer.dims.roll()  # Pixels of 6 and 2 mm.
    assert dock.layer.brush_size == 6
    assert dock.find("brush-mm").value() == 12
    # The scale of a layer that stays may change with its data.
    dock.layer.scale = (6, 3, 3)
    assert dock.layer.brush_size == 4
