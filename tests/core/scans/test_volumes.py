"""Read scans and labels from files, and write labels."""

import os
import re
import struct
import subprocess
import sys
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from affines import affine_of, affines, world
from napari_sslseg.core.common.errors import (
    DataError,
    GeometryError,
    SslsegError,
    StorageError,
    VolumeError,
)
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.formats.nifti import image_like
from napari_sslseg.core.scans.formats.registry import DICOM, label_suffixes
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.matching.subjects import guess_subject
from napari_sslseg.core.scans.volume import (
    Volume,
    guess_modality,
    load_volume,
    load_volumes,
    read_geometry,
)
from paths import data_files

SHAPE = (5, 6, 7)
LABEL_SUFFIXES = [suffix for suffix in label_suffixes() if suffix not in DICOM.written_suffixes]
AFFINE = affine_of(np.diag([2.0, 3, 4]), (10, -20, 30))
SHEARED = affine_of([[2.0, 0.3, 0], [0, 3, 0.5], [0.1, 0, 4]], (10, -20, 30))
ROTATED = affine_of(np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) * (2, 3, 4), (1, 2, 3))

FLIPPED = affine_of(np.diag([-2.0, 3, 4]), (5, 5, 5))


def save(path, data, affine=AFFINE, *, qform=None, sform=None, kind=nib.Nifti1Image):
    """Save an image; with ``qform`` or ``sform`` (matrix, code) set just those."""
    image = kind(data, affine)
    if qform is not None or sform is not None:
        image.header["qform_code"] = image.header["sform_code"] = 0
        if qform is not None:
            image.header.set_qform(*qform)
        if sform is not None:
            image.header.set_sform(*sform)
        image = kind(data, None, image.header)
    nib.save(image, path)
    return path


def ramp(dtype=np.int16, shape=SHAPE):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def codes(header):
    return int(header["qform_code"]), int(header["sform_code"])


def assert_value_in_place(volume, path, index):
    """Check that a display voxel has the value of nibabel at the same point of the patient."""
    image = nib.load(path)
    position = world(volume.geometry.display_affine, index)
    source = np.linalg.solve(image.affine[:3, :3], position - image.affine[:3, 3])
    rounded = np.round(source).astype(int)
    np.testing.assert_allclose(source, rounded, atol=1e-3)
    values = np.asarray(image.dataobj).reshape(volume.geometry.shape)
    assert volume.data[tuple(index)] == pytest.approx(values[tuple(rounded)], rel=1e-6)


# --- round trips


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(affine=affines())
def test_saved_labels_keep_their_position(tmp_path, affine):
    scan = load_volume(save(tmp_path / "scan.nii", ramp(), affine))
    labels = np.zeros(scan.data.shape, np.uint8)
    marked = (1, 2, 3)
    labels[marked] = 2
    saved = save_labels(labels, tmp_path / "labels.nii", like=scan, overwrite=True)
    again = load_labels(saved, like=scan)
    np.testing.assert_array_equal(again.data, labels)
    source, written = nib.load(tmp_path / "scan.nii"), nib.load(saved)
    np.testing.assert_array_equal(written.affine, source.affine)
    assert written.shape == source.shape
    index = np.argwhere(np.asarray(written.dataobj) == 2)
    assert len(index) == 1
    np.testing.assert_allclose(
        world(written.affine, index[0]), world(scan.geometry.display_affine, marked), atol=1e-6
    )


@pytest.mark.parametrize(
    "frame",
    [
        {"sform": (SHEARED, 2)},
        {"sform": (SHEARED, 4), "qform": (ROTATED, 1)},
        {"sform": (AFFINE, 1), "qform": (AFFINE, 3)},
        {"qform": (ROTATED, 1)},
        {"qform": (FLIPPED, 2)},
        {"qform": (AFFINE, 0), "sform": (AFFINE, 0)},
    ],
    ids=["sheared-sform", "qform-differs", "both", "qform-only", "qform-flipped", "no-code"],
)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.filterwarnings("ignore:.*no orientation")
def test_saved_labels_keep_the_frame(tmp_path, frame, kind, suffix):
    path = save(tmp_path / "scan.nii", ramp(), **frame, kind=kind)
    source = nib.load(path)
    scan = load_volume(path)
    np.testing.assert_array_equal(scan.geometry.affine, source.affine)
    out = tmp_path / "out"
    written = nib.load(save_labels(scan.data % 3, out / f"labels{suffix}", like=scan))
    assert type(written) is kind
    assert written.shape == SHAPE
    assert written.get_data_dtype() == np.uint8
    assert codes(written.header) == codes(source.header)
    assert written.header.get_zooms() == pytest.approx(source.header.get_zooms())
    np.testing.assert_array_equal(written.affine, source.affine)
    for get in ("get_qform", "get_sform"):
        matrix, code = getattr(source.header, get)(coded=True)
        if code:
            np.testing.assert_allclose(getattr(written.header, get)(), matrix, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), ramp() % 3)
    assert os.listdir(out) == [f"labels{suffix}"]


def test_units_are_kept(tmp_path):
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii")
    scan = load_volume(tmp_path / "scan.nii")
    written = nib.load(save_labels(scan.data % 2, tmp_path / "out.nii", like=scan))
    assert written.header.get_xyzt_units() == ("mm", "sec")


def test_the_frame_of_another_grid_is_not_used(tmp_path):
    path = save(tmp_path / "scan.nii", ramp(), qform=(AFFINE, 1), sform=(AFFINE, 1))
    image = image_like(np.zeros((9, 9, 9), np.uint8), SHEARED, nib.load(path).header)
    nib.save(image, tmp_path / "out.nii")
    np.testing.assert_allclose(nib.load(tmp_path / "out.nii").affine, SHEARED, atol=1e-6)


def test_an_invalid_quaternion_with_a_valid_sform(tmp_path):
    path = save(tmp_path / "scan.nii", ramp(), qform=(AFFINE, 1), sform=(SHEARED, 1))
    raw = bytearray(path.read_bytes())
    struct.pack_into("<fff", raw, 256, 5, 5, 5)
    path.write_bytes(raw)
    scan = load_volume(path)
    written = nib.load(save_labels(scan.data % 2, tmp_path / "out.nii", like=scan))
    np.testing.assert_array_equal(written.affine, scan.geometry.affine)


# --- accepted files


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, ">i2", np.uint16, np.int32, np.float32, ">f4"]
)
def test_values_and_types(tmp_path, dtype):
    data = ramp(dtype)
    scan = load_volume(save(tmp_path / "scan.nii.gz", data, ROTATED))
    assert scan.data.dtype == np.dtype(dtype).newbyteorder("=")
    assert scan.data.dtype.isnative
    np.testing.assert_array_equal(scan.geometry.to_source(scan.data), data)
    assert_value_in_place(scan, tmp_path / "scan.nii.gz", (1, 2, 3))


def test_big_endian_header(tmp_path):
    image = nib.Nifti1Image(ramp(">i2"), SHEARED, nib.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(">i2")
    nib.save(image, tmp_path / "scan.nii")
    assert (tmp_path / "scan.nii").read_bytes()[:4] == struct.pack(">i", 348)
    scan = load_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(scan.geometry.to_source(scan.data), ramp())
    labels = save_labels(scan.data % 5, tmp_path / "labels.nii", like=scan)
    np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 5)


def test_scaled_integers_become_float32(tmp_path):
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.header.set_slope_inter(0.5, -100)
    nib.save(image, tmp_path / "scan.nii")
    scan = load_volume(tmp_path / "scan.nii")
    assert scan.data.dtype == np.float32
    stored = np.asarray(nib.load(tmp_path / "scan.nii").dataobj)
    np.testing.assert_allclose(scan.geometry.to_source(scan.data), stored)


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 7, 1), (5, 6, 7, 1, 1)])
def test_two_axes_and_trailing_axes_of_length_one(tmp_path, shape):
    scan = load_volume(save(tmp_path / "scan.nii", ramp(shape=shape)))
    expected = (*shape, 1)[:3]
    assert scan.geometry.shape == expected
    assert scan.data.shape == expected[::-1]
    assert read_geometry(tmp_path / "scan.nii").matches(scan.geometry)
    labels = save_labels(scan.data % 2, tmp_path / "out.nii", like=scan)
    np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 2)


def test_names_subjects_and_folders(tmp_path):
    for name in ("b_ED.nii.gz", "b_ES.nii.gz", "a.NII"):
        save(tmp_path / name, ramp())
    (tmp_path / ".hidden.nii").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    scans = load_volumes(tmp_path, modality="CT")
    assert [s.name for s in scans] == ["a", "b_ED", "b_ES"]
    assert [s.subject for s in scans] == ["a", "b", "b"]
    assert {s.modality for s in scans} == {"CT"}
    assert load_volume(tmp_path / "a.NII", subject="X").subject == "X"
    both = load_volumes([tmp_path / "b_ED.nii.gz", tmp_path])
    assert [s.name for s in both] == ["b_ED", "a", "b_ES"]


# --- refused files


def with_edit(offset, layout, *values):
    def make(path):
        raw = bytearray(save(path, ramp()).read_bytes())
        struct.pack_into(layout, raw, offset, *values)
        path.write_bytes(raw)

    return make


def truncated_gz(path):
    noise = np.random.default_rng(0).random((20, 20, 20))
    raw = save(path, noise).read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def truncated(path):
    path.write_bytes(save(path, ramp()).read_bytes()[:400])


BAD_FILES = {
    "missing": ("a.nii", lambda path: None),
    "folder": ("a.nii", lambda path: path.mkdir()),
    "empty": ("a.nii.gz", lambda path: path.write_bytes(b"")),
    "lfs-pointer": (
        "a.nii.gz",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    ),
    "text": ("a.nii", lambda path: path.write_text("hello " * 200)),
    "garbage": ("a.nii", lambda path: path.write_bytes(bytes(range(256)) * 4)),
    "truncated-gz": ("a.nii.gz", truncated_gz),
    "truncated": ("a.nii", truncated),
    "unknown-type": ("a.nii", with_edit(70, "<h", 9999)),
    "negative-shape": ("a.nii", with_edit(42, "<h", -5)),
    "absurd-shape": ("a.nii", with_edit(42, "<hhh", 32000, 32000, 32000)),
    "bad-dimensions": ("a.nii", with_edit(40, "<h", 9)),
    "4d": ("a.nii", lambda path: save(path, ramp(shape=(3, 3, 3, 2)))),
    "5d": ("a.nii", lambda path: save(path, ramp(shape=(3, 3, 3, 1, 3)))),
    "1d": ("a.nii", lambda path: save(path, ramp(shape=(5,)))),
    "zero-size": ("a.nii", lambda path: save(path, np.zeros((0, 3, 3), np.uint8))),
    "rgb": (
        "a.nii",
        lambda path: save(path, np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
    ),
    "complex": ("a.nii", lambda path: save(path, ramp(np.complex64))),
    "nan": ("a.nii", lambda path: save(path, np.full(SHAPE, np.nan, np.float32))),
    "inf": ("a.nii", lambda path: save(path, np.full(SHAPE, -np.inf))),
    "affine-nan": (
        "a.nii",
        lambda path: save(path, ramp(), sform=(affine_of(np.diag([1, 1, np.nan])), 1)),
    ),
    "affine-singular": (
        "a.nii",
        lambda path: save(path, ramp(), sform=(affine_of(np.diag([1.0, 1, 0])), 1)),
    ),
    "other-format": (
        "a.img",
        lambda path: nib.save(nib.AnalyzeImage(ramp(), np.eye(4)), path),
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("load", [load_volume, load_labels])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_files_are_refused(tmp_path, case, load):
    name, make = BAD_FILES[case]
    make(tmp_path / name)
    with pytest.raises(SslsegError) as caught:
        load(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message
    assert message.endswith(".")
    assert "\n" not in message
    assert message.count(". ") == 0


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights of their own there")
@pytest.mark.parametrize("load", [load_volume, load_volumes, load_labels])
def test_a_broken_link_is_named(tmp_path, load):
    """Some data sets link to large files that are downloaded separately."""
    save(tmp_path / "a.nii.gz", ramp())
    link = tmp_path / "b.nii.gz"
    link.symlink_to("store/b of them.nii.gz")
    folder = tmp_path if load is load_volumes else None
    source = folder or link
    if load is load_volume:
        (source,) = (item for item in list_series(tmp_path) if item.path == link)
    with pytest.raises(VolumeError) as caught:
        load(source)
    assert str(link) in str(caught.value)
    assert "store/b of them.nii.gz" in str(caught.value)


def test_an_empty_file_in_a_folder_is_named(tmp_path):
    save(tmp_path / "a.nii.gz", ramp())
    (tmp_path / "b.nii.gz").write_bytes(b"")
    with pytest.raises(VolumeError, match=r"b\.nii\.gz is empty"):
        load_volumes(tmp_path)


def test_bad_folders(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            load_volumes(path)


def test_data_must_fit_the_geometry():
    with pytest.raises(GeometryError, match="case_7"):
        Volume(np.zeros(SHAPE), Geometry(np.eye(4), SHAPE), name="case_7")


# --- labels


def test_whole_floats_are_labels(tmp_path):
    labels = load_labels(save(tmp_path / "a.nii", (ramp() % 4).astype(np.float64)))
    assert labels.data.dtype == np.uint8
    assert labels.data.max() == 3


@pytest.mark.parametrize("value", [0.5, -1.0, -1, 2.0**40])
def test_values_that_are_not_labels(tmp_path, value):
    path = save(tmp_path / "a.nii", np.full(SHAPE, value, np.float32))
    with pytest.raises(VolumeError, match="labels"):
        load_labels(path)
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    with pytest.raises(VolumeError, match=r"out\.nii"):
        save_labels(np.full(scan.data.shape, value), tmp_path / "out.nii", like=scan)
    assert not (tmp_path / "out.nii").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, value):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    with pytest.raises(VolumeError, match=r"out\.nii"):
        save_labels(np.full(scan.data.shape, value), tmp_path / "out.nii", like=scan)


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(1, np.uint8), (255, np.uint8), (256, np.int16), (32767, np.int16), (32768, np.int32)],
)
@pytest.mark.parametrize("given", [np.int64, np.uint32, np.float64])
def test_written_type_holds_the_highest_label(tmp_path, highest, dtype, given):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    labels = np.zeros(scan.data.shape, given)
    labels[0, 0, 0] = highest
    written = save_labels(labels, tmp_path / "out.nii", like=scan)
    assert nib.load(written).get_data_dtype() == dtype
    assert load_labels(written, like=scan).data[0, 0, 0] == highest


def test_booleans_are_labels(tmp_path):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    written = save_labels(scan.data > 50, tmp_path / "out.nii", like=scan)
    np.testing.assert_array_equal(load_labels(written).data, scan.data > 50)


def test_labels_on_another_grid(tmp_path):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    for name, affine, shape in (
        ("moved", affine_of(np.diag([2.0, 3, 4]), (11, -20, 30)), SHAPE),
        ("shape", affine_of(np.diag([2.0, 3, 4]), (12, -20, 30)), (5, 6, 8)),
        ("mirrored", affine_of(np.diag([-2.0, 3, 4]), (10, -20, 30)), SHAPE),
    ):
        path = save(tmp_path / f"{name}.nii", np.zeros(shape, np.uint8), affine)
        for like in (scan, scan.geometry):
            with pytest.raises(GeometryError, match=name):
                load_labels(path, like=like)


def test_labels_in_another_axis_order_of_the_same_grid(tmp_path):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    turned = nib.load(tmp_path / "scan.nii").as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, tmp_path / "labels.nii")
    np.testing.assert_array_equal(load_labels(tmp_path / "labels.nii", like=scan).data, scan.data)


def test_saving_needs_a_scan_a_shape_and_a_suffix(tmp_path):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    labels = scan.data % 2
    with pytest.raises(GeometryError, match="like="):
        save_labels(labels, tmp_path / "out.nii")
    for wrong in (labels[1:], labels[None], labels[..., None], labels[0]):
        with pytest.raises(GeometryError):
            save_labels(wrong, tmp_path / "out.nii", like=scan)
    with pytest.raises(VolumeError, match=r"out\.png"):
        save_labels(labels, tmp_path / "out.png", like=scan)
    assert os.listdir(tmp_path) == ["scan.nii"]


def test_a_prediction_knows_its_scan(tmp_path):
    class Prediction:
        volume = load_volume(save(tmp_path / "scan.nii", ramp(), SHEARED))
        labels = volume.data % 3

    written = save_labels(Prediction(), tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(
        load_labels(written, like=Prediction.volume).data, Prediction.labels
    )


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_unwritable_target(tmp_path, suffix):
    scan = load_volume(save(tmp_path / "scan.nii", ramp()))
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match=f"labels{re.escape(suffix)}"):
        save_labels(scan.data % 2, tmp_path / "file" / f"labels{suffix}", like=scan)
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the file size as Linux does")
@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_full_disk_keeps_the_old_labels(tmp_path, suffix):
    shape = (40, 40, 40)
    noise = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    scan = load_volume(save(tmp_path / "scan.nii", noise))
    target = save_labels(np.zeros(scan.data.shape, np.uint8), tmp_path / f"a{suffix}", like=scan)
    before = target.read_bytes()
    code = (
        "import resource, sys\n"
        "from napari_sslseg.core.common.errors import StorageError\n"
        "from napari_sslseg.core.scans.labels import save_labels\n"
        "from napari_sslseg.core.scans.volume import load_volume\n"
        "scan = load_volume(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    save_labels(scan.data, sys.argv[2], like=scan)\n"
        "except StorageError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "scan.nii"), str(target)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(target) in done.stdout
    assert target.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == sorted(["scan.nii", target.name])


# --- guesses


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("SC-HYP-01_ED", "SC-HYP-01"),
        ("SC-HYP-01_ES", "SC-HYP-01"),
        ("hippocampus_190", "hippocampus_190"),
        ("sub-01_ses-2_T1w", "sub-01"),
        ("sub-01", "sub-01"),
        ("liver_001_0000", "liver_001"),
        ("liver_001_0001", "liver_001"),
        ("case_0001", "case_0001"),
        ("phantom_mr_003", "phantom_mr_003"),
        ("ED", "ED"),
        ("patient-7_T2w", "patient-7"),
    ],
)
def test_guess_subject(name, subject):
    assert guess_subject(name) == subject


def test_guess_modality_of_values():
    air = np.full((10, 10, 10), -1000.0)
    assert guess_modality(air) == "CT"
    assert guess_modality(np.zeros((10, 10, 10), np.uint8)) == "MR"
    assert guess_modality(np.linspace(-50, 800, 1000)) == "MR"
    assert guess_modality(np.linspace(-3e38, 3e38, 1000)) == "MR"
    # Phase of MR, and values that no tissue has; a CT has one value outside of its field of view.
    assert guess_modality(np.linspace(-4096, 4094, 1000)) == "MR"
    assert guess_modality(np.linspace(-2000, -1500, 1000)) == "MR"
    assert guess_modality(np.append(np.full(400, -3024.0), np.linspace(-1024, 1500, 600))) == "CT"


REAL = {
    "totalsegmentator_ct_mr/tests/reference_files/example_ct.nii.gz": "CT",
    "totalsegmentator_ct_mr/tests/reference_files/example_ct_sm.nii.gz": "CT",
    "totalsegmentator_ct_mr/tests/reference_files/aorta_report/test_result/models/"
    "ct_cropped.nii.gz": "CT",
    "totalsegmentator_ct_mr/tests/reference_files/pulmonary_report/models/ct_cropped.nii.gz": "CT",
    "totalsegmentator_ct_mr/tests/reference_files/example_mr_sm.nii.gz": "MR",
    "tptbox_vertebra/TPTBox/tests/sample_ct/sub-ct_label-22_ct.nii.gz": "CT",
    "tptbox_vertebra/TPTBox/tests/sample_mri/sub-mri_label-6_T2w.nii.gz": "MR",
    "nifti_nrrd_mha/innereye/Tests/ML/test_data/patch_sampling/scan_small.nii.gz": "CT",
    "nifti_nrrd_mha/sct_testing_mr/t1/t1w.nii.gz": "MR",
    "nifti_nrrd_mha/sct_testing_mr/t2/t2.nii.gz": "MR",
    "nifti_nrrd_mha/sct_testing_mr/t2s/t2s.nii.gz": "MR",
}


@pytest.mark.parametrize("path", REAL)
def test_guess_modality_of_real_scans(data_dir, path):
    assert load_volume(data_dir / path).modality == REAL[path]


@pytest.mark.parametrize("folder", ["msd_hippocampus", "sunnybrook_lv"])
def test_guess_modality_of_real_mr_folders(data_dir, folder):
    scans = [load_volume(p) for p in sorted((data_dir / folder / "images").glob("*.nii.gz"))[::20]]
    assert scans
    assert {scan.modality for scan in scans} == {"MR"}


# --- every real file


def real_files(data_dir):
    """All files, but a few of each set of patients, whose files are similar."""
    by_folder = defaultdict(list)
    for path in data_files(data_dir, "*.nii*"):
        if path.is_file():
            by_folder[path.parent].append(path)
    sets = ("images", "labels", "imagesTr", "labelsTr", "models")
    few = [paths[:4] if folder.name in sets else paths for folder, paths in by_folder.items()]
    return [path for paths in few for path in paths]


def test_real_files_agree_with_nibabel(data_dir):
    rng = np.random.default_rng(0)
    loaded, refused = 0, []
    for path in real_files(data_dir):
        try:
            scan = load_volume(path)
        except SslsegError:
            refused.append(path.name)
            continue
        loaded += 1
        corners = np.array(scan.data.shape) - 1
        brightest = np.array(np.unravel_index(np.argmax(scan.data), scan.data.shape))
        for index in (0 * corners, corners, rng.integers(0, corners + 1), brightest):
            assert_value_in_place(scan, path, index)
    assert loaded > 100
    assert {"git_lfs_pointer_liver_0.nii.gz", "not-nifti.nii", "dmri.nii.gz"} <= set(refused)
    assert "mtr.nii.gz" in refused  # holds infinite values


@pytest.mark.parametrize(
    "path",
    [
        "tptbox_vertebra/TPTBox/tests/sample_mri/sub-mri_seg-vert_label-6_msk.nii.gz",
        "nifti_nrrd_mha/sct_testing_mr/mt/mt1_seg.nii.gz",
        "nifti_nrrd_mha/sct_testing_mr/t2/t2_seg-manual_labeled.nii.gz",
        "nifti_nrrd_mha/sct_testing_mr/t2s/t2s_seg-deepseg.nii.gz",
        "totalsegmentator_ct_mr/tests/reference_files/example_seg.nii.gz",
    ],
)
def test_real_labels_survive_saving(data_dir, tmp_path, path):
    labels = load_labels(data_dir / path)
    source = nib.load(data_dir / path)
    written = nib.load(save_labels(labels.data, tmp_path / "out.nii.gz", like=labels))
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj))
    np.testing.assert_array_equal(written.affine, source.affine)
    assert codes(written.header) == codes(source.header)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 5, 1), (1, 6, 5)])
def test_labels_have_the_axes_of_the_file(tmp_path, shape):
    data = np.random.default_rng(0).integers(0, 9, shape).astype(np.uint8)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 3, 1])), tmp_path / "scan.nii.gz")
    scan = load_volume(tmp_path / "scan.nii.gz")
    save_labels(scan.data, tmp_path / "labels.nii.gz", like=scan)
    labels = nib.load(tmp_path / "labels.nii.gz")
    assert labels.shape == shape
    np.testing.assert_array_equal(np.asarray(labels.dataobj), data)
