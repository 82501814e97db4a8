"""Derived images, such as projections, among the images of a scan."""

import numpy as np
import pytest
from pydicom import dcmread

from dicom_files import ramp, write_series
from napari_sslseg.core import list_series, load_volume

DERIVED = ["DERIVED", "SECONDARY", "MIP"]


def series(folder, which, places=range(8)):
    """Write a series with derived images; return its only scan and the names of these."""

    def edit(ds, index):
        if index in which:
            ds.ImageType = DERIVED

    values = ramp(len(places))
    at = [(-10.0, -20.0, 30 + 2.5 * place) for place in places]
    paths = write_series(folder, values, places=at, edit=edit)
    (item,) = list_series(folder)
    names = [path.name for path in paths if dcmread(path).ImageType[0] == "DERIVED"]
    return item, names


@pytest.mark.parametrize(
    ("which", "places"),
    [
        ({7}, range(8)),
        ({0}, range(8)),
        ({0, 7}, range(8)),
        ({7}, [0, 1, 2, 3, 4, 5, 6, 40]),
        ({7}, [0, 1, 2, 3, 4, 5, 6, 3]),
        ({5, 6, 7}, range(8)),
    ],
    ids=["next", "before", "both", "far", "same", "three"],
)
def test_derived_images_beside_a_stack_are_left_out(tmp_path, which, places):
    item, names = series(tmp_path, which, places)
    assert item.problem is None, item.problem
    assert {path.name for path in item.files}.isdisjoint(names)
    assert len(item.files) == 8 - len(which)
    note = next(note for note in item.notes if "derived" in note)
    assert names[0] in note
    assert "left out" in note
    first = min(set(range(8)) - which)
    data = load_volume(item).data
    wanted = ramp(8)[sorted(set(range(8)) - which)] - 1024
    np.testing.assert_array_equal(np.sort(data, axis=None), np.sort(wanted, axis=None))
    assert item.geometry.affine[2, 3] == pytest.approx(30 + 2.5 * first)


@pytest.mark.parametrize("which", [set(range(8)), set(range(1, 8)), set()])
def test_a_series_of_derived_images_is_a_scan(tmp_path, which):
    item, _ = series(tmp_path, which)
    assert item.problem is None
    assert len(item.files) == 8
    assert not any("derived" in note for note in item.notes)


def test_a_derived_image_that_fills_a_gap_is_kept_with_a_note(tmp_path):
    item, names = series(tmp_path, {3})
    assert len(item.files) == 8
    (note,) = [note for note in item.notes if "derived" in note]
    assert names[0] in note
