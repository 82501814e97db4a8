"""A series with lost or displaced slices is refused whole, never cut at its acquisitions."""

import numpy as np
import pytest
from pydicom import dcmread

from dicom_files import ramp, write_series
from napari_sslseg.core.common.errors import ScanWarning, VolumeError
from napari_sslseg.core.scans.find import list_series
from napari_sslseg.core.scans.volume import load_volumes


def write_acquired(folder, steps, acquisition, *, numbered=True, side=None):
    """Write slices at heights in mm; ``acquisition`` gives the number for each index."""
    places = [np.array([0.0, 0.0, step]) for step in steps]
    for index, millimetres in (side or {}).items():
        places[index][0] += millimetres

    def edit(ds, index):
        ds.AcquisitionNumber = acquisition(index)
        ds.InstanceNumber = index + 1
        if not numbered:
            # The number that the scanner gave: by height.
            ds.InstanceNumber = round(steps[index] / 3) + 1

    return write_series(folder, ramp(slices=len(steps)), places=places, edit=edit, distance=3.0)


def usable(path):
    return [item for item in list_series(path) if item.problem is None]


def without(count, *lost):
    return [3.0 * index for index in range(count) if index not in lost]


@pytest.mark.parametrize("renumbered", [False, True])
@pytest.mark.parametrize(
    ("steps", "block"),
    [
        (without(40, 19), 4),
        (without(40, 20), 4),
        (without(40, 19, 20), 4),
        (without(40, 18), 4),
        (without(24, 11), 2),
        (without(24, 12), 12),
        (without(24, 11, 12), 12),
    ],
    ids=["end", "start", "both", "middle", "pairs", "two halves", "two halves, two lost"],
)
def test_lost_slices_at_an_acquisition_are_refused_and_named(tmp_path, steps, block, renumbered):
    paths = write_acquired(
        tmp_path, steps, lambda i: round(steps[i] / 3) // block + 1, numbered=renumbered
    )
    [item] = list_series(tmp_path)
    assert "lacks slices" in item.problem
    gaps = np.diff(steps)
    beside = {steps[int(gaps.argmax())], steps[int(gaps.argmax()) + 1]}
    for path in paths:
        if float(dcmread(path).ImagePositionPatient[2]) in beside:
            assert path.name in item.problem


def test_a_lost_acquisition_is_refused(tmp_path):
    steps = without(40, *range(16, 24))
    write_acquired(tmp_path, steps, lambda i: round(steps[i] / 3) // 4 + 1, numbered=False)
    [item] = list_series(tmp_path)
    assert "lacks slices" in item.problem


@pytest.mark.parametrize("slices", [2, 4, 12])
def test_a_displaced_slice_is_refused_and_named(tmp_path, slices):
    steps = without(24)
    paths = write_acquired(tmp_path, steps, lambda i: i // slices + 1, side={11: 2.0})
    [item] = list_series(tmp_path)
    [name] = [path.name for path in paths if dcmread(path).ImagePositionPatient[0] == 2]
    assert f"not a straight stack: {name}" in item.problem


@pytest.mark.parametrize("slices", [2, 4, 12])
@pytest.mark.parametrize("offset", [-2.0, 2.0])
def test_a_slice_displaced_along_the_stack_is_refused_and_named(tmp_path, slices, offset):
    steps = without(24)
    steps[11] += offset
    paths = write_acquired(tmp_path, steps, lambda i: i // slices + 1)
    [item] = list_series(tmp_path)
    [name] = [path.name for path in paths if dcmread(path).ImagePositionPatient[2] == 33 + offset]
    assert f"unevenly spaced: {name} is" in item.problem


def test_a_displaced_first_slice_is_not_called_a_loss(tmp_path):
    steps = [1.5, *without(24)[1:]]
    write_acquired(tmp_path, steps, lambda i: i // 2 + 1)
    [item] = list_series(tmp_path)
    assert "only 1.5 mm apart, others are 3 mm apart" in item.problem


def test_two_slices_beside_each_other_are_no_tilted_gantry(tmp_path):
    write_acquired(tmp_path, without(2), lambda i: 1, side={1: 2.0})
    [item] = list_series(tmp_path)
    assert "more than a tilted gantry" in item.problem


def test_a_change_of_the_pixel_size_is_said(tmp_path):
    def edit(ds, index):
        if index >= 6:
            ds.PixelSpacing = ["0.9", "0.9"]

    write_series(tmp_path, ramp(slices=12), edit=edit)
    found = usable(tmp_path)
    assert [item.image.geometry.shape[2] for item in found] == [6, 6]
    assert all("pixel size" in item.notes[0] for item in found)


@pytest.mark.parametrize("parts", [2, 3, 4])
@pytest.mark.parametrize("lost", [5, 6])
def test_interleaved_acquisitions_that_lost_a_slice_are_refused(tmp_path, parts, lost):
    steps = without(16, lost)
    write_acquired(tmp_path, steps, lambda i: round(steps[i] / 3) % parts + 1)
    [item] = list_series(tmp_path)
    assert "lacks slices" in item.problem


@pytest.mark.parametrize("parts", [2, 4])
def test_interleaved_acquisitions_without_end_slices_are_one_volume(tmp_path, parts):
    steps = without(16, 0, 1, 15)
    write_acquired(tmp_path, steps, lambda i: i % parts + 1)
    [item] = usable(tmp_path)
    assert item.image.geometry.shape[2] == 13


def test_stacks_of_many_acquisitions_in_two_places_are_two_volumes(tmp_path):
    steps = [*without(8), *(300 + step for step in without(8))]
    write_acquired(tmp_path, steps, lambda i: i // 4 + 1)
    with pytest.warns(ScanWarning, match="2 stacks in different places"):
        volumes = load_volumes(tmp_path)
    assert [volume.data.shape[0] for volume in volumes] == [8, 8]


def test_stations_that_overlap_are_two_volumes(tmp_path):
    steps = [*without(8), *(19.5 + step for step in without(8))]
    write_acquired(tmp_path, steps, lambda i: i // 8 + 1)
    assert [item.image.geometry.shape[2] for item in usable(tmp_path)] == [8, 8]


def test_stations_that_share_a_position_are_two_volumes(tmp_path):
    steps = [*without(8), *(21 + step for step in without(8))]
    write_acquired(tmp_path, steps, lambda i: i // 8 + 1)
    assert [item.image.geometry.shape[2] for item in usable(tmp_path)] == [8, 8]


def test_two_images_at_one_position_do_not_cut_a_series(tmp_path):
    steps = sorted([*without(24), 33.0])
    write_acquired(tmp_path, steps, lambda i: i // 4 + 1)
    [item] = list_series(tmp_path)
    assert "same position" in item.problem


def test_the_real_series_are_refused_whole(data_dir):
    [lost] = list_series(data_dir / "format_faults/acq_edge")
    assert len(lost.files) == 39
    assert "I0018 and I0020" in lost.problem
    [displaced] = list_series(data_dir / "format_faults/disp_2b")
    assert len(displaced.files) == 24
    assert "I0011" in displaced.problem
    with pytest.raises(VolumeError):
        load_volumes(data_dir / "format_faults/disp_2b")
