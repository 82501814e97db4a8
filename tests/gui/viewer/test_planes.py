"""The point that the user looks at, and slices drawn without napari, both without a window."""

import numpy as np
import pytest

from napari_sslseg.gui.viewer.planes.plane_picture import labels_pictures, scan_picture
from scene_project import SHAPE, until


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_has_the_grey_of_its_window(scene, axis):
    image = scene.image
    image.contrast_limits = (200, 400)
    grey = np.clip((np.take(image.data, 3, axis) - 200.0) / 200, 0, 1) * 255
    picture = scan_picture(scene, axis, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture, np.repeat(grey[..., None], 3, -1), atol=1.6)
    image.gamma = 0.5
    brighter = scan_picture(scene, axis, 3)
    assert brighter.mean() > picture.mean()
    image.visible = False
    assert not scan_picture(scene, axis, 3).any()


def test_labels_have_colour_opacity_and_outlines(scene):
    scene.labels.data[2:5, 4:9, 4:9] = 1
    scene.labels.opacity = 0.5
    colour = np.asarray(scene.labels.colormap.map(np.array([1]))[0])
    (picture,) = labels_pictures(scene, 1, 6)
    assert picture.shape == (SHAPE[0], SHAPE[2], 4)
    np.testing.assert_allclose(picture[3, 6], colour * 127.5, atol=1)
    assert not picture[0, 0].any()
    scene.labels.contour = 1
    (picture,) = labels_pictures(scene, 0, 3)
    assert not picture[6, 6].any()
    assert picture[4, 4].any()
    scene.labels.contour = 0
    scene.add_prediction(np.ones(SHAPE, np.int32), "prediction of a run")
    below, above = labels_pictures(scene, 0, 3)
    assert int(above[6, 6, 3]) == pytest.approx(127, abs=1)
    assert below[0, 0].any()
    scene.labels.visible = False
    assert len(labels_pictures(scene, 0, 3)) == 1


def test_the_point_follows_the_slider_and_stays_within_the_scan(scene):
    look, heard = scene.look, []
    look.moved.connect(lambda: heard.append(look.voxel))
    assert look.voxel == (3, 8, 10)
    scene.go_to(1)
    assert look.voxel == (1, 8, 10)
    look.move_to((4.4, 2, 3))
    assert scene.slice == 4
    assert heard == [(1, 8, 10), (4, 2, 3)]
    look.move_to((-5, 99, 3))
    assert look.voxel == (0, 15, 3)
    assert scene.slice == 0
    before = look.voxel
    look.move_to_world(scene.image.data_to_world((0, -3, 5)))
    assert look.voxel == before
    look.move_to_world(scene.image.data_to_world((0, 7, 5)))
    assert look.voxel == (0, 7, 5)
    scene.viewer.dims.ndisplay = 3
    assert look.hidden is None
    look.move_to_world(scene.image.data_to_world((2, 2, 2)))
    assert look.voxel == (0, 7, 5)
    scene.viewer.dims.ndisplay = 2


def test_the_point_is_the_same_when_the_labels_are_loaded_again(scene):
    scene.look.move_to((2, 3, 4))
    scene.session.begin_import("ann")
    scene.session.end_import("ann")
    until(scene.session, lambda: scene.session.current == "ann" and not scene.session.jobs)
    assert scene.look.voxel == (2, 3, 4)
    scene.session.select("bob")
    until(scene.session, lambda: scene.session.current == "bob" and not scene.session.jobs)
    assert scene.look.voxel == (3, 8, 10)
