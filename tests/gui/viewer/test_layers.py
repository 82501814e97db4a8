"""Volumes as layer data: position, contrast, settings."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.volume import Volume, load_volume
from napari_sslseg.gui.viewer.layers import contrast_limits, labels_layer, position, volume_layer


def rotated(degrees, axis, spacing=(1.0, 2.0, 3.0), origin=(10.0, -20.0, 30.0)):
    angle = np.deg2rad(degrees)
    one, other = [i for i in range(3) if i != axis]
    turn = np.eye(3)
    turn[one, one] = turn[other, other] = np.cos(angle)
    turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
    return nib.affines.from_matvec(turn @ np.diag(spacing), origin)


def test_a_layer_is_positioned_at_the_first_voxel_of_the_display_grid():
    geometry = Geometry(
        nib.affines.from_matvec(np.diag([2.0, 3.0, 4.0]), (-50, 60, -70)), (10,) * 3
    )
    # The display grid begins at the rightmost, most anterior and most superior voxel.
    right, anterior, superior = -50 + 9 * 2, 60 + 9 * 3, -70 + 9 * 4
    np.testing.assert_allclose(position(geometry), (-superior, -anterior, -right))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA"])
def test_the_position_of_a_point_does_not_depend_on_the_axis_order(codes):
    base = nib.Nifti1Image(np.zeros((8, 10, 12), np.uint8), rotated(0, 0))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(base.affine), nib.orientations.axcodes2ornt(codes)
    )
    image = base.as_reoriented(turn)
    geometry = Geometry(image.affine, image.shape)
    assert geometry.orientation == codes
    np.testing.assert_allclose(position(geometry), position(Geometry(base.affine, base.shape)))


def test_a_cropped_oblique_scan_overlays_the_original():
    affine = rotated(20, axis=2)
    whole = Geometry(affine, (40, 50, 60))
    start = np.array([5, 6, 7])
    cut = nib.affines.from_matvec(affine[:3, :3], nib.affines.apply_affine(affine, start))
    part = Geometry(cut, (30, 30, 30))
    # Size in mm of the part that was cropped at the start of each display axis.
    off = (np.array([40, 50, 60]) - start - 30)[::-1] * whole.spacing
    np.testing.assert_allclose(np.subtract(position(part), position(whole)), off)


@pytest.mark.parametrize(("degrees", "axis"), [(0, 0), (7.5, 0), (20, 1), (44, 2)])
def test_obliquity_is_the_angle_of_rotation(degrees, axis):
    assert Geometry(rotated(degrees, axis), (5, 5, 5)).obliquity == pytest.approx(degrees, abs=1e-4)


def test_mr_contrast_ignores_padding():
    scan, _ = make_patient(0, "MR")
    padded = np.zeros(tuple(2 * n for n in scan.data.shape), scan.data.dtype)
    padded[tuple(slice(0, n) for n in scan.data.shape)] = scan.data
    assert contrast_limits(padded, "MR")[1] == pytest.approx(
        contrast_limits(scan.data, "MR")[1], rel=0.1
    )
    assert contrast_limits(padded, "MR")[0] == 0
    low, high = contrast_limits(np.zeros((4, 4, 4), np.float32), "MR")
    assert low < high


def with_fat(brightness, part):
    """A disc of three tissues in air, of which a part is fat of this brightness."""
    random = np.random.default_rng(0)
    tissue = random.choice([80.0, 120.0, 160.0], (8, 60, 60))
    tissue[random.random(tissue.shape) < part] = brightness
    rows, columns = np.indices((60, 60)) - 29.5
    inside = np.hypot(rows, columns) < 28
    return np.where(inside, tissue, 2) + random.normal(0, 3, tissue.shape), inside


def shown_grey(data):
    low, high = contrast_limits(data, "MR")
    return np.clip((data - low) / (high - low), 0, 1)


def test_bright_fat_leaves_the_organs_visible():
    data, inside = with_fat(600.0, 0.06)
    grey = shown_grey(data)[:, inside]
    assert np.median(grey) > 0.3
    assert np.mean(grey >= 1) < 0.11
    # Fat that is most of the body is not made white, and even tissue keeps the full range.
    for brightness, part in ((600.0, 0.5), (160.0, 0.3)):
        data, inside = with_fat(brightness, part)
        assert np.mean(shown_grey(data)[:, inside] >= 1) < 0.11
    assert contrast_limits(data, "MR")[1] == pytest.approx(np.percentile(data, 99.5))


@pytest.mark.parametrize(
    ("folder", "least"),
    [("sunnybrook_lv", 0.26), ("left_atrium_mr", 0.34), ("msd_hippocampus", 0.5)],
)
def test_real_bodies_are_not_dark(data_dir, folder, least):
    for path in sorted((data_dir / folder / "images").glob("*.nii.gz"))[::30]:
        data = load_volume(path, modality="MR").data.astype(np.float32)
        grey = shown_grey(data)
        body = data > np.percentile(data[data != 0], 99.5) * 0.1
        assert np.median(grey[body]) > least, path.name
        assert np.mean(grey[body] > 0.999) < 0.12, path.name


def test_the_contrast_of_a_real_scan_shows_its_tissue(data_dir):
    path = data_dir / "totalsegmentator_ct_mr/tests/reference_files/example_mr_sm.nii.gz"
    scan = load_volume(path)
    low, high = contrast_limits(scan.data, scan.modality)
    grey = np.clip((scan.data - low) / (high - low), 0, 1)
    assert np.mean(grey > 0.98) < 0.05  # Some of the fat.
    assert np.mean((grey > 0.1) & (grey < 0.9)) > 0.3


def test_labels_stored_as_floats_become_integers():
    data = np.zeros((3, 4, 5), np.float32)
    data[1, 1, 1] = 300
    values, settings, kind = labels_layer(Volume(data, Geometry(np.eye(4), (5, 4, 3)), name="a"))
    assert kind == "labels"
    assert values.dtype == np.uint16
    assert values[1, 1, 1] == 300
    assert settings["name"] == "a labels"


def test_metadata_names_the_files():
    scan, _ = make_patient(0, "CT")
    settings = volume_layer(scan)[1]
    assert settings["metadata"]["files"] == ()
    assert settings["contrast_limits"] == (-160, 240)
    assert settings["metadata"]["geometry"] is scan.geometry
