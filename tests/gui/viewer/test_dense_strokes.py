"""A quick stroke leaves no gaps, also across voxels that are longer than others."""

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sslseg.gui.viewer.strokes.dense_strokes import make_dense, places_between


@pytest.mark.parametrize("brush", [1, 5, 12, 20])
@pytest.mark.parametrize(("mode", "value"), [("paint", 1), ("erase", 0)])
def test_a_quick_stroke_across_long_voxels_has_no_gaps(brush, mode, value):
    viewer = ViewerModel()
    data = np.full((40, 50, 50), 1 - value, np.uint8)
    layer = viewer.add_labels(data, scale=(7, 1, 1))
    make_dense(layer)
    viewer.dims.order = (1, 0, 2)  # A coronal view, in which the first axis runs down.
    layer.mode, layer.brush_size = mode, brush
    layer._draw(value, (2, 0, 10), (2, 0, 10))
    layer._draw(value, (2, 0, 10), (37, 0, 24))
    assert (layer.data[3:37, 0] == value).any(axis=1).all()
    assert (layer.data[:, 1:] == 1 - value).all()


def test_voxels_of_one_size_get_no_more_places():
    assert len(places_between((0, 0, 0), (0, 30, 9), (7, 1, 1), 4)) == 0
    assert len(places_between((0, 0, 0), (9, 0, 0), (7, 1, 1), 4)) == 62
