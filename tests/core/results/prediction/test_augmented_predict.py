"""Predictions averaged over rotated and scaled views."""

import numpy as np
import pytest
import torch

from napari_sslseg import core
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.results.predict import load_segmenter
from napari_sslseg.core.results.prediction.augmented import VIEWS, average_over_views, transform
from napari_sslseg.core.settings.networks import DynUNet3dNetwork


def smooth(height, width):
    rows = torch.linspace(-1, 1, height)[:, None]
    columns = torch.linspace(-1, 1, width)[None]
    blob = torch.exp(-8 * ((rows - 0.2) ** 2 + (columns + 0.1) ** 2))
    return blob[None, None]


def test_a_quarter_turn_and_a_half_size_by_hand():
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    torch.testing.assert_close(transform(images, 90, 1), torch.rot90(images, 1, (2, 3)))
    torch.testing.assert_close(transform(images, -90, 1), torch.rot90(images, -1, (2, 3)))
    # Half of each side, enlarged: quarters of pixels from the middle.
    rows = torch.tensor([0.75, 1.25, 1.75, 2.25])
    torch.testing.assert_close(transform(images, 0, 0.5)[0, 0], 4 * rows[:, None] + rows[None])


@pytest.mark.parametrize("size", [(48, 48), (64, 48)])
@pytest.mark.parametrize("view", VIEWS)
def test_the_inverse_restores_the_image(size, view):
    images, (angle, scale) = smooth(*size), view
    there = transform(images, angle, scale)
    back = transform(there, -angle, 1 / scale)
    assert (back - images).abs().max() < 0.03
    if view != VIEWS[0]:
        assert (there - images).abs().max() > 0.05


def test_axial_slices_of_volumes_are_rotated_equally():
    slices = torch.rand(3, 2, 16, 24)
    volume = slices.movedim(0, 1)[None]
    torch.testing.assert_close(
        transform(volume, 10, 0.9)[0].movedim(1, 0), transform(slices, 10, 0.9)
    )


def test_an_equivariant_prediction_does_not_change():
    images = smooth(48, 64) * 4

    def shares(seen):
        return torch.cat([-seen, seen], 1).softmax(1)

    found = average_over_views(shares, images)
    torch.testing.assert_close(found.sum(1), torch.ones(1, 48, 64))
    assert (found - shares(images)).abs().max() < 0.02


def test_each_view_has_a_weight_of_one_fifth():
    seen = []

    def shares(images):
        seen.append(images)
        sure = torch.ones if len(seen) == 1 else torch.zeros
        first = sure(1, 1, 32, 32)
        return torch.cat([first, 1 - first], 1)

    found = average_over_views(shares, torch.rand(1, 1, 32, 32))
    assert len(seen) == len(VIEWS) == 5
    torch.testing.assert_close(found[:, 0], torch.full((1, 32, 32), 0.2))


@pytest.mark.parametrize(
    "network", [core.Network.preset("tiny"), DynUNet3dNetwork(widths=(4, 8, 16))]
)
def test_a_scan_is_segmented_with_test_time_augmentation(tmp_path, network):
    volume, labels = make_patient(3, "MR", (16, 48, 48), (8.0, 7.0, 7.0))
    settings = core.FinetuneSettings(network=network, training={"steps": 2, "batch_size": 1})
    item = core.LabelledScan(volume, labels)
    run = core.finetune([item], out=tmp_path / "run", settings=settings, device="cpu")
    segmenter = load_segmenter(run, "cpu")
    plain, steady = (core.predict(segmenter, volume, tta=tta) for tta in (False, True))
    assert steady.labels.shape == volume.data.shape
    np.testing.assert_allclose(steady.probabilities.sum(0), 1, atol=1e-4)
    assert not np.array_equal(plain.probabilities, steady.probabilities)
    assert np.abs(plain.probabilities - steady.probabilities).mean() < 0.1
