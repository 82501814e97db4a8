"""The writers, and matching of labels to scans, without a window."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Labels
from pydicom import dcmread

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import GeometryError, ScanWarning, StorageError
from napari_sslseg.gui.napari_io import writers
from napari_sslseg.gui.napari_io.readers import read
from napari_sslseg.gui.napari_io.scan_matching import find_scan_of

SHAPE = (8, 10, 12)


def save_scan(path, affine, seed=0):
    data = np.random.default_rng(seed).normal(300, 50, SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def affine(origin=(5.0, 6.0, 7.0)):
    return nib.affines.from_matvec(np.diag([1.5, -2.0, 2.5]), origin)


def opened(path):
    ((data, settings, kind),) = read(str(path))
    return (Image if kind == "image" else Labels)(data, **settings)


def by_hand(image, **changes):
    """Return labels as created by napari's button."""
    settings = {
        "scale": image.scale,
        "translate": image.translate,
        "rotate": image.rotate,
        "shear": image.shear,
        "units": image.units,
        "axis_labels": image.axis_labels,
        "affine": image.affine,
        "name": image.name + " - Labels",
    }
    return Labels(np.zeros(image.data.shape, np.uint8), **{**settings, **changes})


def parts(layer):
    return layer.as_layer_data_tuple()[:2]


@pytest.fixture
def image(tmp_path):
    return opened(save_scan(tmp_path / "t1.nii.gz", affine()))


def test_hand_drawn_labels_are_matched_to_the_scan_below(image):
    volume = find_scan_of(*parts(by_hand(image)), [image])
    assert volume.path == image.metadata["path"]
    assert volume.geometry is image.metadata["geometry"]


def test_labels_without_a_scan_are_refused(image, tmp_path):
    labels = by_hand(image)
    elsewhere = opened(save_scan(tmp_path / "far.nii.gz", affine((50.0, 6.0, 7.0))))
    for layers in ([], [elsewhere], [Image(image.data, scale=image.scale)]):
        with pytest.raises(GeometryError, match="no scan"):
            find_scan_of(*parts(labels), layers)


@pytest.mark.parametrize(
    "change",
    [
        {"translate": (1.0, 2.0, 3.0)},
        {"scale": (1.0, 1.0, 1.0)},
        {"rotate": (0.0, 0.0, 5.0)},
        {"shear": (0.0, 0.1, 0.0)},
        {"affine": np.diag([1.0, 1.0, 2.0, 1.0])},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_layer_that_was_moved_is_refused(image, change):
    with pytest.raises(GeometryError, match="lies on no scan"):
        find_scan_of(*parts(by_hand(image, **change)), [image])
    known = by_hand(image, metadata=image.metadata, **change)
    with pytest.raises(GeometryError, match="was moved"):
        find_scan_of(*parts(known), [image])


def test_two_scans_on_one_grid_are_distinguished_by_name(image, tmp_path):
    other = opened(save_scan(tmp_path / "t1_post.nii.gz", affine(), seed=1))
    for layer in (image, other):
        for labels in (by_hand(layer), by_hand(layer, name=f"{layer.name} - Labels [1]")):
            found = find_scan_of(*parts(labels), [image, other], one_series=True)
            assert found.path == layer.metadata["path"]
    nameless = by_hand(image, name="liver")
    # A NIfTI file needs only the grid, which both have; a DICOM SEG refers to one series.
    assert find_scan_of(*parts(nameless), [image, other]).geometry.matches(
        image.metadata["geometry"]
    )
    with pytest.raises(GeometryError, match="t1, t1_post"):
        find_scan_of(*parts(nameless), [image, other], one_series=True)


def write_two_series(folder):
    """A flat export: all files of two series in one folder."""
    for seed, series in enumerate(("1.2.826.1", "1.2.826.2")):
        write_series(folder, ramp(seed=seed), series=series, name=f"{seed}-{{:04d}}.dcm")


def write_two_phases(folder):
    """A series with two echoes at each position."""
    for seed in range(2):

        def edit(ds, index, seed=seed):
            ds.EchoTime = f"{10 * (seed + 1)}"

        ids = {"series": "1.2.826.1", "study": "1.2.3", "frame_of_reference": "1.2.4"}
        name = f"{seed}-{{:04d}}.dcm"
        write_series(folder, ramp(seed=seed), modality="MR", name=name, edit=edit, **ids)


@pytest.mark.parametrize("write", [write_two_series, write_two_phases])
def test_a_dicom_segmentation_never_refers_to_another_series_of_the_folder(tmp_path, write):
    write(tmp_path / "flat")
    layers = [Image(data, **settings) for data, settings, _ in read(str(tmp_path / "flat"))]
    assert len(layers) == 2
    assert len({layer.metadata["path"] for layer in layers}) == 1
    for layer in layers:
        labels = by_hand(layer)
        labels.data[2, 3:5, 3:5] = 1
        scan = find_scan_of(*parts(labels), layers, one_series=True)
        assert scan.header is layer.metadata["header"]
        labels.name = "liver"
        with pytest.raises(GeometryError, match="may belong to any of"):
            find_scan_of(*parts(labels), layers, one_series=True)
    # The same scan opened twice is one scan.
    ((data, settings, _),) = read(str(layers[0].metadata["files"][0]))
    twice = [layers[0], Image(data, **settings)]
    assert twice[1].metadata["header"] is not twice[0].metadata["header"]
    named = find_scan_of(*parts(by_hand(layers[0], name="liver")), twice, one_series=True)
    assert named.header is twice[0].metadata["header"]


def test_labels_of_a_layer_are_written_as_drawn_by_hand(tmp_path):
    write_series(tmp_path / "series")
    layer = opened(tmp_path / "series")
    data, settings = parts(by_hand(layer, metadata=layer.metadata))
    data[2, 3:5, 3:5] = 1
    (written,) = writers.write_dicom_seg(str(tmp_path / "seg"), data, settings)
    (segment,) = dcmread(written).SegmentSequence
    assert segment.SegmentAlgorithmType == "MANUAL"
    assert "SegmentAlgorithmName" not in segment


def test_data_left_out_of_a_file_are_reported(tmp_path):
    places = [(-10, -20 + 1.6 * z, 30 + 2.5 * z) for z in range(6)]
    write_series(tmp_path / "series", places=places)
    with pytest.warns(ScanWarning, match="gantry was tilted"):
        layer = opened(tmp_path / "series")
    data, settings = parts(by_hand(layer, metadata=layer.metadata))
    data[:] = 1
    with pytest.warns(ScanWarning, match="outside the images"):
        writers.write_dicom_seg(str(tmp_path / "seg"), data, settings)


def test_scans_of_other_geometry_in_the_same_place_are_not_confused(image, tmp_path):
    # Rotated about the first voxel: both have the same position in the scene.
    geometry = image.metadata["geometry"]
    angle = np.deg2rad(10)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    straight = geometry.display_affine[:3, :3] / geometry.spacing
    corner = turn @ straight @ np.linalg.solve(straight, geometry.display_affine[:3, 3])
    display = nib.affines.from_matvec(turn @ geometry.display_affine[:3, :3], corner)
    shape = geometry.display_shape
    data = np.random.default_rng(1).normal(300, 50, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(data, display), tmp_path / "turned.nii.gz")
    turned = opened(tmp_path / "turned.nii.gz")
    np.testing.assert_allclose(turned.translate, image.translate, atol=1e-3)
    with pytest.raises(GeometryError, match="may belong to any of"):
        find_scan_of(*parts(by_hand(image, name="liver")), [image, turned])
    found = find_scan_of(*parts(by_hand(turned)), [image, turned])
    assert found.geometry.matches(turned.metadata["geometry"])
    assert not found.geometry.matches(geometry)


def test_the_suffix_of_the_writer_is_added_to_a_bare_name(image, tmp_path):
    data, settings = parts(by_hand(image, metadata=image.metadata))
    (written,) = writers.write_nifti(str(tmp_path / "bare"), data, settings)
    assert written == str(tmp_path / "bare.nii.gz")
    with pytest.raises(StorageError, match=r"bare\.nii\.gz"):
        writers.write_nifti(str(tmp_path / "bare"), data, settings)
    (written,) = writers.write_nifti(str(tmp_path / "v1.2 final"), data, settings)
    assert written.endswith("v1.2 final.nii.gz")


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.int32, np.int64, np.uint64])
def test_all_integer_types_are_written_even_without_labels(image, tmp_path, kind):
    settings = parts(by_hand(image, metadata=image.metadata))[1]
    data = np.zeros(image.data.shape, kind)
    for value in (0, 1):
        data[1, 2, 3] = value
        (written,) = writers.write_nifti(str(tmp_path / f"l{value}.nii"), data, settings)
        saved = nib.load(written)
        assert saved.shape == SHAPE
        assert saved.get_fdata().sum() == value
        np.testing.assert_array_equal(saved.affine, affine())


def test_a_scan_is_never_replaced(image, tmp_path):
    data, settings = parts(by_hand(image, metadata=image.metadata))
    before = (tmp_path / "t1.nii.gz").read_bytes()
    other = save_scan(tmp_path / "not open.nii.gz", affine(), seed=3)
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "t1.nii.gz")
    for name in ("t1.nii.gz", "not open.nii.gz", "link.nii.gz"):
        with pytest.raises(StorageError, match="is a scan"):
            writers.write_nifti(str(tmp_path / name), data, settings)
    assert (tmp_path / "t1.nii.gz").read_bytes() == before
    assert nib.load(other).get_fdata().any()
    # A label map is replaced, so that work can continue.
    for value in (1, 2):
        data[0, 0, 0] = value
        (written,) = writers.write_nifti(str(tmp_path / "labels.nii.gz"), data, settings)
    assert nib.load(written).get_fdata().max() == 2


def test_a_dicom_slice_is_never_replaced(data_dir, image, tmp_path):
    scan = tmp_path / "slice.dcm"
    before = (data_dir / "dicom/mr_ge_papaya_20/brain_001.dcm").read_bytes()
    scan.write_bytes(before)
    data, settings = parts(by_hand(image, metadata=image.metadata))
    with pytest.raises(StorageError, match="is a scan"):
        writers.write_dicom_seg(str(scan), data, settings)
    assert scan.read_bytes() == before


def test_class_names_come_from_the_table_of_the_layer():
    table = pd.DataFrame({"index": [0, 1, 2, 3], "class": ["background", "liver", None, " "]})
    assert writers.class_names({"features": table}) == {1: "liver"}
    assert writers.class_names({"features": pd.DataFrame()}) == {}
    assert writers.class_names({}) == {}


def test_unknown_voxels_are_no_structure_of_a_dicom_segmentation(tmp_path):
    write_series(tmp_path / "series")
    layer = opened(tmp_path / "series")
    data, settings = parts(by_hand(layer, metadata=layer.metadata))
    data[2, 3:5, 3:5], data[3, :2, :3] = 1, 255
    with pytest.warns(ScanWarning, match=r"6 voxels .*255"):
        (written,) = writers.write_dicom_seg(str(tmp_path / "seg"), data, settings)
    assert [item.SegmentLabel for item in dcmread(written).SegmentSequence] == ["class 1"]
    assert (data == 255).sum() == 6  # The layer is as it was.
    # A value that the table of the layer names is a structure.
    settings["features"] = pd.DataFrame({"index": [1, 255], "class": ["liver", "spleen"]})
    (written,) = writers.write_dicom_seg(str(tmp_path / "named"), data, settings)
    assert [s.SegmentLabel for s in dcmread(written).SegmentSequence] == ["liver", "spleen"]
