"""Masked pixels and masked patches: what their losses compare."""

import pytest
import torch
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError


class Zero(nn.Module):
    def forward(self, images):
        return torch.zeros_like(images)


def draw(task, n):
    return task.sample(n, torch.Generator().manual_seed(0))


@pytest.fixture
def images():
    return 1 + torch.rand(4, 2, 32, 32, generator=torch.Generator().manual_seed(0))


def test_masked_pixels_are_a_tenth_and_compared_by_their_absolute_error(images):
    settings = core.MaskedPixels()
    assert (settings.share, settings.sigma) == (0.1, 0.01)
    task = settings.build((32, 32))
    parameters = draw(task, 4)
    mask = task.corruption.mask(parameters)
    assert mask.sum().item() == 4 * 102  # of 1024 pixels
    expected = images.abs()[mask.expand_as(images)].sum() / (4 * 102 * 2)
    torch.testing.assert_close(task.loss(Zero(), images, parameters), expected)


def test_hidden_patches_are_three_quarters_and_compared_by_their_squared_error(images):
    settings = core.MaskedPatches(patch_size=8)
    assert settings.share == 0.75
    task = settings.build((32, 32))
    parameters = draw(task, 4)
    mask = task.corruption.mask(parameters)
    assert mask.sum().item() == 4 * 12 * 64  # 12 of 16 patches
    expected = images.square()[mask.expand_as(images)].mean()
    torch.testing.assert_close(task.loss(Zero(), images, parameters), expected)


def test_patches_that_do_not_fit_are_refused_when_the_size_is_known():
    with pytest.raises(ConfigError, match="choose a patch size of 47 pixels"):
        core.MaskedPatches(patch_size=64).build((64, 48))
    with pytest.raises(ConfigError, match="another fraction"):
        core.MaskedPixels(share=1e-6).build((64, 48))
