import numpy as np
import pytest
import torch
from torch import nn

import napari_sslseg.core as core
from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.results.predict import Segmenter
from napari_sslseg.core.results.predict_files import iter_predict
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.segmentation.small_components import remove_small_components


def stack(*slices):
    return np.array([[[int(c) for c in row] for row in rows.split()] for rows in slices], np.uint8)


def test_small_isolated_components_are_removed():
    # Class 1 has a component of nine pixels in both slices and one of two; class 2 touches it.
    given = stack("11100 11120 00000 00001", "11000 10000 00000 00001")
    expected = stack("11100 11120 00000 00003", "11000 10000 00000 00003")
    np.testing.assert_array_equal(remove_small_components(given, 3, 0.3), expected)
    np.testing.assert_array_equal(remove_small_components(given, 3, 0.0), given)
    # Two kidneys of similar size are both kept.
    two = stack("11011 11011 00000", "11010 00000 00000")
    np.testing.assert_array_equal(remove_small_components(two, 2, 0.5), two)
    np.testing.assert_array_equal(
        remove_small_components(two, 2, 1.0), stack("11022 11022 00000", "11020 00000 00000")
    )
    nothing = np.full((2, 3, 3), 2, np.uint8)
    np.testing.assert_array_equal(remove_small_components(nothing, 2, 0.5), nothing)


def test_the_limit_is_relative_to_the_same_class():
    """One of two kidneys touches the liver, which does not make it larger."""
    liver, kidney = np.zeros((1, 20, 30), np.uint8), np.s_[:, 2:6]
    liver[:, :, :14] = 1
    liver[kidney][..., 14:18] = 2
    liver[kidney][..., 24:28] = 2
    for share in (0.1, 0.3, 1.0):
        np.testing.assert_array_equal(remove_small_components(liver, 3, share), liver)


def test_a_stray_pixel_does_not_remove_the_true_component():
    given = np.zeros((1, 20, 30), np.uint8)
    given[:, :, :14] = 1
    given[:, 0, 14] = 2  # An error, but connected to a large structure.
    given[:, 8:13, 20:25] = 2
    np.testing.assert_array_equal(remove_small_components(given, 3, 0.3), given)


def test_two_small_touching_components_are_removed():
    given = np.zeros((1, 20, 30), np.uint8)
    given[:, :8, :8], given[:, 10:18, :8] = 1, 2
    expected = given.copy()
    given[:, 4, 20], given[:, 4, 21] = 1, 2
    expected[:, 4, 20:22] = 3
    np.testing.assert_array_equal(remove_small_components(given, 3, 0.1), expected)
    everywhere = np.ones((2, 3, 3), np.uint8)
    np.testing.assert_array_equal(remove_small_components(everywhere, 2, 1.0), everywhere)


class Bright(nn.Module):
    """Predicts class 7 where the image is bright; the classes are 3 and 7."""

    def forward(self, images):
        bright = 20 * (images - 0.7)
        return torch.cat([-bright, torch.full_like(bright, -50), bright], 1)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    import nibabel as nib

    data = np.zeros((24, 20, 6), np.float32)
    data[:10, :10] = 100  # 600 voxels
    data[15:19, 15:18, 2:5] = 100  # 36 of them
    data += np.random.default_rng(0).uniform(0, 1, data.shape)  # A label map has no noise.
    path = tmp_path_factory.mktemp("scans") / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, np.diag([1, 1, 4, 1])), path)
    return core.load_volume(path, modality="MR")


@pytest.fixture
def segmenter():
    preprocessing = core.Preprocessing(modality="MR")
    return Segmenter(Bright(), preprocessing, (3, 7), "cpu")


def test_predict_removes_them_on_request(scan, segmenter):
    plain, whole, clean = (
        core.predict(segmenter, scan, least_part=share) for share in (0, 0.05, 0.07)
    )
    large, small = 600, 36
    assert sorted(np.unique(plain.labels)) == [0, 7]
    assert (plain.labels == 7).sum() == large + small
    np.testing.assert_array_equal(whole.labels, plain.labels)  # 36 is 0.06 of 600.
    assert (clean.labels == 7).sum() == large
    assert (plain.labels[clean.labels == 7] == 7).all()
    np.testing.assert_array_equal(clean.probabilities, plain.probabilities)
    np.testing.assert_array_equal(clean.uncertainty, plain.uncertainty)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_limit_outside_0_to_1_is_refused(scan, segmenter, share):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        core.predict(segmenter, scan, least_part=share)


def test_scans_without_any_class_are_named(tmp_path, scan, segmenter, monkeypatch):
    import nibabel as nib

    # If a fraction p of a scan is 1 and the rest 0, then 1 is √((1 − p) / p) deviations above
    # the mean.
    for name, first in (("bright", 15), ("dark", 6)):
        data = np.ones((20, 20, 4), np.float32)
        data[:first] = 0
        data += np.random.default_rng(0).normal(0, 0.001, data.shape)  # No label map.
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / f"{name}.nii.gz")
    # Through the function, since the package has a function with the name of the module.
    monkeypatch.setitem(iter_predict.__globals__, "load_segmenter", lambda *_: segmenter)
    asked = {"out": tmp_path / "found", "modality": "MR"}
    scans = [tmp_path / "bright.nii.gz", tmp_path / "dark.nii.gz"]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.safetensors").write_bytes(b"weights")
    run = Run(folder, {"kind": "finetune"})
    events = list(iter_predict(run, [tmp_path / "bright.nii.gz"], **asked))
    assert not [event for event in events if "No class" in getattr(event, "text", "")]
    events = list(iter_predict(run, scans, overwrite=True, **asked))
    (text,) = [event.text for event in events if "No class" in getattr(event, "text", "")]
    assert "1 of 2 scans" in text
    assert "dark" in text
    assert "more steps" not in text
    events = list(iter_predict(run, scans[1:], overwrite=True, **asked))
    (text,) = [event.text for event in events if "No class" in getattr(event, "text", "")]
    assert "more steps" in text
