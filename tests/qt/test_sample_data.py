"""The sample data in a real napari window."""

import json
import shutil

import numpy as np
import pooch
import pytest

from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.demo.public_data import HIPPOCAMPUS_CLASSES
from napari_sslseg.core.scans.geometry import Geometry


@pytest.mark.parametrize("key", ["phantom-mr", "phantom-ct"])
def test_phantom_opens_in_a_real_window(make_napari_viewer, key):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    viewer.open_sample("napari-sslseg", key)

    image, labels = viewer.layers
    np.testing.assert_allclose(labels.translate, image.translate)
    spacing = image.metadata["geometry"].spacing
    for layer, kind in ((image, "image"), (labels, "labels")):
        assert layer._type_string == kind
        assert layer.data.shape == image.data.shape
        assert isinstance(layer.metadata["geometry"], Geometry)
        np.testing.assert_allclose(layer.scale, spacing)
        assert tuple(layer.axis_labels) == ("S → I", "A → P", "R → L")
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert labels.name == f"{image.name} labels"
    assert tuple(viewer.dims.axis_labels) == ("S → I", "A → P", "R → L")
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


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The download cache of the user, without a network connection."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    folder = pooch.os_cache("napari-sslseg")
    if tmp_path not in folder.parents:
        pytest.skip("the cache folder of this system cannot be moved")
    return folder


def test_the_hippocampus_opens_with_class_names(viewer, cache, data_dir):
    for kind in ("images", "labels"):
        folder = cache / "hippocampus" / kind
        folder.mkdir(parents=True)
        shutil.copy(data_dir / "msd_hippocampus" / kind / "hippocampus_001.nii.gz", folder)
    (cache / "hippocampus" / "classes.json").write_text(json.dumps(HIPPOCAMPUS_CLASSES))
    viewer.open_sample("napari-sslseg", "hippocampus-mr")
    image, labels = viewer.layers
    assert image.name == "hippocampus_001"
    assert list(labels.features["class"]) == ["background", "anterior", "posterior"]
    assert set(np.unique(labels.data)) == {0, 1, 2}
    # The anterior part has smaller indices: axis 1 runs to posterior.
    front, back = (np.argwhere(labels.data == value)[:, 1].mean() for value in (1, 2))
    assert front < back


def test_without_a_connection_the_error_names_the_cache_folder(viewer, cache):
    with pytest.raises(StorageError) as error:
        viewer.open_sample("napari-sslseg", "hippocampus-mr")
    assert str(cache) in str(error.value)
    assert "\n" not in str(error.value)
    assert not viewer.layers


def canvas(viewer):
    """Return RGB pixels of the canvas without the dark border around the scan."""
    pixels = viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
    height, width = pixels.shape[:2]
    return pixels[height // 8 : -height // 8, width // 4 : -width // 4]


def fullest_slice(labels):
    """Return the axial slice with the most labelled voxels."""
    return int((labels > 0).sum(axis=(1, 2)).argmax())
