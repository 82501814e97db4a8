"""Masked pixels and masked patches: masks and losses."""

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


def test_a_tenth_of_the_pixels_is_masked_with_an_absolute_error(images):
    settings = core.MaskedPixels()
    assert (settings.share, settings.sigma) == (0.1, 0.01)
    task = settings.build((32, 32))
    parameters = draw(task, 4)
    mask = task.corruption.mask(parameters)
    assert mask.sum().item() == 4 * 102  # of 1024 pixels
    expected = images.abs()[mask.expand_as(images)].sum() / (4 * 102 * 2)
    torch.testing.assert_close(task.loss(Zero(), images, parameters), expected)


def test_three_quarters_of_the_patches_are_masked_with_a_squared_error(images):
    settings = core.MaskedPatches(patch_size=8)
    assert settings.share == 0.75
    task = settings.build((32, 32))
    parameters = draw(task, 4)
    mask = task.corruption.mask(parameters)
    assert mask.sum().item() == 4 * 12 * 64  # 12 of 16 patches
    expected = images.square()[mask.expand_as(images)].mean()
    torch.testing.assert_close(task.loss(Zero(), images, parameters), expected)


def test_patches_that_do_not_fit_are_refused_when_the_size_is_known():
    with pytest.raises(ConfigError, match="47 pixels"):
        core.MaskedPatches(patch_size=64).build((64, 48))
    with pytest.raises(ConfigError, match="another fraction"):
        core.MaskedPixels(share=1e-6).build((64, 48))
