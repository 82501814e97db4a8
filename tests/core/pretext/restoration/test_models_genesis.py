import torch
from torch import nn

from napari_sslseg import core


def test_the_loss_is_the_mean_squared_error_of_whole_slices():
    task = core.ModelsGenesis().build((64, 48))
    images = torch.randn(6, 2, 64, 48)
    parameters = task.sample(6, torch.Generator().manual_seed(0))
    distorted = task.apply(images, parameters)
    expected = (distorted - images).square().mean()
    assert expected > 0.1
    torch.testing.assert_close(task.loss(nn.Identity(), images, parameters), expected)


def test_probabilities_reach_the_corruption():
    settings = core.ModelsGenesis(curve_rate=0, shuffle_rate=0, paint_rate=1, outside_rate=0)
    task = settings.build((64, 64))
    images = torch.randn(20, 1, 64, 64)
    shown = task.preview(images, task.sample(20, torch.Generator().manual_seed(0)))
    assert ((shown.corrupted != shown.original) <= shown.mask).all()
    assert shown.mask.any(axis=(1, 2, 3)).all()
    assert shown.mask.mean(axis=(1, 2, 3)).max() <= 0.25
