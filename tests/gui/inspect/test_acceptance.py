"""Predictions that are taken into labels: one step, nothing beside it."""

import numpy as np
import pytest
from napari.layers import Labels

from napari_sslseg.gui.inspect.acceptance import accept_region, accept_slice, next_slice
from napari_sslseg.gui.viewer.prediction_layers import label_differences


@pytest.fixture
def predicted():
    data = np.zeros((6, 12, 14), np.uint8)
    data[2, 2:5, 2:5] = 1
    data[2, 5:7, 5:7] = 1  # Touches the first at a corner alone.
    data[2, 8:10, 8:12] = 2
    data[3] = 1
    return data


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_accepted_as_one_step(predicted, axis):
    predicted = np.ascontiguousarray(np.moveaxis(predicted, 0, axis))
    labels = Labels(np.zeros_like(predicted))
    where = [slice(None)] * 3
    where[axis] = 2
    labels.data[tuple(where)][1, 1] = 5  # By hand, and background in the prediction.
    before = labels.data.copy()
    told = []
    labels.events.paint.connect(told.append)
    count = accept_slice(labels, predicted, axis, 2)
    assert count == 9 + 4 + 8 + 1
    assert len(told) == 1
    expected = before.copy()
    expected[tuple(where)] = predicted[tuple(where)]
    np.testing.assert_array_equal(labels.data, expected)
    assert accept_slice(labels, predicted, axis, 2) == 0
    labels.undo()
    np.testing.assert_array_equal(labels.data, before)


def test_a_region_ends_where_its_structure_does(predicted):
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
def test_nothing_is_accepted_where_nothing_is_predicted(predicted, place):
    labels = Labels(np.ones_like(predicted))
    assert accept_region(labels, predicted, 0, place) == -1
    assert labels.data.all()


def test_the_next_slice_is_the_least_sure_that_is_not_done():
    doubt = np.array([0.1, 0.9, 0.5, 0.7])
    assert next_slice(doubt, [], 0) == 1
    assert next_slice(doubt, [1], 0) == 3
    assert next_slice(doubt, [], 1) == 3
    assert next_slice(doubt, [], 0) == next_slice(doubt, [0], 0) == 1
    assert next_slice(doubt, [0, 1, 2, 3], 2) is None


def test_maps_tell_missed_from_too_much():
    truth, predicted = np.array([[0, 1, 1, 2]]), np.array([[1, 0, 1, 1]])
    assert label_differences(truth, predicted).tolist() == [[2, 1, 0, 3]]
