"""NIfTI in all variants, and invalid headers."""

import bz2
import gzip
import shutil
import struct
import subprocess
import sys
import warnings
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from affines import affine_of, world
from napari_sslseg.core.common.errors import ScanWarning, VolumeError
from napari_sslseg.core.scans.formats.nifti import NiftiFile, write_nifti
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume

SHAPE = (5, 6, 7)
# Rotated, sheared and flipped, in numbers that float32 represents exactly.
AFFINE = affine_of([[0, -3.25, 0.5], [-2.5, 0, 0], [0.25, 0, 4]], (10, -20, 30))


def ramp(dtype=np.int16, shape=SHAPE):
    return np.arange(np.prod(shape)).reshape(shape, order="F").astype(dtype)


def save(path, data=None, **fields):
    """Save an image, then set fields of the header (``dim__3`` is ``dim[3]``) without nibabel."""
    nib.save(nib.Nifti1Image(ramp() if data is None else data, AFFINE), path)
    raw = bytearray(path.read_bytes())
    for field, value in fields.items():
        name, _, place = field.partition("__")
        dtype, offset = nib.Nifti1Header.template_dtype.fields[name][:2]
        base = dtype.base
        at = offset + (int(place) * base.itemsize if place else 0)
        raw[at : at + base.itemsize] = np.array(value, base.newbyteorder("<")).tobytes()
    path.write_bytes(raw)
    return path


def refusal(path):
    with pytest.raises(VolumeError) as caught:
        NiftiFile(path).values()
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert message.count(". ") == 0
    assert "\n" not in message
    return message


# --- versions, byte orders and pairs


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_versions_and_byte_orders(tmp_path, kind, order, suffix):
    image = kind(ramp(order + "i2"), AFFINE, kind.header_class(endianness=order))
    image.header.set_data_dtype(order + "i2")
    path = tmp_path / f"scan{suffix}"
    nib.save(image, path)
    file = NiftiFile(path)
    values = file.values()
    assert values.dtype == np.int16
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, ramp())
    np.testing.assert_array_equal(file.geometry.affine, nib.load(path).affine)
    assert isinstance(file.header, kind.header_class)


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize(
    ("header", "image"),
    [
        ("a.hdr", "a.img"),
        ("a.hdr", "a.img.gz"),
        ("a.hdr.gz", "a.img"),
        ("a.hdr.gz", "a.img.gz"),
        ("a.HDR", "a.IMG"),
    ],
)
def test_pairs(tmp_path, kind, header, image):
    nib.save(kind(ramp(), AFFINE), tmp_path / "plain.hdr")
    for name in (header, image):
        data = (tmp_path / f"plain{name[1:5].lower()}").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for name in (header, image):
        scan = load_volume(tmp_path / name)
        assert scan.name == "a"
        np.testing.assert_array_equal(scan.geometry.to_source(scan.data), ramp())
        np.testing.assert_array_equal(scan.geometry.affine, nib.load(tmp_path / "plain.hdr").affine)
    labels = save_labels(scan.data % 3, tmp_path / "labels.nii.gz", like=scan)
    np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 3)


@pytest.mark.parametrize("missing", [".hdr", ".img"])
def test_half_of_a_pair(tmp_path, missing):
    nib.save(nib.Nifti1Pair(ramp(), AFFINE), tmp_path / "a.hdr")
    (tmp_path / f"a{missing}").unlink()
    other = {".hdr": ".img", ".img": ".hdr"}[missing]
    assert f"a{missing} is missing" in refusal(tmp_path / f"a{other}")


def test_a_header_of_a_pair_under_another_name(tmp_path):
    nib.save(nib.Nifti1Pair(ramp(), AFFINE), tmp_path / "a.hdr")
    shutil.copy(tmp_path / "a.hdr", tmp_path / "b.nii")
    assert "header of a pair" in refusal(tmp_path / "b.nii")


def test_content_takes_precedence_over_the_name(tmp_path):
    save(tmp_path / "a.nii")
    (tmp_path / "b.nii").write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    shutil.copy(tmp_path / "a.nii", tmp_path / "c.nii.gz")
    for name in ("b.nii", "c.nii.gz"):
        np.testing.assert_array_equal(NiftiFile(tmp_path / name).values(), ramp())


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        *((kind, kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4")),
        ("f8", "f4"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_types(tmp_path, dtype, expected, order):
    image = nib.Nifti1Image(
        ramp(order + dtype, (4, 5, 6)), AFFINE, nib.Nifti1Header(endianness=order)
    )
    image.header.set_data_dtype(order + dtype)
    nib.save(image, tmp_path / "a.nii.gz")
    values = NiftiFile(tmp_path / "a.nii.gz").values()
    assert values.dtype == np.dtype(expected)
    assert values.dtype.isnative
    np.testing.assert_array_equal(values, ramp(expected, (4, 5, 6)))


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1000.0), (-2.0, 0.0), (1.0, 12.5)])
def test_scaling(tmp_path, dtype, slope, intercept):
    path = save(tmp_path / "a.nii", ramp(dtype), scl_slope=slope, scl_inter=intercept)
    values = NiftiFile(path).values()
    assert values.dtype == np.float32
    exact = np.asarray(nib.load(path).dataobj, np.float64)
    np.testing.assert_array_equal(values, exact.astype(np.float32))


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, 7.0), (np.nan, np.nan), (1.0, 0.0)])
def test_no_scaling(tmp_path, slope, intercept):
    path = save(tmp_path / "a.nii", scl_slope=slope, scl_inter=intercept)
    values = NiftiFile(path).values()
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, ramp())


# --- several volumes


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_frames(tmp_path, suffix):
    data = ramp(shape=(*SHAPE, 4))
    path = save(tmp_path / "a.nii", data)
    if suffix == ".nii.gz":
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    file = NiftiFile(path)
    assert (file.frames, file.geometry.shape) == (4, SHAPE)
    for frame in (2, 0, 3, 1):
        np.testing.assert_array_equal(file.values(frame), data[..., frame])
    with pytest.raises(VolumeError, match="choose one"):
        load_volume(path)


def test_one_frame_of_many_needs_the_memory_of_one(tmp_path):
    big = nib.Nifti1Header()
    big.set_data_dtype(np.uint8)
    big.set_data_shape((256, 256, 64, 1000))  # 4 GB, stored as a sparse file
    path = tmp_path / "a.nii"
    with path.open("wb") as file:
        big.write_to(file)
        file.seek(352 + 700 * 256 * 256 * 64)
        file.write(b"\7" * 1000)
        file.truncate(352 + 1000 * 256 * 256 * 64)
    values = NiftiFile(path).values(700)
    assert values.shape == (256, 256, 64)
    assert values.sum() == 7000


def test_every_frame_verifies_the_checksum(tmp_path):
    raw = bytearray(gzip.compress(save(tmp_path / "a.nii", ramp(shape=(*SHAPE, 3))).read_bytes()))
    raw[-5] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(raw)
    with pytest.raises(VolumeError, match="incorrect data check"):
        NiftiFile(tmp_path / "a.nii.gz").values(0)


# --- compressed data


def test_a_flipped_bit_anywhere_in_compressed_data_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(0, 99, (12, 12, 12)).astype(np.uint8)
    good = gzip.compress(save(tmp_path / "a.nii", noise).read_bytes())
    path = tmp_path / "a.nii.gz"
    rng = np.random.default_rng(1)
    for place in rng.choice(np.arange(10, len(good)), 60, replace=False):
        raw = bytearray(good)
        raw[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(raw)
        with pytest.raises(VolumeError):
            NiftiFile(path).values()


@pytest.mark.parametrize("lost", [1, 4, 8, 9, 100, 1000])
def test_truncated_compressed_data(tmp_path, lost):
    noise = np.random.default_rng(0).integers(0, 99, (12, 12, 12)).astype(np.uint8)
    whole = gzip.compress(save(tmp_path / "a.nii", noise).read_bytes())
    (tmp_path / "a.nii.gz").write_bytes(whole[:-lost])
    assert "too early" in refusal(tmp_path / "a.nii.gz")


def test_several_gzip_members_and_padding(tmp_path):
    raw = save(tmp_path / "a.nii").read_bytes()
    members = b"".join(gzip.compress(raw[i : i + 100]) for i in range(0, len(raw), 100))
    for name, data in {"members": members, "zeros": members + bytes(512)}.items():
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(data)
        np.testing.assert_array_equal(NiftiFile(path).values(), ramp())


# --- invalid headers


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dim__1": -5}, "shape"),
        ({"dim__3": 0}, "shape"),
        ({"dim__0": 9}, "NIfTI"),
        ({"dim__1": 32000, "dim__2": 32000, "dim__3": 32000}, "too short"),
        ({"dim__3": 8}, "too short"),
        ({"dim__3": 6}, "holds more than"),
        ({"dim__2": 5}, "holds more than"),
        ({"datatype": 9999}, "9999"),
        ({"datatype": 0}, "NIfTI"),
        ({"vox_offset": np.nan}, "byte nan"),
        ({"vox_offset": 1e30}, "byte 1e+30"),
        ({"vox_offset": -400}, "NIfTI"),
        ({"vox_offset": 400}, "too short"),
        ({"scl_slope": np.inf}, "inf"),
        ({"scl_slope": np.nan, "scl_inter": 1}, "nan"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "nan"),
        ({"magic": b"xxx"}, "Analyze"),
        ({"magic": b"xxx", "sizeof_hdr": 17}, "no NIfTI header"),
    ],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_headers(tmp_path, fields, said, packed):
    path = save(tmp_path / "a.nii", **fields)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
        if said == "too short":  # or detected only after decompression
            said = "too "
    assert said in refusal(path)


def test_damaged_headers_print_nothing(tmp_path, capfd):
    refusal(save(tmp_path / "a.nii", dim__0=9, pixdim__1=-3.0))
    refusal(save(tmp_path / "b.nii", datatype=9999, qform_code=77))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize("packed", [False, True])
def test_a_false_header_allocates_no_memory(tmp_path, packed):
    """A small file whose header claims 1.9 GB, within the compression limit of gzip."""
    path = save(tmp_path / "a.nii", dim__1=1000, dim__2=1000, dim__3=950)
    if packed:
        noise = np.random.default_rng(0).bytes(2_000_000)
        path.write_bytes(gzip.compress(path.read_bytes()[:352] + noise, 1))
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from napari_sslseg.core.common.errors import VolumeError\n"
        "from napari_sslseg.core.scans.formats.nifti import NiftiFile\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    NiftiFile(Path(sys.argv[1])).values()\n"
        "except VolumeError as error:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 20_000  # KiB


@pytest.mark.parametrize("length", [1, 4, 347, 348, 351, 352, 500, 539, 540, 600])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_truncated_header(tmp_path, kind, length):
    nib.save(kind(ramp(), AFFINE), tmp_path / "a.nii")
    (tmp_path / "a.nii").write_bytes((tmp_path / "a.nii").read_bytes()[:length])
    refusal(tmp_path / "a.nii")


def test_less_than_a_slice_of_padding_is_accepted(tmp_path):
    path = save(tmp_path / "a.nii")
    raw = path.read_bytes()
    path.write_bytes(raw + bytes(59))
    np.testing.assert_array_equal(NiftiFile(path).values(), ramp())
    path.write_bytes(raw + bytes(60))
    assert "holds more" in refusal(path)


def test_text_files_are_named_as_text(tmp_path):
    for name in ("a.nii", "a.nii.gz"):
        path = tmp_path / name
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        assert "it is a text file" in refusal(path)


@pytest.mark.parametrize("compress", [bz2.compress, zlib.compress])
def test_other_compression_is_refused(tmp_path, compress):
    path = save(tmp_path / "a.nii")
    path.write_bytes(compress(path.read_bytes()))
    assert "no NIfTI header" in refusal(path)


# --- label images of scans that are not NIfTI


@pytest.mark.parametrize("sheared", [False, True])
def test_frame_without_a_nifti_header(tmp_path, sheared):
    rotation = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, -1]])
    steps = rotation @ np.diag([0.7, 0.7, 3.1])
    if sheared:
        steps[:, 2] += 0.1 * steps[:, 0]
    affine = affine_of(steps, (-100.1, 20.2, 30.3))
    write_nifti(ramp(np.uint8), Geometry(affine, SHAPE), None, tmp_path / "a.nii")
    image = nib.load(tmp_path / "a.nii")
    sform, code = image.get_sform(coded=True)
    assert code == 1
    np.testing.assert_array_equal(sform, affine.astype(np.float32))
    qform, code = image.get_qform(coded=True)
    if sheared:
        assert code == 0
    else:
        assert code == 1
        np.testing.assert_allclose(qform, affine, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(image.header.get_zooms(), np.linalg.norm(steps, axis=0), rtol=1e-6)


def test_an_unknown_unit_does_not_stop_writing(tmp_path):
    scan = load_volume(save(tmp_path / "a.nii", xyzt_units=0x7F))
    labels = save_labels(scan.data % 2, tmp_path / "labels.nii", like=scan)
    raw = labels.read_bytes()
    assert struct.unpack_from("B", raw, 123) == (0x7F,)


# --- orientation and units

# Rotated without shear, which SimpleITK refuses, in numbers that float32 represents exactly.
UPRIGHT = affine_of([[0, -3.25, 0], [-2.5, 0, 0], [0, 0, 4]], (10, -20, 30))
FRAME = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x")
FRAME += ("qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units")


def assert_same_frame(one, other):
    for name in FRAME:
        assert one[name].tobytes() == other[name].tobytes()
    assert one["pixdim"][:4].tobytes() == other["pixdim"][:4].tobytes()


def itk_place(path, index):
    """Return the position of a voxel in SimpleITK, in LPS mm."""
    image = SimpleITK.ReadImage(str(path))
    return image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index])


def without_orientation(path, kind=nib.Nifti1Image, shape=SHAPE):
    image = kind(ramp(shape=shape), None)
    image.header["pixdim"][1:4] = 2.5, 0.75, 3
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_without_orientation(tmp_path, kind, suffix):
    """NIfTI labels match the scan in programs that agree with nibabel and in others."""
    path = without_orientation(tmp_path / ("a.hdr" if kind is nib.Nifti1Pair else "a.nii"), kind)
    with pytest.warns(ScanWarning, match="left and right") as caught:
        scan = load_volume(path, modality="MR")
    assert len(caught) == 1
    assert "no orientation" in scan.notes[0]
    assert scan.geometry.orientation == "LAS"
    np.testing.assert_array_equal(scan.geometry.affine, nib.load(path).affine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = save_labels(scan.data % 3, tmp_path / f"labels{suffix}", like=scan)
    written = nib.load(labels)
    assert_same_frame(written.header, nib.load(path).header)
    np.testing.assert_array_equal(written.affine, scan.geometry.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), ramp() % 3)
    if kind is not nib.Nifti2Image:  # which SimpleITK does not read
        for index in ((0, 0, 0), (4, 5, 6)):
            assert itk_place(labels, index) == itk_place(path, index)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_labels_with_an_ambiguous_position_cause_a_warning(tmp_path, suffix):
    path = without_orientation(tmp_path / "a.nii")
    with pytest.warns(ScanWarning):
        scan = load_volume(path, modality="MR")
    with pytest.warns(ScanWarning, match="no orientation") as caught:
        labels = save_labels(scan.data % 3, tmp_path / f"labels{suffix}", like=scan)
    assert caught[0].filename == __file__
    assert itk_place(labels, (0, 0, 0)) != itk_place(path, (0, 0, 0))  # so the warning is correct
    np.testing.assert_array_equal(load_labels(labels, like=scan).data, scan.data % 3)


@pytest.mark.parametrize("code", ["qform_code", "sform_code"])
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_one_of_qform_and_sform_is_enough(tmp_path, code, suffix):
    image = nib.Nifti1Image(ramp(), UPRIGHT)
    image.set_qform(UPRIGHT, int(code == "qform_code"))
    image.set_sform(UPRIGHT, int(code == "sform_code"))
    nib.save(image, tmp_path / "a.nii")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = load_volume(tmp_path / "a.nii", modality="MR")
        labels = save_labels(scan.data % 3, tmp_path / f"labels{suffix}", like=scan)
    assert scan.notes == ()
    for index in ((0, 0, 0), (4, 5, 6)):
        np.testing.assert_allclose(
            itk_place(labels, index), itk_place(tmp_path / "a.nii", index), atol=1e-5
        )


UNITS = {"meter": 1000, "mm": 1, "micron": 1e-3, "unknown": 1}


def in_unit(path, unit, kind=nib.Nifti1Image, affine=UPRIGHT, shape=SHAPE):
    image = kind(ramp(shape=shape), affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, path)
    return path


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.filterwarnings("ignore::napari_sslseg.core.common.errors.ScanWarning")
def test_units(tmp_path, unit, kind):
    """Positions in mm agree with SimpleITK; labels keep unit and matrices of the scan."""
    path = in_unit(tmp_path / "a.nii", unit, kind)
    scan = load_volume(path, modality="MR")
    mm = UNITS[unit]
    expected = np.diag([mm, mm, mm, 1]) @ UPRIGHT
    np.testing.assert_allclose(scan.geometry.affine, expected, rtol=1e-15)
    assert scan.spacing == pytest.approx(np.array([4, 2.5, 3.25]) * mm)
    assert [name in note for note in scan.notes for name in ("metres", "mm")] == (
        [True, True] if mm != 1 else []
    )
    for target in (".nii", ".nii.gz", ".nrrd", ".mha"):
        labels = save_labels(scan.data % 3, tmp_path / f"labels{target}", like=scan)
        again = load_labels(labels, like=scan)
        np.testing.assert_array_equal(again.data, scan.data % 3)
        np.testing.assert_allclose(again.geometry.affine, expected, rtol=1e-12, atol=1e-9)
        if kind is nib.Nifti1Image:  # SimpleITK does not read the other
            for index in ((0, 0, 0), (4, 5, 6)):
                place = np.array(itk_place(labels, index)) * (-1, -1, 1)
                np.testing.assert_allclose(place, world(expected, index), rtol=1e-6)
                np.testing.assert_allclose(itk_place(labels, index), itk_place(path, index), 1e-6)
        if "nii" in target:
            written = nib.load(labels)
            assert_same_frame(written.header, nib.load(path).header)
            assert written.header.get_xyzt_units() == (unit, "sec")
            np.testing.assert_array_equal(written.affine, UPRIGHT)


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_another_grid_keeps_the_unit_of_the_header(tmp_path, unit):
    header = nib.load(in_unit(tmp_path / "a.nii", unit)).header
    near = UPRIGHT.copy()
    near[0, 3] += 0.05
    near[:3] *= UNITS[unit]
    write_nifti(ramp(np.uint8), Geometry(near, SHAPE), header, tmp_path / "b.nii")
    assert nib.load(tmp_path / "b.nii").header.get_xyzt_units()[0] == unit
    affine = NiftiFile(tmp_path / "b.nii").geometry.affine
    np.testing.assert_allclose(affine, near, rtol=1e-6)


def with_forms(path, qform, sform, codes=(1, 2), pixdim=None):
    image = nib.Nifti1Image(ramp(), None)
    image.set_qform(qform, codes[0])
    image.set_sform(sform, codes[1])
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    path.write_bytes(image.to_bytes())
    return path


MIRRORED = np.array([[-1.5, 0, 0, 7], [0, 2, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1.0]])
PLACED = np.array([[1.5, 0, 0, -10], [0, 2, 0, 20], [0, 0, 3, 5], [0, 0, 0, 1.0]])


def test_a_header_that_places_the_voxels_twice_is_noted(tmp_path):
    with pytest.warns(ScanWarning, match=r"sform .*qform .*RAS and LAS"):
        scan = load_volume(with_forms(tmp_path / "a.nii", MIRRORED, PLACED), modality="MR")
    np.testing.assert_allclose(scan.geometry.affine, PLACED)
    # SimpleITK prefers the qform of the scanner.
    assert itk_place(tmp_path / "a.nii", (0, 0, 0))[:2] == pytest.approx((-7, -8))


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1)])
def test_one_place_is_not_noted(tmp_path, codes):
    near = PLACED.copy()
    near[:3, 3] += 0.05
    path = with_forms(tmp_path / "a.nii", near, PLACED, codes, pixdim=(1.5, 2, 3))
    assert load_volume(path, modality="MR").notes == ()


def test_a_real_header_that_places_the_voxels_twice(data_dir):
    with pytest.warns(ScanWarning, match="qform"):
        load_volume(data_dir / "format_faults/files/disagree_sc2qc1.nii", modality="MR")


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_voxel_size_of_zero_is_noted(tmp_path, codes):
    path = with_forms(tmp_path / "a.nii", PLACED, PLACED, codes)
    data = bytearray(path.read_bytes())
    data[76 + 8 : 76 + 12] = bytes(4)
    path.write_bytes(data)
    with pytest.warns(ScanWarning, match="voxel size 0 along axis 2"):
        scan = load_volume(path, modality="MR")
    assert scan.spacing[1] == pytest.approx(2 if codes[1] else 1)


def test_sizes_that_differ_between_sform_and_pixdim_are_noted(tmp_path):
    path = with_forms(tmp_path / "a.nii", PLACED, PLACED, (0, 1), pixdim=(1, 1, 1))
    with pytest.warns(ScanWarning, match=r"1.5 × 2 × 3 mm .*1 × 1 × 1 mm"):
        load_volume(path, modality="MR")


def test_a_flat_image_needs_no_third_size(tmp_path):
    image = nib.Nifti1Image(ramp(shape=SHAPE)[:, :, 0], np.diag([1.5, 2, 1, 1]))
    image.header["pixdim"][3] = 0
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    assert load_volume(tmp_path / "a.nii", modality="MR").notes == ()


def test_colours_are_not_three_scans(tmp_path):
    path = tmp_path / "colours.nii"
    colours = np.zeros((*SHAPE, 3), np.uint8)
    assert "colour" in refusal(save(path, colours))
    assert "colour" in refusal(save(path, np.zeros((*SHAPE, 4), np.int16), intent_code=2004))
    whole = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "colour" in refusal(save(path, whole))
    # Other numbers of volumes, larger values, and scaled values are scans.
    for scans, fields in (
        (np.zeros((*SHAPE, 4), np.uint8), {}),
        (np.zeros((*SHAPE, 3), np.int16), {}),
        (colours, {"scl_slope": 2.0, "scl_inter": 0.0}),
    ):
        assert NiftiFile(save(path, scans, **fields)).frames == scans.shape[3]
