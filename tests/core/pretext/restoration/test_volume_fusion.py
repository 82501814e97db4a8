import math

import numpy as np
import pytest
import torch
from torch import nn

from napari_sslseg import core
from napari_sslseg.core.common.errors import ConfigError


class Fixed(nn.Module):
    """Returns the same scores for any input."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def forward(self, images):
        return self.scores


@pytest.fixture
def task():
    return core.VolumeFusion().build((64, 48))


@pytest.fixture
def images():
    return torch.randn(4, 2, 64, 48, generator=torch.Generator().manual_seed(0))


def draw(task, n=4):
    return task.sample(n, torch.Generator().manual_seed(0))


def one_hot(levels, classes=5):
    return nn.functional.one_hot(levels, classes).movedim(-1, 1).float()


def test_the_defaults_are_those_of_the_paper():
    assert core.VolumeFusion().model_dump() == {
        "kind": "volume-fusion",
        "levels": 4,
        "min_boxes": 10,
        "max_boxes": 40,
        "shortest": 8,
        "longest": 0.625,
    }
    with pytest.raises(ConfigError, match="at most max_boxes"):
        core.VolumeFusion(min_boxes=50)


def test_the_network_outputs_a_score_for_each_level(task):
    assert task.output_channels(1) == task.output_channels(3) == 5
    assert core.VolumeFusion(levels=2).build((64, 48)).output_channels(1) == 3


def test_the_loss_is_cross_entropy_and_dice_of_the_levels(task, images):
    parameters = draw(task)
    levels = task.corruption.level_map(parameters)
    right = task.loss(Fixed(50 * one_hot(levels)), images, parameters)
    assert right == pytest.approx(0, abs=1e-4)
    # Five classes with equal scores have a cross entropy of log 5; Dice is computed by hand.
    same = task.loss(Fixed(torch.zeros(4, 5, 64, 48)), images, parameters)
    share = levels.flatten().bincount(minlength=5) / levels.numel()
    dice = 1 - (2 * share * 0.2 / (share + 0.2)).mean()
    assert same.item() == pytest.approx(math.log(5) + dice.item(), abs=1e-4)


def test_the_preview_shows_partner_levels_and_predicted_levels(task, images):
    parameters = draw(task)
    levels = task.corruption.level_map(parameters)
    shown = task.preview(images, parameters, Fixed(one_hot((levels + 1) % 5)))
    assert np.array_equal(shown.partner, images[parameters.partners].numpy())
    assert np.array_equal(shown.levels[:, 0], levels.numpy() / 4)
    assert np.array_equal(shown.mask, shown.levels > 0)
    assert np.array_equal(shown.restored[:, 0], (levels.numpy() + 1) % 5 / 4)
    assert set(np.unique(shown.error)) == {0.25, 1.0}
    assert "mask" not in shown.captions  # the levels contain more


def test_a_batch_of_one_is_refused(task):
    with pytest.raises(ConfigError, match="at least two slices"):
        draw(task, 1)


def test_boxes_that_do_not_fit_are_refused_when_the_size_is_known():
    with pytest.raises(ConfigError, match="at most 30 pixels"):
        core.VolumeFusion(shortest=31).build((64, 48))
