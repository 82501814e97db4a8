"""Figures of previews: text is not clipped, and drawings agree with the arrays."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.pretext.pictures.figure import preview_figure, slice_numbers

CAPTIONS = {"original": "Original", "partner": "One view of it", "corrupted": "Another view of it"}


SOURCES = ("patient_007_T2w_venous, axial slice 12 of 48",) * 2
SIDES = "Axial: anterior is at the top, the patient's right is at the left."


def preview(n=2, shape=(40, 48), **fields):
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(n, 1, *shape)).astype(np.float32) for name in CAPTIONS}
    given = {"restored": None, "error": None, "captions": CAPTIONS}
    return PretextPreview(**arrays, mask=np.zeros((n, 1, *shape), bool), **(given | fields))


def matrix_of(m, k, **fields):
    rng = np.random.default_rng(0)
    return {
        "matrix": rng.uniform(-1, 1, (m, k)),
        "matrix_title": "How alike the network finds the views\n(cosine similarity)",
        "matrix_labels": tuple(f"one view of {i + 1}" for i in range(m)),
        "matrix_columns": tuple(f"another view of {i + 1}" for i in range(k)),
    } | fields


def drawn_texts(figure):
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def check_nothing_is_clipped(figure):
    """Check that all text is within the figure and does not overlap."""
    extent = figure.get_window_extent()
    boxes = {}
    for text in drawn_texts(figure):
        box = text.get_window_extent()
        assert extent.x0 <= box.x0, text.get_text()
        assert box.x1 <= extent.x1, text.get_text()
        assert extent.y0 <= box.y0, text.get_text()
        assert box.y1 <= extent.y1, text.get_text()
        boxes[text] = box
    for text, box in boxes.items():
        for other, its in boxes.items():
            apart = (
                box.x1 <= its.x0 + 1
                or its.x1 <= box.x0 + 1
                or (box.y1 <= its.y0 + 1 or its.y1 <= box.y0 + 1)
            )
            assert text is other or apart, (text.get_text(), other.get_text())


@pytest.mark.parametrize(
    ("n", "fields"),
    [
        (1, matrix_of(1, 1)),
        (1, matrix_of(1, 2)),
        (3, matrix_of(3, 3)),
        (2, matrix_of(2, 4, notes=("similarity 0.97 with the positive, 0.25 with the other",) * 2)),
        (4, matrix_of(12, 12)),
        (2, matrix_of(30, 30)),
        (3, {"notes": ("same side",) * 3}),
        (1, {"notes": ("a long story that does not end " * 8,)}),
        (2, matrix_of(2, 2, sources=SOURCES, notes=("same side",) * 2, orientation=SIDES)),
        (2, {"sources": SOURCES, "orientation": SIDES}),
    ],
)
@pytest.mark.parametrize("shape", [(40, 48), (16, 96), (96, 16)])
@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_no_text_is_clipped_or_overlaps(n, fields, shape):
    check_nothing_is_clipped(preview_figure(preview(n, shape, **fields)))


@pytest.mark.filterwarnings("error::UserWarning", "error::RuntimeWarning")
def test_figures_of_volumes_name_the_slice():
    shown = preview(2, (7, 40, 48), notes=("same side", "opposite sides"), **matrix_of(2, 2))
    shown.mask[1, 0, 5, :3] = shown.mask[1, 0, 2, :2] = True
    figure = preview_figure(shown)
    check_nothing_is_clipped(figure)
    words = {text.get_text() for text in drawn_texts(figure)}
    assert {"1 · axial slice 4 of 7", "2 · axial slice 6 of 7", "same side"} <= words
    images = [axis.images[0].get_array() for axis in figure.axes if axis.images][:6]
    assert np.array_equal(images[0], shown.original[0, 0, 3])
    assert np.array_equal(images[4], shown.partner[1, 0, 5])


def test_the_slice_with_most_masked_voxels_or_the_middle_one_is_drawn():
    mask = np.zeros((3, 1, 48, 4, 4), bool)
    mask[0, 0, 9, 0, :2] = mask[0, 0, 30, 0] = True
    mask[1, 0, 0, 0, 0] = True
    assert slice_numbers(mask).tolist() == [30, 0, 23]
    assert slice_numbers(mask[2:, :, :7]).tolist() == [3]


def test_errors_and_levels_of_volumes_are_drawn():
    shown = preview(1, (5, 32, 32))
    shown.mask[:, :, 1, 4:9, 4:9] = True
    captions = {"original": "Original", "corrupted": "Changed", "error": "Absolute error"}
    shown = replace(shown, restored=shown.partner, error=abs(shown.original), captions=captions)
    figure = preview_figure(shown)
    assert np.array_equal(figure.axes[2].images[0].get_array(), shown.error[0, 0, 1])
    # The border of the changed pixels, a square of 5.
    lines = figure.axes[1].findobj(LineCollection)
    assert sum(len(line.get_segments()) for line in lines) == 20


def test_a_region_has_the_same_number_and_colour_in_both_views():
    first = np.array([[[2, 3, 9, 9], [20, 30, 9, 9]]]).repeat(2, 0)
    shown = preview(boxes={"partner": first, "corrupted": np.add(first, [5, 5, 0, 0])})
    figure = preview_figure(shown)
    check_nothing_is_clipped(figure)
    panels = [axis.findobj(Rectangle)[:-1] for axis in figure.axes[:3]]  # the last is the axes
    assert [len(boxes) for boxes in panels] == [0, 2, 2]
    for one, other in zip(panels[1], panels[2], strict=True):
        assert one.get_edgecolor() == other.get_edgecolor()
        assert np.subtract(other.get_xy(), one.get_xy()).tolist() == [5, 5]
    assert panels[1][0].get_edgecolor() != panels[1][1].get_edgecolor()
    assert panels[1][0].get_xy() == (2.5, 1.5)  # left and top, at the edges of pixels
    assert [text.get_text() for text in figure.axes[2].texts] == ["1", "2"]


def test_colour_scales_of_similarities_and_distances():
    shown = preview(3, **matrix_of(3, 3))
    figure = preview_figure(shown)
    axis = next(axis for axis in figure.axes if axis.get_yticklabels()[:1] and axis.texts)
    (image,) = axis.findobj(AxesImage)
    assert image.get_clim() == (-1, 1)
    assert [text.get_text() for text in axis.texts] == [
        f"{value:.2f}".replace("-", "−") for value in shown.matrix.ravel()
    ]
    # Similar pairs are bright, for similarities and for distances.
    brightness = [sum(to_rgba(image.cmap(value))[:3]) for value in np.linspace(0, 1, 9)]
    assert (np.diff(brightness) > 0).all()
    far = preview(3, **matrix_of(3, 3, matrix=np.arange(9.0).reshape(3, 3), matrix_distances=True))
    axis = next(axis for axis in preview_figure(far).axes if axis.texts)
    (image,) = axis.findobj(AxesImage)
    assert image.get_clim() == (0, 8)
    assert sum(image.to_rgba(0.0)[:3]) > sum(image.to_rgba(8.0)[:3])


def test_only_small_matrices_have_numbers_in_their_cells():
    for m, n in ((12, 144), (13, 0)):
        figure = preview_figure(preview(1, **matrix_of(m, m)))
        assert sum(len(axis.texts) for axis in figure.axes) == n


def test_the_matrix_is_right_of_the_slices_or_below_if_too_wide():
    beside = preview_figure(preview(2, **matrix_of(3, 3)))
    below = preview_figure(preview(2, **matrix_of(3, 12)))
    assert beside.get_figwidth() > 8 > below.get_figwidth()
    assert below.get_figheight() > beside.get_figheight()


def test_a_matrix_of_equal_crops_can_be_drawn():
    figure = preview_figure(
        preview(1, **matrix_of(2, 2, matrix=np.zeros((2, 2)), matrix_distances=True))
    )
    figure.draw_without_rendering()
