"""Positions that a header rounds are those of a regular stack, which is not resampled."""

import numpy as np
import pytest

from dicom_files import AXIAL, CORONAL, ramp, write_series
from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.labels import load_labels, save_labels
from napari_sslseg.core.scans.volume import load_volume

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def write_rounded(
    folder, distance, unit, *, orientation=AXIAL, slices=40, lost=(), edit=None, origin=(-20, -15)
):
    """Write slices whose positions are rounded to multiples of a unit in mm."""
    normal = np.cross(orientation[:3], orientation[3:])
    exact = [np.array([*origin, 30.0]) + distance * index * normal for index in range(slices)]
    places = [np.round(place / unit) * unit for place in exact]
    kept = [index for index in range(slices) if index not in set(lost)]
    values = ramp(slices=slices, rows=4, columns=5)
    write_series(
        folder,
        values[kept],
        places=[places[index] for index in kept],
        orientation=orientation,
        distance=distance,
        edit=edit,
        spacing=(0.5, 0.5),
    )
    return values, exact


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE], ids=["ax", "cor", "oblique"])
@pytest.mark.parametrize(
    ("distance", "unit"),
    [(0.625, 0.1), (1.25, 0.1), (0.75, 0.1), (0.33, 0.1), (0.55, 0.1), (0.075, 0.01), (2.5, 1.0)],
)
def test_rounded_positions_are_regular(tmp_path, distance, unit, orientation):
    values, exact = write_rounded(tmp_path, distance, unit, orientation=orientation)
    volume = load_volume(tmp_path)
    assert volume.data.dtype == np.int16
    source = volume.geometry.to_source(volume.data).transpose(2, 1, 0)
    np.testing.assert_array_equal(source, values - 1024)
    affine = volume.geometry.affine
    found = [affine @ [0, 0, index, 1] * (-1, -1, 1, 1) for index in range(len(values))]
    assert np.abs(np.array(found)[:, :3] - exact).max() <= unit * 1.01
    assert (unit == 1.0 and orientation == AXIAL) <= bool(volume.notes)


def test_the_distance_is_fitted_where_the_header_states_none(tmp_path):
    def edit(ds, index):
        ds.SliceThickness = "5"

    write_rounded(tmp_path, 0.625, 0.1, slices=60, edit=edit)
    volume = load_volume(tmp_path)
    assert volume.notes == ()
    assert volume.geometry.spacing[0] == pytest.approx(0.625, abs=0.002)


@pytest.mark.parametrize(("distance", "unit"), [(0.625, 0.1), (1.25, 0.1), (0.3, 0.1), (2.5, 1.0)])
@pytest.mark.parametrize("lost", [10, 19])
def test_a_lost_slice_does_not_look_like_rounding(tmp_path, distance, unit, lost):
    write_rounded(tmp_path, distance, unit, lost=[lost])
    with pytest.raises(VolumeError, match="lacks slices"):
        load_volume(tmp_path)


@pytest.mark.parametrize(
    "steps",
    [
        [0, 2, 4.4, 6.6, 8.4, 10.4, 12.0],
        [0, 4, 9, 13, 18, 22, 27],
        [0, 2, 4, 6, 9, 11, 13, 15],
        [0, 1.2, 2.4, 3.6, 5.0, 6.2, 7.4],
    ],
    ids=["any", "alternating", "one wide gap", "one wider gap"],
)
def test_uneven_slices_are_no_rounding(tmp_path, steps):
    places = [np.array([0.0, 0.0, step]) for step in steps]
    write_series(tmp_path, ramp(slices=len(steps)), places=places, distance=2.0)
    [item] = list_series(tmp_path)
    assert "resampled" in item.notes[0]


@pytest.mark.parametrize("distance", [0.625, 1.25, 0.33])
def test_labels_on_every_slice_reach_a_dicom_seg(tmp_path, distance):
    pytest.importorskip("highdicom")
    write_rounded(tmp_path / "scan", distance, 0.1)
    volume = load_volume(tmp_path / "scan")
    labels = np.zeros(volume.data.shape, np.uint8)
    labels[:, 1:3, 1:3] = 1 + np.arange(len(labels))[:, None, None] % 2
    save_labels(labels, tmp_path / "labels.dcm", like=volume)
    again = load_labels(tmp_path / "labels.dcm", like=volume)
    np.testing.assert_array_equal(again.data, labels)


def test_the_real_rounded_series_are_not_resampled(data_dir):
    for name, slices, distance in (("round01", 60, 0.625), ("round01_1mm", 40, 1.25)):
        volume = load_volume(data_dir / "format_faults" / name)
        assert volume.notes == ()
        assert volume.data.dtype == np.int16
        assert volume.data.shape[0] == slices
        assert volume.geometry.spacing[0] == pytest.approx(distance)


def test_a_real_tilted_and_uneven_series_stays_resampled(data_dir):
    with pytest.warns(match="tilted by 15.0 degrees"):
        volume = load_volume(data_dir / "format_faults/tiltuneven")
    assert volume.data.dtype == np.float32
    assert "resampled" in volume.notes[0]
