"""Smooth drawing of scans, in a real window."""

import numpy as np
from qtpy.QtCore import Qt


def crop(dock):
    """Part of the picture around its centre, as colours."""
    shot = dock.viewer.window._qt_viewer.screenshot(flash=False)
    rows, columns = (size // 2 for size in shot.shape[:2])
    return shot[rows - 60 : rows + 60, columns - 60 : columns + 60, :3].astype(int)


def test_scans_are_smooth_and_strokes_are_the_same_as_on_pixels(ready):
    ready.scene.go_to(10)
    image = ready.scene.image
    ready.press(Qt.Key.Key_P)
    ready.layer.brush_size = 5
    painted, colours, shown = {}, {}, {}
    for interpolation in ("linear", "nearest"):
        image.interpolation2d = interpolation
        ready.layer.visible = False
        shown[interpolation] = crop(ready)
        ready.layer.visible = True
        ready.drag((-1, -1), (-0.3, 0.7), (1, 0.2))
        painted[interpolation] = ready.layer.data.copy()
        image.visible = False
        colours[interpolation] = crop(ready)
        image.visible = True
        ready.layer.undo()
    assert painted["linear"].any()
    np.testing.assert_array_equal(painted["linear"], painted["nearest"])
    # Labels keep their edges: the same picture, with few colours.
    np.testing.assert_array_equal(colours["linear"], colours["nearest"])
    assert len(np.unique(colours["linear"].reshape(-1, 3), axis=0)) < 10
    # Neighbouring pixels of the screen differ less.
    steps = {name: np.abs(np.diff(picture, axis=1)).max() for name, picture in shown.items()}
    assert steps["linear"] < steps["nearest"] / 2


def test_the_choice_of_the_user_stays_for_other_scans(ready, tmp_path):
    import nibabel as nib

    # Values of another type need a new layer.
    values = np.random.default_rng(0).normal(0.5, 0.1, (40, 40, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "cat.nii.gz")
    ready.project.add_scans([tmp_path / "cat.nii.gz"])
    assert ready.scene.image.interpolation2d == "linear"
    ready.scene.image.interpolation2d = "nearest"
    for name in ("bob", "cat", "ann"):
        ready.session.select(name)
        ready.until(lambda name=name: ready.session.current == name)
        assert ready.scene.image.interpolation2d == "nearest"
