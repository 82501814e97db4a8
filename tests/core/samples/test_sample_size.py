"""The size of the samples, which determines the size of patches, without reading values."""

import nibabel as nib
import numpy as np
import pytest

from napari_sslseg import core
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.samples.build import sample_size
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.settings.pretext.registry import make_task

AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])
SHAPE = (512, 512, 4)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "case.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE), path)
    return path


@pytest.mark.parametrize(("spacing", "side", "patch"), [("keep", 512, 32), (2.0, 128, 8)])
def test_resampling_changes_the_size_and_the_patches(path, spacing, side, patch):
    settings = core.Preprocessing(spacing=spacing)
    for scans in (path, [path], [Geometry(AFFINE, SHAPE)], core.list_series(path)):
        size = sample_size(scans, settings)
        assert size == (side, side)
        assert make_task("context-restoration", size).patch_size == patch


def test_the_largest_of_files_and_geometries_counts(path):
    larger = Geometry(AFFINE, (600, 520, 4))
    assert sorted(sample_size([path, larger], core.Preprocessing())) == [528, 608]


def test_crops_of_volumes_are_limited(path):
    settings = core.VolumePreprocessing(spacing="keep")
    assert sample_size([path], settings) == sample_size([Geometry(AFFINE, SHAPE)], settings)
    assert max(sample_size([path], settings)) == 96


def test_an_empty_list_of_scans_is_refused():
    with pytest.raises(DataError):
        sample_size([], core.Preprocessing())
