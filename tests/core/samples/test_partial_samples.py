"""Samples of scans with unknown voxels, and of scans with only some classes labelled."""

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import return_value
from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.samples.crops import iter_crops
from napari_sslseg.core.samples.slices import SliceStore
from napari_sslseg.core.scans.classes.scan_classes import class_indices, find_classes, match_labels
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.segmentation.augment import apply_augmentation, sample_augmentation
from napari_sslseg.core.segmentation.cutmix import apply_cutmix, sample_cutmix
from napari_sslseg.core.settings.preprocessing import Preprocessing, VolumePreprocessing

AFFINE = np.array([[0, 0, -1.0, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])


def scan(labels, name="a", **meaning):
    """A scan with these labels in the display grid."""
    data = np.random.default_rng(0).normal(50, 10, labels.shape).astype(np.float32)
    geometry = Geometry(AFFINE, labels.shape)
    return LabelledScan(
        Volume(data, geometry, "MR", name, name), Volume(labels, geometry, name=name), **meaning
    )


def boxes(shape=(6, 16, 16)):
    """Class 2 on slices 1 and 2, class 9 on slice 4, unknown on slice 5 and a column of 1."""
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 5:10, 5:10], labels[4, 5:10, 5:10] = 2, 9
    labels[5], labels[1, :, 0] = 255, 255
    return labels


def test_unknown_voxels_are_no_class_and_no_background():
    item = scan(boxes(), ignore=255)
    assert find_classes([item], "axial") == (2, 9)
    store = SliceStore.build([item], Preprocessing(), classes=(2, 9))
    labels = store.label_batch(np.array([1]))
    assert (labels[0, :, 0] == UNKNOWN).all()
    assert labels[0, :, 1:].unique().tolist() == [0, 1]
    # Nobody stated anything on slice 5.
    assert store.annotated.tolist() == [True] * 5 + [False]
    assert store.foreground.tolist() == [False, True, True, False, True, False]
    assert store.partial.tolist() == [False, True, False, False, False, False]


def test_scribbles_state_the_background_as_well():
    labels = np.zeros((3, 16, 16), np.uint8)
    labels[0, 4, 4:9], labels[0, 12, 2:9], labels[1, 3, 3] = 1, 3, 3
    item = scan(labels, ignore=0, background=3)
    assert find_classes([item], "axial") == (1,)
    store = SliceStore.build([item], Preprocessing(), classes=(1,))
    found = store.label_batch(np.array([0]))[0]
    assert [int((found == value).sum()) for value in (0, 1, UNKNOWN)] == [7, 5, 16 * 16 - 12]
    assert store.annotated.tolist() == [True, True, False]
    with pytest.raises(DataError, match="--background-value"):
        scan(labels, ignore=0)


def test_a_class_that_is_also_unknown_or_background_is_refused():
    for options in ({"ignore": 2}, {"background": 2}):
        with pytest.raises(DataError, match=r"2 is a class and also"):
            class_indices(np.array([0, 2]), (1, 2), "a", **options)


def test_classes_that_are_not_labelled_are_hidden():
    labels = boxes()
    labels[labels == 9] = 0
    items = [scan(boxes(), "whole", ignore=255), scan(labels, ignore=255, labelled_classes=(2,))]
    store = SliceStore.build(items, Preprocessing(), classes=(2, 9))
    assert store.hidden_classes(np.array([0, 6])).tolist() == [[False] * 3, [False, False, True]]
    assert store.partial.tolist() == [False, True] + [False] * 4 + [True] * 5 + [False]
    with pytest.raises(DataError, match=r"class 9 occurs in the labels of a"):
        SliceStore.build(
            [scan(boxes(), ignore=255, labelled_classes=(2,))], Preprocessing(), classes=(2, 9)
        )
    with pytest.raises(DataError, match="No class is labelled in a"):
        scan(boxes(), labelled_classes=())


def test_a_store_on_disk_is_the_same(tmp_path):
    items = [scan(boxes(), ignore=255), scan(boxes() % 9, "b", ignore=3, labelled_classes=(2,))]

    def build(items, **options):
        return SliceStore.build(items, Preprocessing(), classes=(2, 9), **options)

    for _ in range(2):  # Written, then read.
        memory, disk = build(items), build(items, storage="disk", cache=tmp_path)
        for name in ("annotated", "foreground", "partial", "labels"):
            np.testing.assert_array_equal(getattr(memory, name), getattr(disk, name))
        assert memory.scans == disk.scans
    assert len(list(tmp_path.iterdir())) == 1
    # Other meanings of the same files are another store.
    build(
        [items[0], core.LabelledScan(items[1].scan, items[1].labels, ignore=3)],
        storage="disk",
        cache=tmp_path,
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_resampling_augmentation_and_cutmix_keep_the_classes():
    item = scan(boxes((6, 40, 40)), ignore=255)
    store = SliceStore.build([item], Preprocessing(spacing=0.7), classes=(2, 9))
    labels = store.label_batch(np.arange(5))
    images = store.batch(np.arange(5))
    generator = torch.Generator().manual_seed(0)
    strong = core.Augmentation(rotation=30, elastic=0.1, translation=0.2)
    moved = apply_augmentation(images, labels, sample_augmentation(5, strong, generator))
    mixed = apply_cutmix(*moved, sample_cutmix(5, store.size, 1.0, generator))
    for found in (labels, moved[1], mixed[1]):
        assert found.unique().tolist() == [0, 1, 2, UNKNOWN]
    # The canvas around a scan is background, as before.
    assert not labels[1, 0].any()


def test_crops_of_volumes_keep_unknown_voxels():
    labels = np.zeros((64, 32, 32), np.uint8)
    labels[:40], labels[50, 8:12, 8:12] = 255, 2
    item = scan(labels, ignore=255)
    settings = VolumePreprocessing(size=(32, 32, 32))
    store = return_value(iter_crops([item], settings, classes=(2,)))
    # Crops begin at slices 0, 16 and 32; on the first one nothing is known.
    assert store.annotated.tolist() == [False, True, True]
    assert store.partial.tolist() == [False, True, True]
    assert store.foreground.tolist() == [False, False, True]
    found = store.label_batch(np.array([2]))[0]
    assert (found[:8] == UNKNOWN).all()
    assert not (found[8:] == UNKNOWN).any()


@pytest.mark.parametrize("largest", [255, 32767, 65535])
def test_a_largest_value_far_above_the_classes_is_not_made_a_class_by_a_guess(largest):
    labels = boxes().astype(np.uint16)
    labels[labels == 255] = largest
    with pytest.raises(DataError, match=rf"--ignore-value {largest}.*--classes 2,9,{largest}"):
        find_classes([scan(labels)], "axial")
    assert find_classes([scan(labels, ignore=largest)], "axial") == (2, 9)


@pytest.mark.parametrize("values", [(255,), (85, 170, 255), (250, 251, 252, 255), (1, 2, 4)])
def test_masks_and_grey_coded_classes_are_classes(values):
    labels = np.zeros((2, 16, 16), np.uint8)
    for number, value in enumerate(values):
        labels[0, number] = value
    assert find_classes([scan(labels)], "axial") == values


def test_slices_with_labels_can_be_those_that_are_annotated():
    labels = np.zeros((5, 16, 16), np.uint8)
    labels[1, 3, 3] = labels[3, 3, 3] = 1
    for annotated, expected in (("labelled", [1, 3]), ("all", [0, 1, 2, 3, 4])):
        store = SliceStore.build([scan(labels, annotated=annotated)], Preprocessing(), classes=(1,))
        assert np.flatnonzero(store.annotated).tolist() == expected


def test_unknown_values_are_no_structures_when_names_are_matched():
    """Two files name the same class 1 and 3; in both 3 or 4 is unknown, and 9 background."""
    first = np.zeros((2, 16, 16), np.uint8)
    first[0, 2], first[0, 4], first[0, 6] = 1, 3, 9
    second = np.zeros((2, 16, 16), np.uint8)
    second[0, 2], second[0, 4], second[0, 6] = 3, 4, 1
    items = [
        scan(first, "a", class_names={1: "liver"}, ignore=3, background=9),
        scan(second, "b", class_names={3: "Liver", 1: "spleen"}, ignore=4),
    ]
    matched, match = match_labels(items)
    assert match.names == {1: "liver", 2: "spleen"}
    matched, _ = match_labels(matched)  # As the training does again.
    assert find_classes(matched, "axial") == (1, 2)
    store = SliceStore.build(matched, Preprocessing(), classes=(1, 2))
    found = store.label_batch(np.array([0, 2]))[:, ::2, 0].tolist()
    assert found[0][1:4] == [1, UNKNOWN, 0]
    assert found[1][1:4] == [1, UNKNOWN, 2]
