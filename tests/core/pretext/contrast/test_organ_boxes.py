"""Bounding boxes of the organ on each side, and crops around it."""

import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError, DataError
from napari_sslseg.core.pretext.contrast.organ_boxes import (
    OrganBox,
    crop,
    organ_boxes,
    organ_crop,
    whole_organ,
)
from napari_sslseg.core.pretext.contrast.side_pairs import LEFT, RIGHT, UNKNOWN

RIGHT_KIDNEY, LEFT_KIDNEY = 2, 3


def box_of(mask):
    """Return the bounding box in voxel indices."""
    places = np.argwhere(mask)
    return tuple(places.min(0)), tuple(places.max(0) + 1)


@pytest.fixture(scope="module")
def patients():
    return [core.make_patient(seed, "CT") for seed in range(4)]


# --- boxes ------------------------------------------------------------------------------------


def test_two_labels_give_two_boxes(patients):
    for _, labels in patients:
        left, right = organ_boxes(labels.data, left=LEFT_KIDNEY, right=RIGHT_KIDNEY)
        assert (left.side, right.side) == (LEFT, RIGHT)
        assert (left.start, left.stop) == box_of(labels.data == LEFT_KIDNEY)
        assert (right.start, right.stop) == box_of(labels.data == RIGHT_KIDNEY)
        # High indices of the last axis are on the patient's left.
        assert left.centre[2] > labels.data.shape[2] / 2 > right.centre[2]


def test_one_label_for_both_gives_the_same_boxes(patients):
    for _, labels in patients:
        merged = np.isin(labels.data, (RIGHT_KIDNEY, LEFT_KIDNEY)).astype(np.uint8)
        two = organ_boxes(labels.data, left=LEFT_KIDNEY, right=RIGHT_KIDNEY)
        for one, box in zip(organ_boxes(merged, organ=1), two, strict=True):
            assert (one.side, one.start, one.stop) == (box.side, box.start, box.stop)
            assert np.array_equal(one.mask, box.mask)


def test_sides_are_those_of_the_patient_for_any_axis_order(tmp_path):
    """Files may be stored from left to right or from right to left."""
    for seed in range(4):
        core.write_dataset(tmp_path / str(seed), 1, "CT", seed=seed)
        labels = core.load_labels(next((tmp_path / str(seed) / "labels").iterdir()))
        merged = np.isin(labels.data, (RIGHT_KIDNEY, LEFT_KIDNEY)).astype(np.uint8)
        for box in organ_boxes(merged, organ=1):
            truth = LEFT_KIDNEY if box.side == LEFT else RIGHT_KIDNEY
            assert (labels.data[box.slices][box.mask] == truth).all()


def test_a_missing_side_is_left_out(patients):
    labels = patients[0][1].data.copy()
    labels[labels == LEFT_KIDNEY] = 0
    (right,) = organ_boxes(labels, left=LEFT_KIDNEY, right=RIGHT_KIDNEY)
    assert right.side == RIGHT
    (right,) = organ_boxes(labels, organ=RIGHT_KIDNEY)
    assert right.side == RIGHT
    assert organ_boxes(labels, organ=99) == []


def test_stray_voxels_do_not_widen_a_box():
    labels = np.zeros((10, 10, 20), np.uint8)
    labels[3:6, 4:7, 14:18] = 1
    labels[2:7, 3:6, 2:5] = 1
    labels[9, 9, 19] = labels[0, 0, 10] = labels[0, 0, 0] = 1
    left, right = organ_boxes(labels, organ=1)
    assert (left.start, left.stop) == ((3, 4, 14), (6, 7, 18))
    assert (right.start, right.stop) == ((2, 3, 2), (7, 6, 5))
    assert left.shape == (3, 3, 4)
    assert left.mask.all()


def test_small_parts_that_cross_the_middle_are_left_out():
    """A single kidney with a corner across the middle plane."""
    labels = np.zeros((10, 10, 20), np.uint8)
    labels[2:8, 2:8, 3:10] = 1
    labels[4:6, 4:6, 10] = 1
    assert [box.side for box in organ_boxes(labels, organ=1)] == [RIGHT]


def test_the_middle_column_of_an_odd_width_belongs_to_the_left_half():
    labels = np.zeros((2, 2, 5), np.uint8)
    labels[..., 2] = 1
    (box,) = organ_boxes(labels, organ=1)
    assert (box.side, box.start, box.stop) == (LEFT, (0, 0, 2), (2, 2, 3))


def test_an_organ_cut_by_the_middle_plane_is_halved():
    """A horseshoe kidney belongs to both sides."""
    labels = np.zeros((4, 4, 12), np.uint8)
    labels[:, :, 2:11] = 1
    left, right = organ_boxes(labels, organ=1)
    assert (left.start[2], left.stop[2], right.start[2], right.stop[2]) == (6, 11, 2, 6)


@pytest.mark.parametrize(
    "values", [{}, {"left": 1}, {"left": 1, "right": 1}, {"left": 1, "right": 2, "organ": 3}]
)
def test_label_values_without_sides_are_refused(values):
    with pytest.raises(ConfigError, match="two different label values"):
        organ_boxes(np.zeros((2, 2, 2), np.uint8), **values)


def test_an_invalid_box_of_the_user_is_refused():
    assert OrganBox(LEFT, (1, 2, 3), (4, 4, 4)).centre == (2, 3, 3)
    with pytest.raises(DataError, match="no voxel"):
        OrganBox(LEFT, (1, 2, 3), (4, 2, 4))
    with pytest.raises(DataError, match="The box from"):
        organ_crop(np.zeros((1, 8, 8, 8)), OrganBox(LEFT, (1, 2, 3), (4, 9, 4)), (4, 4, 4))


# --- crops ------------------------------------------------------------------------------------


def test_a_crop_is_centred_padded_and_cut_off():
    image = np.arange(2 * 6 * 6 * 6, dtype=np.float32).reshape(2, 6, 6, 6)
    kept = image.copy()
    # The crop exceeds the scan at the start of axis 0 and the end of axis 1.
    found = crop(image, (0, 5, 3), (4, 4, 2), -1.0)
    assert found.shape == (2, 4, 4, 2)
    assert (found[:, :2] == -1).all()
    assert (found[:, :, 3:] == -1).all()
    assert np.array_equal(found[:, 2:, :3], image[:, 0:2, 3:6, 2:4])
    assert found[0, 2, 2, 1] == image[0, 0, 5, 3]  # the centre is at half the size
    # A crop smaller than the scan along each axis has both ends cut off.
    assert np.array_equal(crop(image, (3, 3, 3), (2, 2, 2), -1.0), image[:, 2:4, 2:4, 2:4])
    # Each channel has its own fill value, and a crop may be completely outside.
    fill = np.array([-1.0, -2.0]).reshape(2, 1, 1, 1)
    nothing = crop(image, (50, -50, 3), (4, 4, 4), fill)
    assert (nothing[0] == -1).all()
    assert (nothing[1] == -2).all()
    assert np.array_equal(image, kept)


@pytest.mark.parametrize("background", ["zero", "keep"])
def test_crops_of_kidneys_contain_the_kidney(patients, background):
    scan, labels = patients[0]
    image = scan.data[None].astype(np.float32) + 5000  # no voxel of the scan is 0
    size = (32, 48, 48)
    for box in organ_boxes(labels.data, left=LEFT_KIDNEY, right=RIGHT_KIDNEY):
        found = organ_crop(image, box, size, fill=-7, background=background)
        assert found.shape == (1, *size)
        start = [n // 2 - side // 2 for n, side in zip(size, box.shape, strict=True)]
        inside = tuple(slice(a, a + n) for a, n in zip(start, box.shape, strict=True))
        value = LEFT_KIDNEY if box.side == LEFT else RIGHT_KIDNEY
        truth = labels.data[box.slices] == value
        assert np.array_equal(found[0][inside][truth], image[0][box.slices][truth])
        if background == "zero":
            assert np.count_nonzero(found) == truth.sum() == (labels.data == value).sum()
        else:
            assert np.array_equal(found[0][inside], image[0][box.slices])


def test_voxels_outside_a_box_of_the_user_are_zero():
    image = np.ones((1, 8, 8, 8), np.float32)
    found = organ_crop(image, OrganBox(RIGHT, (2, 2, 2), (4, 5, 6)), (8, 8, 8))
    assert found.sum() == 2 * 3 * 4
    assert found[0, 3:5, 3:6, 2:6].all()


def test_an_organ_larger_than_the_crop_is_cut_off_around_its_centre():
    image = np.arange(10, dtype=np.float32).reshape(1, 1, 1, 10).repeat(4, 1).repeat(4, 2)
    box = OrganBox(LEFT, (0, 0, 1), (4, 4, 9))
    assert organ_crop(image, box, (4, 4, 4))[0, 0, 0].tolist() == [3, 4, 5, 6]


def test_the_hippocampus_of_a_real_scan(data_dir):
    paths = sorted((data_dir / "msd_hippocampus" / "labels").glob("*.nii.gz"))[:5]
    for path in paths:
        labels = core.load_labels(path).data
        box = whole_organ((labels > 0).astype(np.uint8), 1)
        assert box.side == UNKNOWN
        assert all(10 < n < 60 for n in box.shape)
        found = organ_crop(labels[None].astype(np.float32), box, (64, 64, 64))
        # Head and body are connected and completely inside the crop.
        assert np.count_nonzero(found) == np.count_nonzero(labels) == box.mask.sum()
    assert whole_organ(labels, 9) is None
