"""Label files whose grid or values differ from what their scan and their format need."""

import warnings

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings, strategies as st
from scipy.spatial.transform import Rotation

from napari_sslseg.core import Project, load_labels, load_volume, save_labels
from napari_sslseg.core.common.errors import GeometryError, ScanWarning, VolumeError
from napari_sslseg.core.results.evaluate import evaluate
from napari_sslseg.core.scans.classes.scan_classes import find_classes
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import LabelledScan

SHAPE = (16, 20, 9)
AFFINE = np.array([[-1.5, 0, 0, 35], [0, -1.5, 0, 40], [0, 0, 4, -20], [0, 0, 0, 1.0]])


@pytest.fixture
def scan(tmp_path):
    values = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "scan.nii")
    return load_volume(tmp_path / "scan.nii", modality="MR")


@pytest.fixture
def drawn():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 5:11, 3:6] = 1
    labels[10, 12, 7] = 2
    return labels


def shifted(affine, voxels):
    """The affine of a grid that begins at other voxels of the same grid."""
    step = np.eye(4)
    step[:3, 3] = voxels
    return affine @ step


def saved(tmp_path, labels, affine):
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    return tmp_path / "labels.nii.gz"


def refused(path, scan):
    with pytest.raises(GeometryError) as caught:
        load_labels(path, like=scan)
    return str(caught.value)


def on_source(scan, labels):
    return scan.geometry.to_source(labels.data)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: shifted(a, (0.013, -0.01, 0.005)),  # 0.02 mm
        lambda a: a @ np.diag([1.00002, 1, 1, 1]),  # the fifth digit of the step
        lambda a: np.round(a, 1),
        lambda a: a.astype(np.float32),
    ],
    ids=["position", "step", "rounded", "float32"],
)
def test_grids_that_differ_by_rounding_are_the_same(tmp_path, scan, drawn, change):
    affine = change(AFFINE)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        labels = load_labels(saved(tmp_path, drawn, affine), like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), drawn)


@settings(max_examples=100, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    place=st.tuples(*[st.floats(-300, 300)] * 3),
    shape=st.tuples(*[st.integers(2, 700)] * 3),
    off=st.tuples(*[st.floats(-0.09, 0.09)] * 3),
    far=st.floats(0.11, 0.4),
)
def test_the_tolerance_is_a_part_of_the_voxel(spacing, place, shape, off, far):
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = place
    geometry = Geometry(affine, shape)
    assert geometry.matches(Geometry(shifted(affine, off), shape))
    assert not geometry.matches(Geometry(shifted(affine, (0, far, 0)), shape))
    # The error of a step adds up along the extent.
    stretched = affine.copy()
    stretched[0, 0] *= 1 + 2 * far / (shape[0] - 1)
    assert not geometry.matches(Geometry(stretched, shape))
    assert "voxels of" in Geometry(stretched, shape).difference(geometry)
    assert geometry.difference(Geometry(shifted(affine, off), shape)) == ""


def turned(affine, degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ affine


@pytest.mark.parametrize(
    ("affine", "shape", "numbers"),
    [
        (shifted(AFFINE, (0.5, 0, 0)), SHAPE, ("34.25", "35")),
        (shifted(AFFINE, (0, 0, 3)), SHAPE, ("first voxel", "24", "12")),
        (AFFINE @ np.diag([1.02, 1, 1, 1]), SHAPE, ("1.53 × 1.5 × 4", "1.5 × 1.5 × 4")),
        (turned(AFFINE, 6), SHAPE, ("turned by 6 degrees",)),
        (shifted(AFFINE, (100, 0, 0)), SHAPE, ("-115", "35")),
        (shifted(AFFINE, (0.4, 0, 0)), (8, 20, 9), ("8 × 20 × 9", "16 × 20 × 9", "34.4")),
        (AFFINE, (16, 20, 8), ("16 × 20 × 8", "16 × 20 × 9")),
    ],
    ids=["position", "shifted slices", "spacing", "direction", "far away", "shape", "lost slice"],
)
def test_the_message_says_what_differs(tmp_path, scan, affine, shape, numbers):
    message = refused(saved(tmp_path, np.zeros(shape, np.uint8), affine), scan)
    assert all(number in message for number in numbers), message
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    "affine", [None, np.eye(4), np.diag([-1.0, -1, 1, 1])], ids=["no codes", "identity", "LPS"]
)
def test_a_lost_header_is_called_so(tmp_path, scan, drawn, affine):
    message = refused(saved(tmp_path, drawn, affine), scan)
    assert "lost the header" in message
    assert "nibabel.Nifti1Image" in message


def test_a_lost_header_of_other_formats_is_called_so(tmp_path, scan, drawn):
    image = SimpleITK.GetImageFromArray(drawn.T)
    for name in ("labels.nrrd", "labels.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        assert "lost the header" in refused(tmp_path / name, scan)


BOX = (slice(3, 12), slice(4, 13), slice(2, 8))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("flipped", [False, True])
def test_labels_of_a_part_are_put_in_their_place(tmp_path, scan, drawn, suffix, flipped):
    part = drawn[BOX]
    affine = shifted(AFFINE, [axis.start for axis in BOX])
    if flipped:  # the same voxels from the other end, in another order
        part = part[::-1].transpose(2, 0, 1)
        affine = shifted(affine, (BOX[0].stop - BOX[0].start - 1, 0, 0))
        affine = np.column_stack([affine[:, 2], -affine[:, 0], affine[:, 1], affine[:, 3]])
    image = SimpleITK.GetImageFromArray(part.T)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    size = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(size.tolist())
    image.SetDirection((lps[:3, :3] / size).ravel().tolist())
    path = tmp_path / f"labels{suffix}"
    SimpleITK.WriteImage(image, str(path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        labels = load_labels(path, like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), drawn)
    assert any("only a part" in str(one.message) for one in caught)
    again = load_labels(save_labels(labels.data, tmp_path / "a.nii", like=scan), like=scan)
    np.testing.assert_array_equal(again.data, labels.data)


@pytest.mark.parametrize("affine", [None, np.eye(4)], ids=["no codes", "identity"])
def test_positions_without_a_header_prove_nothing(tmp_path, affine):
    """A smaller label map is not put into a corner of a scan that has no place either."""
    nib.save(nib.Nifti1Image(np.ones((8, 8, 6), np.int16), affine), tmp_path / "scan.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        volume = load_volume(tmp_path / "scan.nii", modality="MR")
    message = refused(saved(tmp_path, np.ones((4, 4, 6), np.uint8), affine), volume)
    assert "4 × 4 × 6 voxels instead of 8 × 8 × 6" in message


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_axes_that_a_program_exchanged_are_named(tmp_path, drawn, order):
    """Even if the grid by the header, which was kept, covers the scan in part as a crop does."""
    affine = np.diag([-2.0, -2, 2, 1])
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), affine), tmp_path / "scan.nii")
    scan = load_volume(tmp_path / "scan.nii", modality="MR")
    exchanged = np.ascontiguousarray(drawn.transpose(order))
    assert "exchanged axes" in refused(saved(tmp_path, exchanged, affine), scan)
    with_header = saved(tmp_path, exchanged, affine[:, [*order, 3]])
    np.testing.assert_array_equal(on_source(scan, load_labels(with_header, like=scan)), drawn)


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("angle", [45, 135, -45])
@pytest.mark.parametrize("rounding", [1e-4, -1e-4])
def test_axes_between_two_directions_of_the_patient_match(tmp_path, drawn, axis, angle, rounding):
    """The rounding of the header decides which direction is the nearest."""

    def turned(degrees):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix() * 0.9
        return affine

    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), turned(angle)), tmp_path / "scan.nii")
    scan = load_volume(tmp_path / "scan.nii", modality="MR")
    labels = load_labels(saved(tmp_path, drawn, turned(angle + rounding)), like=scan)
    np.testing.assert_array_equal(on_source(scan, labels), drawn)
    assert labels.geometry.matches(scan.geometry)


def test_scores_training_and_projects_turn_labels_between_two_directions(tmp_path, drawn):
    """A map and its parts whose headers are rounded to the other side of 45 degrees."""

    def turned(degrees):
        affine = np.eye(4)
        affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() * 0.9
        return affine

    values = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    nib.save(nib.Nifti1Image(values, turned(45 - 1e-4)), tmp_path / "p0.nii")
    files = []
    for number, degrees in enumerate((45 - 1e-4, 45 + 1e-4), 1):
        files.append(tmp_path / "parts" / f"p0_organ{number}.nii")
        files[0].parent.mkdir(exist_ok=True)
        part = (drawn == number).astype(np.uint8)
        nib.save(nib.Nifti1Image(part, turned(degrees)), files[-1])
    whole = saved(tmp_path, drawn, turned(45 + 1e-4))
    scan = load_volume(tmp_path / "p0.nii", modality="MR")
    alone = load_labels(whole)
    assert not alone.geometry.matches(scan.geometry)
    for labels in (whole, alone, load_labels(files), tuple(files)):
        for pair in ((load_labels(whole, like=scan), labels), (labels, alone)):
            scores = evaluate(*pair).classes
            assert {value: score.dice for value, score in scores.items()} == {1: 1, 2: 1}
        loaded = LabelledScan(scan, labels).load()[1]
        np.testing.assert_array_equal(on_source(scan, loaded), drawn)
    with Project.create(tmp_path / "project") as project:
        named = tmp_path / "p0_seg.nii.gz"
        whole.rename(named)
        found = project.add_scans([named, tmp_path / "p0.nii"])
        assert found.labels == ((named, "p0"),)


def test_any_box_that_slicer_chose_is_put_in_its_place(tmp_path, scan, drawn):
    """Also one that leaves the scan on one side; the rest is background without a warning."""
    padded = np.pad(drawn, ((3, 0), (0, 0), (0, 0)))[:14, :, 1:]
    head = "NRRD0005\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
    head += f"sizes: {' '.join(map(str, padded.shape))}\nencoding: raw\n"
    head += "space directions: (1.5,0,0) (0,1.5,0) (0,0,4)\n"
    head += f"space origin: ({-35 - 3 * 1.5},-40,{-20 + 4})\n"
    head += "Segment0_Name:=a\nSegment0_LabelValue:=1\nSegment1_Name:=b\n"
    head += "Segment1_LabelValue:=2\n\n"
    path = tmp_path / "labels.nrrd"
    path.write_bytes(head.encode() + padded.tobytes(order="F"))
    wanted = np.zeros_like(drawn)
    wanted[:11, :, 1:] = drawn[:11, :, 1:]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        np.testing.assert_array_equal(on_source(scan, load_labels(path, like=scan)), wanted)


@pytest.mark.parametrize("name", ["p0.nii.gz", "other.nii.gz"])
def test_labels_that_are_longer_and_shorter_are_no_part(tmp_path, scan, drawn, name):
    """As those of another patient, whose file begins at the same place."""
    other = np.pad(drawn, ((0, 0), (0, 6), (0, 0)))[:-2, :, :-1]
    path = tmp_path / "labels" / name
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(other, scan.geometry.affine), path)
    with pytest.raises(GeometryError, match="another grid"):
        load_labels(path, like=scan)


def test_labels_beyond_the_scan_are_cut_and_counted(tmp_path, scan, drawn):
    padded = np.pad(drawn, 2)
    path = saved(tmp_path, padded, shifted(AFFINE, (-2, -2, -2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScanWarning)
        np.testing.assert_array_equal(on_source(scan, load_labels(path, like=scan)), drawn)
    padded[0, 0, :5] = 1
    path = saved(tmp_path, padded, shifted(AFFINE, (-2, -2, -2)))
    with pytest.warns(ScanWarning, match="left out 5 labelled voxels outside"):
        np.testing.assert_array_equal(on_source(scan, load_labels(path, like=scan)), drawn)


def test_classes_and_scores_of_cropped_labels(tmp_path, scan, drawn):
    whole = saved(tmp_path, drawn, AFFINE)
    part = tmp_path / "part.nii.gz"
    nib.save(nib.Nifti1Image(drawn[BOX], shifted(AFFINE, [axis.start for axis in BOX])), part)
    slices = SHAPE[2]
    with pytest.warns(ScanWarning, match="only a part"):
        assert find_classes(
            [LabelledScan(tmp_path / "scan.nii", part, (slices - 1 - 7,))], "axial"
        ) == (2,)
    with pytest.warns(ScanWarning, match="only a part"):
        scores = evaluate(whole, part)
    assert all(score.dice == 1 for score in scores.classes.values())


@pytest.mark.parametrize("number", range(4))
def test_real_segmentations_that_slicer_cropped(data_dir, number):
    folder = data_dir / "field_cases/02-slicer-cropped/s_cropped"
    volume = load_volume(folder / f"images/p{number}.nii.gz", modality="MR")
    path = folder / f"labels/p{number}.seg.nrrd"
    labels = load_labels(path, like=volume)
    image = SimpleITK.ReadImage(str(path))
    grid = SimpleITK.ReadImage(str(folder / f"images/p{number}.nii.gz"))
    there = SimpleITK.Resample(image, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor)
    np.testing.assert_array_equal(on_source(volume, labels), SimpleITK.GetArrayFromImage(there).T)
    assert SimpleITK.GetArrayFromImage(image).any()


def with_scaling(path, labels, dtype):
    """Labels as floats that nibabel stores as scaled integers, as in many scripts."""
    image = nib.Nifti1Image(labels.astype(np.float64), AFFINE)
    image.set_data_dtype(dtype)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_labels_that_the_header_scales_are_rounded(tmp_path, scan, drawn, dtype):
    labels = drawn.astype(np.uint8) * 3
    path = with_scaling(tmp_path / "labels.nii", labels, dtype)
    stored = np.asarray(nib.load(path).dataobj)
    assert not np.array_equal(stored, np.round(stored)) or dtype == np.int32
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_labels(path, like=scan)
    np.testing.assert_array_equal(on_source(scan, found), labels)
    assert bool(caught) == (np.abs(stored - np.round(stored)).max() > 1e-3)


@pytest.mark.parametrize("folder", ["slope", "u8"])
@pytest.mark.parametrize("name", ["p0", "p1"])
def test_real_labels_that_the_header_rounds(data_dir, folder, name):
    case = data_dir / f"field_cases/05-labels-rounded-by-header/{folder}"
    volume = load_volume(case / f"images/{name}.nii.gz", modality="MR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        labels = load_labels(case / f"labels/{name}.nii.gz", like=volume)
    expected = np.round(np.asarray(nib.load(case / f"labels/{name}.nii.gz").dataobj))
    np.testing.assert_array_equal(on_source(volume, labels), expected)


@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (0.5, np.float32, "0.5"),
        (2.4, np.float64, "2.4"),
        (1.01, np.float32, "1.01"),
        (-1, np.int16, "-1"),
        (-3.0, np.float32, "-3.0"),
        (2**31, np.uint32, "2147483648"),
        (2.0**31, np.float64, "2147483648"),
        (16777216.5, np.float64, "16777216.5"),
        (16777216, np.float32, "16777216"),
    ],
)
def test_values_that_are_no_labels_are_named(tmp_path, drawn, value, dtype, said):
    labels = drawn.astype(dtype)
    labels[0, 0, 0] = value
    nib.save(nib.Nifti1Image(labels, AFFINE, dtype=dtype), tmp_path / "labels.nii")
    with pytest.raises(VolumeError) as caught:
        load_labels(tmp_path / "labels.nii")
    assert said in str(caught.value)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.float64])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_large_labels_stored_with_enough_bits_are_exact(tmp_path, drawn, dtype, suffix):
    labels = drawn.astype(dtype)
    labels[0, 0, :2] = 16777217, 614454277
    path = tmp_path / f"labels{suffix}"
    if "nii" in suffix:
        nib.save(nib.Nifti1Image(labels, AFFINE, dtype=dtype), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels), str(path))
    found = load_labels(path)
    assert set(np.unique(found.data)) == {0, 1, 2, 16777217, 614454277}


def test_a_scan_is_not_taken_for_rounded_labels(tmp_path):
    """Grey values in small steps are near whole numbers, but several are next to one."""
    values = np.array([1 - 0.04, 1.0, 1 + 0.04], np.float32)
    data = np.random.default_rng(0).choice(values, SHAPE)
    image = nib.Nifti1Image(np.round(data / 0.08).astype(np.int16), AFFINE)
    image.header.set_slope_inter(0.08, 0)
    nib.save(image, tmp_path / "scan.nii")
    with pytest.raises(VolumeError, match="whole numbers"):
        load_labels(tmp_path / "scan.nii")


@pytest.mark.parametrize(("file", "said"), [("l_half", "0.5")])
def test_real_files_with_values_that_are_no_labels(data_dir, file, said):
    with pytest.raises(VolumeError, match=said):
        load_labels(data_dir / f"format_faults/files/{file}.nii")


def test_a_real_file_of_large_decimal_labels_is_exact(data_dir):
    found = load_labels(data_dir / "format_faults/files/l_f64_2p24.nii")
    assert 16777217 in np.unique(found.data)
