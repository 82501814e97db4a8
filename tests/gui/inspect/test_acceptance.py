"""Accepting slices and regions of a prediction into labels, as one undo step each."""

import numpy as np
import pytest
from napari.layers import Labels

from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice, next_slice
from napari_sslseg.gui.inspect.score_rows import Accepted, accepted_words
from napari_sslseg.gui.viewer.prediction_layers import label_differences


@pytest.fixture
def predicted():
    data = np.zeros((6, 12, 14), np.uint8)
    data[2, 2:5, 2:5] = 1
    data[2, 5:7, 5:7] = 1  # Touches the first region only at a corner.
    data[2, 8:10, 8:12] = 2
    data[3] = 1
    return data


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_accepted_and_undone_as_one_step(predicted, axis):
    predicted = np.ascontiguousarray(np.moveaxis(predicted, 0, axis))
    labels = Labels(np.zeros_like(predicted))
    where = [slice(None)] * 3
    where[axis] = 2
    labels.data[tuple(where)][1, 1] = 5  # Drawn by hand, and background in the prediction.
    before = labels.data.copy()
    events = []
    labels.events.paint.connect(events.append)
    count = accept_slice(labels, predicted, axis, 2)
    assert count == 9 + 4 + 8 + 1
    assert len(events) == 1
    expected = before.copy()
    expected[tuple(where)] = predicted[tuple(where)]
    np.testing.assert_array_equal(labels.data, expected)
    assert accept_slice(labels, predicted, axis, 2) == 0
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_an_accepted_region_is_a_connected_part_of_one_structure(predicted):
    labels = Labels(np.full_like(predicted, 0))
    labels.data[2, 3, 3] = 2
    assert accept_region(labels, predicted, 0, (2, 2.2, 3.9)) == 9
    assert np.count_nonzero(labels.data == 1) == 9
    assert np.count_nonzero(labels.data) == 9
    assert accept_region(labels, predicted, 0, (2, 9, 9)) == 8
    labels.undo()
    assert np.count_nonzero(labels.data == 2) == 0
    labels.undo()
    assert labels.data[2, 3, 3] == 2


@pytest.mark.parametrize("place", [(2, 0, 0), (2, -3, 4), (2, 4, 99)])
def test_no_region_is_accepted_on_background_or_outside_the_slice(predicted, place):
    labels = Labels(np.ones_like(predicted))
    assert accept_region(labels, predicted, 0, place) == -1
    assert labels.data.all()


def test_the_next_slice_is_the_most_uncertain_one_that_is_not_done():
    doubt = np.array([0.1, 0.9, 0.5, 0.7])
    assert next_slice(doubt, [], 0) == 1
    assert next_slice(doubt, [1], 0) == 3
    assert next_slice(doubt, [], 1) == 3
    assert next_slice(doubt, [], 0) == next_slice(doubt, [0], 0) == 1
    assert next_slice(doubt, [0, 1, 2, 3], 2) is None


def test_difference_maps_distinguish_missed_extra_and_wrong_labels():
    truth, predicted = np.array([[0, 1, 1, 2]]), np.array([[1, 0, 1, 1]])
    assert label_differences(truth, predicted).tolist() == [[2, 1, 0, 3]]


def test_accepted_slices_are_counted_in_words():
    assert accepted_words([Accepted()], 1) == ""
    assert accepted_words([Accepted(1, 1, ("a",))], 1).startswith(" On this slice a prediction of")
    assert "On 1 of these 3 slices" in accepted_words([Accepted(1, 0, ("b",))], 3)
