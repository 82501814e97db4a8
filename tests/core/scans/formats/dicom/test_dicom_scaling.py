"""Headers that give the meaning of stored values in several ways."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_files import ramp, write_series
from napari_sslseg.core import list_series, load_volume

STORED = ramp()


def mapping(slope=None, intercept=None, unit="mm2/s"):
    """A real-world value mapping; by a table without a slope."""
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    item.MeasurementUnitsCodeSequence = [code]
    item.LUTExplanation, item.LUTLabel = "map", "map"
    item.RealWorldValueFirstValueMapped, item.RealWorldValueLastValueMapped = 0, 4095
    if slope is None:
        item.RealWorldValueLUTData = [float(value) for value in range(4096)]
    else:
        item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    return item


def opened(folder, edit, rescaled=True):
    """Write an MR series, and return its item and values, sorted as stored."""

    def change(ds, index):
        if not rescaled:
            del ds.RescaleSlope, ds.RescaleIntercept
        edit(ds, index)

    write_series(folder, STORED, modality="MR", slope=2, intercept=10, edit=change)
    (item,) = list_series(folder)
    data = load_volume(item).data
    return item, item.geometry.to_source(data).transpose(2, 1, 0)


def scalings(item):
    return [note for note in item.notes if "slope" in note]


@pytest.mark.parametrize("maps", [[(0.5, 3.0)], [(0.5, 3.0), (4.0, 0.0)], [()]])
def test_real_world_values_beside_others_are_noted(tmp_path, maps):
    def edit(ds, index):
        ds.RealWorldValueMappingSequence = [mapping(*one) for one in maps]

    item, values = opened(tmp_path, edit)
    np.testing.assert_array_equal(values, 2 * STORED + 10)
    (note,) = scalings(item)
    assert "real-world" in note
    assert "mm2/s" in note


def test_an_equal_map_is_not_noted(tmp_path):
    def edit(ds, index):
        ds.RealWorldValueMappingSequence = [mapping(2.0, 10.0)]

    assert not scalings(opened(tmp_path, edit)[0])


def test_real_world_values_with_a_unit_are_used_without_rescaling(tmp_path):
    def edit(ds, index):
        ds.RealWorldValueMappingSequence = [mapping(0.5, 3.0, "ms")]

    item, values = opened(tmp_path, edit, rescaled=False)
    np.testing.assert_allclose(values, 0.5 * STORED + 3)
    (note,) = scalings(item)
    assert "values in ms" in note


@pytest.mark.parametrize("maps", [[(0.5, 3.0, "1")], [(0.5, 3.0), (4.0, 0.0)], [()]])
def test_real_world_values_that_are_not_clear_are_not_used(tmp_path, maps):
    def edit(ds, index):
        ds.RealWorldValueMappingSequence = [mapping(*one) for one in maps]

    item, values = opened(tmp_path, edit, rescaled=False)
    np.testing.assert_array_equal(values, STORED)
    (note,) = scalings(item)
    assert "real-world" in note


def philips(ds, scale=None, own=None):
    if scale:
        block = ds.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0D, "FL", 0.0)
        block.add_new(0x0E, "FL", scale)
    if own:
        ds.add_new(0x20050014, "LO", "Philips MR Imaging DD 005")
        ds.add_new(0x20051409, "DS", str(own[1]))
        ds.add_new(0x2005140A, "DS", str(own[0]))


@pytest.mark.parametrize("varying", [False, True])
def test_scales_of_philips_are_noted(tmp_path, varying):
    def edit(ds, index):
        philips(ds, 0.25 * (1 + varying * index))

    item, values = opened(tmp_path, edit)
    np.testing.assert_array_equal(values, 2 * STORED + 10)
    (note,) = scalings(item)
    assert "2005,100E" in note
    assert (" to 4" in note) == varying


def test_another_rescaling_of_philips_is_noted(tmp_path):
    item, values = opened(tmp_path / "other", lambda ds, _: philips(ds, own=(3.5, 0)))
    np.testing.assert_array_equal(values, 2 * STORED + 10)
    (note,) = scalings(item)
    assert "2005,140A" in note
    assert "3.5" in note
    # The precise values are the same: 1 / SS = RS, and RI / (RS · SS) = RI.
    item, _ = opened(tmp_path / "same", lambda ds, _: philips(ds, 0.5, (2, 10)))
    assert not scalings(item)


def test_attributes_of_philips_without_their_owner_are_found(tmp_path):
    """Anonymisation may remove the name that reserves them."""

    def edit(ds, index):
        philips(ds, own=(3.5, 0))
        del ds[0x20050014]
        ds.add_new(0x2005100A, "FL", 7.0)

    item, _ = opened(tmp_path, edit)
    (note,) = scalings(item)
    assert "3.5" in note
