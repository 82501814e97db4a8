"""Labels of any scan in any format: every voxel keeps its position in the patient.

Affines are made of numbers that float32 holds, because NIfTI-1 stores nothing finer: any other
affine is rounded (by some 1e-5 mm) when the scan itself is written, before anything here reads it.
"""

import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings, strategies as st
from scipy.spatial.transform import Rotation

from affines import ORIENTATIONS, affine_of, world
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.formats.dispatch import is_dicom, open_image
from napari_sslseg.core.scans.formats.registry import NIFTI, format_of
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume
from paths import data_files, overlapping

SOURCES = ("nii", "nii.gz", "nifti-2", "hdr", "hdr.gz", "nrrd", "nhdr", "mha", "mhd")
TARGETS = (".nii", ".nii.gz", ".nrrd", ".mha")
LPS = np.diag([-1.0, -1, 1, 1])


@st.composite
def scans(draw):
    """Draw an affine (oblique, anisotropic, possibly sheared) and values."""
    number = st.floats(-1, 1, allow_nan=False)
    small = Rotation.from_rotvec([0.6 * draw(number) for _ in range(3)]).as_matrix()
    spacing = np.diag([draw(st.floats(0.2, 8)) for _ in range(3)])
    shear = np.eye(3)
    if draw(st.booleans()):
        shear[0, 1], shear[0, 2], shear[1, 2] = (0.3 * draw(number) for _ in range(3))
    steps = small @ draw(st.sampled_from(ORIENTATIONS)) @ spacing @ shear
    affine = affine_of(steps, [400 * draw(number) for _ in range(3)]).astype(np.float32)
    shape = tuple(draw(st.integers(1, 7)) for _ in range(3))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-99, 999, shape)
    return affine.astype(np.float64), values.astype(np.int16)


def by_simpleitk(values, affine):
    affine = LPS @ affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(values.T)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def write_scan(folder, kind, values, affine):
    """Write a scan with nibabel or SimpleITK, not with the code under test."""
    if kind in ("nii", "nii.gz"):
        nib.save(nib.Nifti1Image(values, affine), folder / f"scan.{kind}")
        return folder / f"scan.{kind}"
    if kind == "nifti-2":
        nib.save(nib.Nifti2Image(values, affine), folder / "scan.nii")
        return folder / "scan.nii"
    if kind.startswith("hdr"):
        image = folder / f"scan.{kind.replace('hdr', 'img')}"
        nib.save(nib.Nifti1Pair(values, affine), image)
        return folder / f"scan.{kind}"
    SimpleITK.WriteImage(by_simpleitk(values, affine), str(folder / f"scan.{kind}"))
    return folder / f"scan.{kind}"


def labelled_points(path):
    """Return value and RAS+ position of each labelled voxel, read by nibabel or SimpleITK."""
    if path.name.endswith((".nii", ".nii.gz")):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        return {int(values[*at]): world(image.affine, at) for at in np.argwhere(values)}
    image = SimpleITK.ReadImage(str(path))
    values = SimpleITK.GetArrayFromImage(image).T
    return {
        int(values[*at]): LPS[:3, :3] @ image.TransformContinuousIndexToPhysicalPoint(at.tolist())
        for at in np.argwhere(values)
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(scan=scans(), source=st.sampled_from(SOURCES), data=st.data())
def test_labels_keep_values_and_positions(tmp_path, scan, source, data):
    affine, values = scan
    folder = tmp_path / "scan"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = write_scan(folder, source, values, affine)
    volume = load_volume(path, modality="MR")
    np.testing.assert_array_equal(volume.geometry.to_source(volume.data), values)
    np.testing.assert_allclose(volume.geometry.affine, affine, rtol=0, atol=1e-9)

    size = volume.data.size
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4, unique=True))
    labels = np.zeros(volume.data.shape, np.uint8)
    labels.flat[places] = np.arange(1, len(places) + 1)
    expected = {
        number: world(volume.geometry.display_affine, np.unravel_index(place, labels.shape))
        for number, place in enumerate(places, 1)
    }
    for target in TARGETS:
        saved = save_labels(labels, folder / f"labels{target}", like=volume)
        again = load_labels(saved, like=volume)
        np.testing.assert_array_equal(again.data, labels)
        found = labelled_points(saved)
        assert found.keys() == expected.keys()
        for number, position in expected.items():
            np.testing.assert_allclose(found[number], position, rtol=0, atol=1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_every_orientation_in_every_format(tmp_path, orientation):
    """The intensity increases to the left, front and head, in every file."""
    affine = affine_of(orientation @ np.diag([0.5, 1.25, 3]), (-7, 11, 13))
    shape = (4, 3, 5)
    index = np.indices(shape).reshape(3, -1)
    right, front, high = affine[:3, :3] @ index + affine[:3, 3:]
    values = np.round(4 * (3 * high + 5 * front - 7 * right)).astype(np.int16).reshape(shape)
    for source in SOURCES:
        volume = load_volume(write_scan(tmp_path, source, values, affine), modality="MR")
        for axis, step in enumerate(volume.geometry.spacing):
            per_mm = (-12, -20, 28)[axis]  # towards inferior, posterior and left
            np.testing.assert_array_equal(np.diff(volume.data, axis=axis), per_mm * step)


# --- real files


def reference_affine(path):
    """Return the RAS+ affine of nibabel or SimpleITK."""
    if format_of(path) in (None, NIFTI):
        return nib.load(path).affine
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    axes = reader.GetDimension()
    affine = np.eye(4)
    affine[:axes, :axes] = np.reshape(reader.GetDirection(), (axes, axes)) * reader.GetSpacing()
    affine[:axes, 3] = reader.GetOrigin()
    return LPS @ affine


def test_every_real_file_has_the_affine_of_other_readers(data_dir):
    """Only headers; the tests of the formats compare the values."""
    suffixes = ("nii", "nii.gz", "hdr", "img", "nrrd", "nhdr", "mha", "mhd")
    paths = data_files(data_dir, *(f"*.{suffix}" for suffix in suffixes))
    paths = [path for path in paths if not is_dicom(path) and path not in overlapping(data_dir)]
    alike, refused = 0, {}
    for path in paths:
        try:
            file = open_image(path)
        except VolumeError as error:
            refused[path.name] = str(error)
            continue
        if path.name == "test_simple4d_raw.nrrd":  # SimpleITK refuses a series behind three axes
            expected = affine_of(np.diag([1.5, 1.5, 1]))
        else:
            expected = reference_affine(path)
        np.testing.assert_allclose(file.geometry.affine, expected, rtol=0, atol=1e-9)
        alike += 1
    assert alike >= 600
    assert set(refused) == {
        "BallBinary30x30x30_byteskip_minus_five.nhdr",
        "detlist.nhdr",
        "git_lfs_pointer_liver_0.nii.gz",
        "nifti1_hdr_without_img.hdr",
        "not-nifti.nii",
        "test1d_ascii.nrrd",
        "test_customFields.nrrd",
        *("warp_template2anat.nii.gz", "warp_template2mt.nii.gz", "warp_t22mt1.nii.gz"),
        "spine_report.nii.gz",  # in colour
        "zero_byte_bids-examples_sub-01_T1w.nii.gz",
    }
    for message in refused.values():
        assert message.startswith(str(data_dir))
        assert message.endswith(".")
        assert message.count(". ") == 0


@pytest.mark.parametrize(
    "path",
    [
        "nifti_nrrd_mha/sct_testing_mr/t2/t2_seg-manual_labeled.nii.gz",
        "totalsegmentator_ct_mr/tests/reference_files/example_seg.nii.gz",
        "dicom/qiicr_dcmqi/data/segmentations/liver_spine_seg.nrrd",
        "nifti_nrrd_mha/elastix_mha/Testing/Data/3DCT_lung_baseline_mask.mha",
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_real_labels_in_every_format(data_dir, tmp_path, path, target):
    labels = load_labels(data_dir / path)
    saved = save_labels(labels.data, tmp_path / f"labels{target}", like=labels)
    again = load_labels(saved, like=labels)
    np.testing.assert_array_equal(again.data, labels.data)
    # NIfTI rounds values that another format stores with more digits.
    rounding = 1e-9 if target in (".nrrd", ".mha") or ".nii" in path else 1e-4
    corner = np.array(labels.geometry.shape) - 1
    for index in (0 * corner, corner):
        np.testing.assert_allclose(
            world(reference_affine(saved), index),
            world(reference_affine(data_dir / path), index),
            rtol=0,
            atol=rounding,
        )
