"""Scores on annotated slices."""

import numpy as np
import pytest

from napari_sslseg.core.results.slice_scores import score_slices


def square(rows, columns, value=1):
    image = np.zeros((20, 24), np.uint8)
    image[rows, columns] = value
    return image


def test_only_the_given_slices_count_and_distances_stay_within_them():
    truth = np.zeros((6, 20, 24), np.uint8)
    predicted = np.full_like(truth, 3)  # Wrong in all slices that are not scored.
    truth[1], predicted[1] = square(slice(4, 8), slice(4, 8)), square(slice(4, 8), slice(6, 10))
    truth[4], predicted[4] = square(slice(4, 8), slice(4, 8)), square(slice(4, 8), slice(4, 8))
    found = score_slices(predicted, truth, [4, 1], plane="axial", spacing=(5.0, 1.0, 2.0))
    assert found.slices == (1, 4)
    assert list(found.volume.classes) == [1]
    assert found.volume.classes[1].dice == pytest.approx(2 * 24 / 64)
    # Two columns of 2 mm in one slice, none in the other.
    assert found.volume.classes[1].hd95_mm == pytest.approx((4 + 0) / 2)
    assert found.by_slice == (0.5, 1.0)
    assert found.worst == 1


@pytest.mark.parametrize(
    ("plane", "axis", "first_mm", "second_mm"),
    [("axial", 0, 2, 3), ("coronal", 1, 5, 3), ("sagittal", 2, 5, 2)],
)
def test_slices_are_counted_along_the_plane(plane, axis, first_mm, second_mm):
    truth = np.zeros((8, 9, 10), np.uint8)
    predicted = truth.copy()
    ours, theirs = (np.moveaxis(data, axis, 0) for data in (predicted, truth))
    # Blocks of 4 by 3 pixels: one is shifted along the first axis of its slice, one along the
    # second; 9 and 8 of their 12 pixels overlap, and one side is one pixel too far.
    theirs[3, 2:6, 2:5], ours[3, 3:7, 2:5] = 1, 1
    theirs[5, 2:6, 2:5], ours[5, 2:6, 3:6] = 2, 2
    ours[4] = 1  # A slice that is not scored.
    found = score_slices(predicted, truth, [5, 3], plane=plane, spacing=(5, 2, 3))
    assert found.slices == (3, 5)
    first, second = (found.volume.classes[value] for value in (1, 2))
    assert first.dice == pytest.approx(2 * 9 / 24)
    assert second.dice == pytest.approx(2 * 8 / 24)
    assert found.by_slice == pytest.approx((0.75, 2 / 3))
    assert first.hd95_mm == pytest.approx(first_mm)
    assert second.hd95_mm == pytest.approx(second_mm)


def test_empty_masks_follow_the_rule():
    truth = np.zeros((4, 8, 8), np.uint8)
    predicted = truth.copy()
    predicted[2, 1:3, 1:3] = 1
    found = score_slices(predicted, truth, [0, 2], plane="axial", spacing=(1, 1, 1))
    assert found.volume.classes[1].dice == 0
    assert found.volume.classes[1].hd95_mm is None
    assert found.volume.classes[1].hd95_undefined
    assert found.by_slice == (None, 0.0)
    assert found.worst == 2
    nothing = score_slices(truth, truth, [0, 2], plane="axial", spacing=(1, 1, 1))
    assert nothing.volume.classes == {}
    assert nothing.worst == 0


def test_unknown_pixels_and_classes_that_are_not_labelled_are_left_out():
    truth, predicted = np.zeros((2, 20, 24), np.uint8), np.zeros((2, 20, 24), np.uint8)
    truth[0, :, :12], predicted[0, :, 6:] = 1, 1
    predicted[1, :5] = 2
    plain = {"plane": "axial", "spacing": (5.0, 1.0, 1.0)}
    assert score_slices(predicted, truth, [0, 1], **plain).by_slice == (0.4, 0)
    truth[0, :, :6] = truth[0, :, 12:] = 255
    found = score_slices(predicted, truth, [0, 1], **plain, ignore=255, labelled_classes=(1,))
    assert found.volume.classes[1].dice == 1
    assert found.volume.classes[2].dice is None
    assert found.by_slice == (1, None)
