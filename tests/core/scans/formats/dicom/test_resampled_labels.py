"""Labels of unevenly spaced and tilted scans: nothing is lost between the images and the grid."""

import warnings

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from pydicom import dcmread
from pydicom.sr.codedict import codes

from dicom_files import ramp, write_series
from napari_sslseg.core import load_labels, load_volume, save_labels
from napari_sslseg.core.common.errors import ScanWarning
from napari_sslseg.core.scans.classes.scan_classes import find_classes
from napari_sslseg.core.scans.labelled import LabelledScan
from napari_sslseg.core.scans.reader import ScanReader

ROWS, COLUMNS = 12, 14
SPACINGS = {
    "jitter": [3.0, 2.4, 3.6, 3.1, 2.6, 3.3, 2.9, 3.4, 2.5, 3.2, 3.0],
    "alternating": [2.0, 3.0] * 6,
    "thin, then thicker": [2.0] * 8 + [3.2] * 8,
    "thick, then thinner": [3.3] * 8 + [2.1] * 8,
    "two close pairs": [1.2, 1.2] + [2.0] * 9,
}


def uneven_series(folder, gaps, tilt=0.0, values=None, thickness=None):
    """A series with these distances between its slices; sorted files, and the loaded volume."""
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    places = [(-10.0, -20.0 + tilt * z, z) for z in heights]

    def edit(ds, index):
        if thickness is not None:
            ds.SliceThickness = f"{thickness[index]:g}"

    values = ramp(len(places), ROWS, COLUMNS) if values is None else values
    files = write_series(folder, values, places=places, edit=edit)
    files.sort(key=lambda file: float(dcmread(file).ImagePositionPatient[2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        return files, load_volume(folder)


def write_masks(path, files, masks):
    """Write a segmentation of the planes with highdicom, without this package."""
    description = highdicom.seg.SegmentDescription(
        1,
        "part",
        codes.SCT.Tissue,
        codes.SCT.Tissue,
        highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )
    highdicom.seg.Segmentation(
        source_images=[dcmread(file) for file in files],
        pixel_array=masks.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[description],
        series_instance_uid=highdicom.UID(),
        series_number=9,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    ).save_as(path)
    return path


def stored_masks(path, files):
    """The labels of each source image, read by highdicom."""
    segmentation = highdicom.seg.segread(path)
    return segmentation.get_pixels_by_source_instance(
        [dcmread(file).SOPInstanceUID for file in files],
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


@pytest.mark.parametrize("tilt", [0.0, 0.27], ids=["straight", "tilted"])
@pytest.mark.parametrize("gaps", SPACINGS.values(), ids=SPACINGS)
def test_a_segmentation_comes_back_plane_by_plane(tmp_path, gaps, tilt):
    files, volume = uneven_series(tmp_path / "series", gaps, tilt)
    masks = np.random.default_rng(3).random((len(files), ROWS, COLUMNS)) < 0.3
    path = write_masks(tmp_path / "seg.dcm", files, masks)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        labels = load_labels(path, like=volume)
        again = save_labels(labels.data, tmp_path / "again.dcm", like=volume)
    np.testing.assert_array_equal(stored_masks(again, files), masks)
    np.testing.assert_array_equal(load_labels(again, like=volume).data, labels.data)


@pytest.mark.parametrize("step", [0.25, 0.33, 0.625, 1.25])
def test_positions_that_are_rounded_keep_labels_on_their_planes(tmp_path, step):
    """Headers with one decimal of a mm: the grid is regular, the positions are not."""
    places = np.round(np.arange(24) * step, 1)
    files, volume = uneven_series(tmp_path / "series", np.diff(places))
    assert volume.data.shape[0] == len(files)
    masks = np.random.default_rng(3).random((len(files), ROWS, COLUMNS)) < 0.3
    path = write_masks(tmp_path / "seg.dcm", files, masks)
    labels = load_labels(path, like=volume)
    again = save_labels(labels.data, tmp_path / "again.dcm", like=volume)
    np.testing.assert_array_equal(stored_masks(again, files), masks)


@settings(max_examples=25, deadline=None)
@given(gaps=st.lists(st.floats(2.0, 3.3).map(lambda x: round(x, 2)), min_size=3, max_size=14))
def test_every_plane_has_its_slice_for_any_spacing(tmp_path_factory, gaps):
    files, volume = uneven_series(tmp_path_factory.mktemp("any") / "series", gaps)
    masks = np.zeros((len(files), ROWS, COLUMNS), bool)
    masks[np.arange(len(files)), np.arange(len(files)) % ROWS, 3] = True  # each plane differs
    path = write_masks(path := files[0].parents[1] / "seg.dcm", files, masks)
    labels = load_labels(path, like=volume)
    again = save_labels(labels.data, files[0].parents[1] / "again.dcm", like=volume)
    np.testing.assert_array_equal(stored_masks(again, files), masks)


@pytest.mark.parametrize("gaps", SPACINGS.values(), ids=SPACINGS)
def test_a_structure_on_one_slice_reaches_the_nearest_image(tmp_path, gaps):
    files, volume = uneven_series(tmp_path / "series", gaps)
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    affine, shape = volume.geometry.display_affine, volume.data.shape
    for number in range(shape[0]):
        labels = np.zeros(shape, np.uint8)
        labels[number, 2:5, 3:6] = 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ScanWarning)
            path = save_labels(labels, tmp_path / f"{number}.dcm", like=volume)
        found = stored_masks(path, files)
        drawn = np.flatnonzero(found.any(axis=(1, 2)))
        height = affine[2, 3] + number * affine[2, 0]
        assert len(drawn) == 1
        assert found.sum() == 9
        assert abs(heights[drawn[0]] - height) <= 0.5 * max(gaps) + 1e-6


def test_slices_between_images_are_counted(tmp_path):
    """On a grid finer than the images, two slices of other shapes share an image."""
    thickness = [1.0] * 11 + [3.0] * 4
    files, volume = uneven_series(tmp_path / "series", [1.0] * 10 + [3.0] * 4, thickness=thickness)
    assert volume.data.shape[0] == 23
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[3] = 1  # its own image, 3 mm below the top
    labels[4, :4] = 1  # between images
    labels[7, :, :5] = 2  # between images, alone
    with pytest.warns(ScanWarning, match="2 labelled slices are between the images"):
        path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    found = stored_masks(path, files)
    assert set(np.unique(found)) == {0, 1, 2}
    assert [int(np.count_nonzero(mask)) for mask in found if mask.any()] == [
        ROWS * 5,
        ROWS * COLUMNS,
    ]


def test_labels_cannot_hide_a_structure_without_a_word(tmp_path):
    """The structure of a slice between images has no room on the image, which is full."""
    thickness = [1.0] * 11 + [3.0] * 4
    _, volume = uneven_series(tmp_path / "series", [1.0] * 10 + [3.0] * 4, thickness=thickness)
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[3] = 1
    labels[4] = 2
    with pytest.warns(ScanWarning, match="1 were not saved"):
        save_labels(labels, tmp_path / "seg.dcm", like=volume)


def test_margins_of_a_tilted_uneven_scan_are_not_blended(tmp_path):
    """Images of one value become voxels of this value or of the background."""
    gaps = SPACINGS["jitter"]
    values = np.full((len(gaps) + 1, ROWS, COLUMNS), 900, np.int16)
    values[:, 0, 0] = 100
    _, volume = uneven_series(tmp_path / "series", gaps, tilt=0.31, values=values)
    data = volume.geometry.to_source(volume.data).transpose(2, 1, 0)[:, :, 2:]
    assert set(np.unique(data)) == {100 - 1024, 900 - 1024}
    # The labelled window of each slice shows the image, never the background.
    labels = np.ones(volume.data.shape, np.uint8)
    with pytest.warns(ScanWarning, match="margin"):
        path = save_labels(labels, tmp_path / "seg.dcm", like=volume)
    inside = load_labels(path, like=volume).data > 0
    assert (volume.data[inside] > 100 - 1024).mean() > 0.99


def test_a_real_tilted_uneven_scan_pairs_images_and_slices(data_dir, tmp_path):
    with pytest.warns(ScanWarning, match="resampled to 12 slices"):
        volume = load_volume(data_dir / "format_faults/tiltuneven")
    planes = volume.header.planes
    masks = np.zeros((len(planes), *planes[0].shape), bool)
    for number, mask in enumerate(masks):
        mask[number, :] = mask[:, number] = True
    files = [plane.path for plane in planes]
    path = write_masks(tmp_path / "seg.dcm", files, masks)
    labels = load_labels(path, like=volume)
    again = save_labels(labels.data, tmp_path / "again.dcm", like=volume)
    np.testing.assert_array_equal(stored_masks(again, files), masks)
    assert volume.header.layout.plane_of_slice.tolist() == list(range(12))


def test_classes_and_training_labels_of_a_resampled_scan_are_found(tmp_path):
    files, volume = uneven_series(tmp_path / "series", SPACINGS["thin, then thicker"])
    masks = np.zeros((len(files), ROWS, COLUMNS), bool)
    masks[:, 2:6, 2:6] = True
    path = write_masks(tmp_path / "seg.dcm", files, masks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        item = LabelledScan(tmp_path / "series", path)
        assert find_classes([item], "axial") == (1,)
        reader = ScanReader()
        assert reader.labels(item.opened()).data.any()
        _, labels = reader.take(item.opened())
    np.testing.assert_array_equal(labels.data, load_labels(path, like=volume).data)
