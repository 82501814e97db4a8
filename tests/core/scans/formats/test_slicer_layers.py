"""Segmentations of 3D Slicer whose structures overlap, in several layers of one file."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from napari_sslseg.core import list_series, load_labels, load_volume, read_segment_names
from napari_sslseg.core.common.errors import ScanWarning, VolumeError

SHAPE = (7, 8, 5)
AFFINE = np.array([[-1.5, 0, 0, 35], [0, -1.5, 0, 40], [0, 0, 4, -20], [0, 0, 0, 1.0]])


def write_layers(path, layers, segments, origin=(-35, -40, -20)):
    """Write layers, shape (layers, x, y, z); segments are dictionaries of their fields."""
    head = [
        "NRRD0005",
        "type: unsigned char",
        "dimension: 4",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, layers.shape))}",
        "space directions: none (1.5,0,0) (0,1.5,0) (0,0,4)",
        "kinds: list domain domain domain",
        "encoding: gzip",
        f"space origin: ({','.join(map(str, origin))})",
    ]
    for number, fields in enumerate(segments):
        head += [f"Segment{number}_{name}:={value}" for name, value in fields.items()]
    values = gzip.compress(layers.astype(np.uint8).tobytes(order="F"))
    path.write_bytes("\n".join([*head, "", ""]).encode() + values)
    return path


@pytest.fixture
def scan(tmp_path):
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.int16), AFFINE), tmp_path / "scan.nii")
    return load_volume(tmp_path / "scan.nii", modality="MR")


@pytest.fixture
def layers():
    found = np.zeros((2, *SHAPE), np.uint8)
    found[0, 1:6, 1:7, 1:4] = 1
    found[0, 6, 7, 4] = 2
    found[1, 2:4, 2:4, 2] = 1  # in the liver
    return found


SEGMENTS = [
    {"Name": "liver", "LabelValue": 1, "Layer": 0},
    {"Name": "spleen", "LabelValue": 2, "Layer": 0},
    {"Name": "lesion", "LabelValue": 1, "Layer": 1},
]


def expected(layers):
    labels = layers[0].copy()
    labels[layers[1] == 1] = 3
    return labels


def on_source(scan, labels):
    return scan.geometry.to_source(labels.data)


def test_values_that_occur_in_two_layers_are_numbered_anew(tmp_path, scan, layers):
    path = write_layers(tmp_path / "a.seg.nrrd", layers, SEGMENTS)
    with pytest.warns(ScanWarning, match=r"overlap in 4 voxels.*'liver' \(4\)"):
        labels = load_labels(path, like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), expected(layers))
    assert read_segment_names(path) == {1: "liver", 2: "spleen", 3: "lesion"}


def test_different_values_are_kept(tmp_path, scan, layers):
    layers = layers * 10
    layers[1] //= 2
    values = [10, 20, 5]
    segments = [s | {"LabelValue": v} for s, v in zip(SEGMENTS, values, strict=True)]
    path = write_layers(tmp_path / "a.seg.nrrd", layers, segments)
    with pytest.warns(ScanWarning, match="overlap"):
        labels = load_labels(path, like=scan)
    assert set(np.unique(labels.data)) == {0, 5, 10, 20}
    assert read_segment_names(path) == {10: "liver", 20: "spleen", 5: "lesion"}


def test_old_files_have_a_layer_for_each_structure(tmp_path, scan, layers):
    """Before 3D Slicer 4.11 the header had neither values nor layers."""
    old = np.stack([layers[0] == 1, layers[0] == 2, layers[1] == 1])
    path = write_layers(tmp_path / "a.seg.nrrd", old, [{"Name": s["Name"]} for s in SEGMENTS])
    with pytest.warns(ScanWarning, match="overlap"):
        labels = load_labels(path, like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), expected(layers))
    assert read_segment_names(path) == {1: "liver", 2: "spleen", 3: "lesion"}


def test_layers_that_slicer_cropped_are_put_in_their_place(tmp_path, scan, layers):
    box = layers[:, 1:, 1:, 1:]
    path = write_layers(
        tmp_path / "a.seg.nrrd", box, SEGMENTS, origin=(-35 + 1.5, -40 + 1.5, -20 + 4)
    )
    with pytest.warns(ScanWarning, match="overlap"):
        labels = load_labels(path, like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), expected(layers))


def test_a_structure_that_another_one_hides_is_named(tmp_path, scan, layers):
    layers[1] = layers[0] == 1
    path = write_layers(tmp_path / "a.seg.nrrd", layers, SEGMENTS)
    with pytest.warns(ScanWarning, match="'liver', which has no label left"):
        load_labels(path, like=scan)


def test_layers_are_no_scan(tmp_path, layers):
    write_layers(tmp_path / "a.seg.nrrd", layers, SEGMENTS)
    [series] = list_series(tmp_path)
    assert "open it as labels" in series.problem


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        (SEGMENTS[:2], "belong to no segment"),
        ([*SEGMENTS[:2], SEGMENTS[2] | {"Layer": 2}], "layer 2"),
    ],
)
def test_headers_that_contradict_the_layers_are_refused(tmp_path, scan, layers, segments, said):
    path = write_layers(tmp_path / "a.seg.nrrd", layers, segments)
    with pytest.raises(VolumeError, match=said):
        load_labels(path, like=scan)


def test_vectors_are_not_taken_for_layers(tmp_path, scan, layers):
    path = write_layers(tmp_path / "a.nrrd", layers, [])
    with pytest.raises(VolumeError, match="values per voxel"):
        load_labels(path, like=scan)


@pytest.mark.parametrize("number", range(4))
def test_real_segmentations_with_overlap(data_dir, number):
    folder = data_dir / "field_cases/03-slicer-overlap/s_overlap"
    volume = load_volume(folder / f"images/p{number}.nii.gz", modality="MR")
    path = folder / f"labels/p{number}.seg.nrrd"
    with pytest.warns(ScanWarning, match="overlap in 32 voxels"):
        labels = on_source(volume, load_labels(path, like=volume))
    both = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T  # layers first
    wanted = both[0].copy()
    wanted[both[1] == 1] = 3
    np.testing.assert_array_equal(labels, wanted)
    assert np.count_nonzero(both[1]) > 0
