"""The unit and the form of the value below the mouse, without a window."""

import numpy as np
import pytest
from napari.components import ViewerModel

from dicom_files import write_series
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.pointer.voxel_readout import VoxelReadout, format_value
from napari_sslseg.gui.viewer.scene import Scene
from scene_project import until

SHAPE = (6, 12, 16)


def without_intercept(dataset, index):
    del dataset.RescaleIntercept
    del dataset.RescaleSlope


@pytest.mark.parametrize(
    ("modality", "edit", "expected"),
    [
        ("CT", None, "−42 HU"),
        ("CT", without_intercept, "intensity 982"),
        ("MR", without_intercept, "intensity 982"),
    ],
)
def test_only_a_ct_with_its_rescaling_is_in_hu(tmp_path, monkeypatch, modality, edit, expected):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write_series(tmp_path / "scan", np.full(SHAPE, 982, np.int16), modality=modality, edit=edit)
    with Project.create(tmp_path / "project") as project:
        project.add_scans([tmp_path / "scan"])
        project.remember("scan", project.names[0])
    session, viewer = Session(), ViewerModel()
    scene = Scene(session, viewer)
    readout = VoxelReadout(scene)
    said = []
    readout.changed.connect(said.append)
    assert session.open(tmp_path / "project")
    until(session, lambda: scene.labels is not None and not session.jobs)
    viewer.mouse_over_canvas = True
    viewer.cursor.position = scene.image.data_to_world((2, 3, 4))
    assert said[-1] == expected
    session.close()
    assert said[-1] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.int16(-1000), "−1000"),
        (np.float32(40.0), "40"),
        (np.float32(0.01234), "0.01234"),
        (np.float32(312.46), "312.5"),
        (np.float32(123456.7), "123457"),
        (np.float32("nan"), "not a number"),
    ],
)
def test_values_have_no_more_digits_than_they_need(value, text):
    assert format_value(value) == text
