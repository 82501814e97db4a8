"""The sample data in a real napari window."""

import os

import numpy as np
import pytest

from napari_sslseg.core.geometry import Geometry


@pytest.fixture(autouse=True)
def _needs_a_screen():
    if not os.environ.get("DISPLAY"):
        reason = "no screen to open a napari window on; `make test` starts a virtual one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("key", ["phantom-mr", "phantom-ct"])
def test_phantom_opens_in_a_real_window(make_napari_viewer, key):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    viewer.open_sample("napari-sslseg", key)

    image, labels = viewer.layers
    spacing = image.metadata["geometry"].spacing
    for layer, kind in ((image, "image"), (labels, "labels")):
        assert layer._type_string == kind
        assert layer.data.shape == image.data.shape
        assert isinstance(layer.metadata["geometry"], Geometry)
        np.testing.assert_allclose(layer.scale, spacing)
        assert tuple(layer.axis_labels) == ("inferior", "posterior", "left")
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert labels.name == f"{image.name} labels"
    assert tuple(viewer.dims.axis_labels) == ("inferior", "posterior", "left")
    assert set(np.unique(labels.data)) >= {0, 1, 2}
    assert set(labels.features["index"]) >= set(np.unique(labels.data))

    viewer.dims.set_current_step(0, fullest_slice(labels.data))
    labels.opacity = 1
    coloured = canvas(viewer)
    labels.visible = False
    grey = canvas(viewer)
    assert np.ptp(grey, axis=-1).max() <= 2  # the scan itself has no colour
    organs = np.ptp(coloured, axis=-1) > 40
    assert organs.mean() > 0.01
    brightness = grey.mean(axis=-1)
    assert brightness.std() > 20
    organ = np.median(brightness[organs])
    assert np.quantile(brightness, 0.1) + 25 < organ < 245  # neither black nor washed out


def canvas(viewer):
    """Pixels that the user sees, RGB, without the dark surroundings of the scan."""
    pixels = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    height, width = pixels.shape[:2]
    return pixels[height // 8 : -height // 8, width // 4 : -width // 4]


def fullest_slice(labels):
    """Axial slice with the most labelled voxels."""
    return int((labels > 0).sum(axis=(1, 2)).argmax())
