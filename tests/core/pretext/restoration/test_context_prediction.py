import pytest
import torch
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError


def test_the_defaults_equal_those_of_context_restoration():
    prediction, restoration = core.ContextPrediction(), core.ContextRestoration()
    assert prediction.model_dump(exclude={"kind"}) == restoration.model_dump(exclude={"kind"})


def test_patches_are_erased_where_context_restoration_swaps_them():
    sizes = {"patch_size": 8, "n_masks": 5}
    images = torch.randn(4, 2, 64, 48)
    previews = []
    for settings in (core.ContextPrediction(**sizes), core.ContextRestoration(**sizes)):
        task = settings.build((64, 48), seed=3)
        previews.append(task.preview(images, task.sample(4, torch.Generator().manual_seed(1))))
    erased, swapped = previews
    assert (erased.mask == swapped.mask).all()
    assert ((erased.corrupted == 0) == erased.mask).all()
    assert erased.mask.mean(axis=(1, 2, 3)).min() >= 0.25


def test_the_loss_compares_whole_slices():
    task = core.ContextPrediction(patch_size=8, n_masks=5).build((64, 48))
    images = torch.randn(3, 2, 64, 48)
    parameters = task.sample(3, torch.Generator().manual_seed(0))
    # The error of a network that changes nothing equals the erased pixels.
    erased = task.corruption.mask(parameters).expand_as(images)
    expected = images[erased].square().sum() / (3 * 2)
    torch.testing.assert_close(task.loss(nn.Identity(), images, parameters), expected)


def test_patches_that_do_not_fit_are_refused_when_the_size_is_known():
    with pytest.raises(ConfigError, match="size of 27"):
        core.ContextPrediction(patch_size=32).build((64, 48))
