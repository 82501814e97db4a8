"""Layers of the 2D networks of the papers, with parameters counted by hand."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from napari_sslseg.core.networks.multimix import MultiMixUNet
from napari_sslseg.core.networks.parts import repeat_to_fit
from napari_sslseg.core.networks.umapathy import UmapathyUNet
from napari_sslseg.core.settings.networks import MultiMixNetwork, UmapathyNetwork


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def kinds(module, *types):
    return [type(m) for m in module.modules() if isinstance(m, types)]


def test_umapathy_has_the_parameters_counted_by_hand():
    widths = (16, 32, 64, 128, 128, 128)

    def double(
        i, o
    ):  # two 3×3 convolutions without bias, each with BatchNorm of 2 parameters per channel
        return 9 * i * o + 2 * o + 9 * o * o + 2 * o

    down = sum(double(i, o) for i, o in pairwise((1, *widths)))
    up = sum(4 * i * o + 2 * o + double(2 * o, o) for i, o in pairwise(widths[::-1]))
    net = UmapathyUNet(1, 3, UmapathyNetwork())
    assert parameters(net.encoder) == down == 884_560
    assert parameters(net.decoder) == up == 1_206_176
    assert parameters(net) == down + up + 16 * 3 + 3


def test_a_level_of_umapathy_is_two_convolutions_with_batch_norm_and_relu():
    net = UmapathyUNet(2, 3, UmapathyNetwork())
    order = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    for level in net.encoder.levels:
        assert kinds(level, nn.Conv2d, nn.BatchNorm2d, nn.ReLU) == order
        assert {m.kernel_size for m in level if isinstance(m, nn.Conv2d)} == {(3, 3)}
    assert net.encoder.channels == (16, 32, 64, 128, 128, 128)
    assert net.decoder.channels == (128, 128, 64, 32, 16)


def test_max_pooling_separates_the_levels():
    """If each 2×2 block has one bright pixel, the input of the second level is bright."""
    net = UmapathyUNet(1, 1, UmapathyNetwork(widths=(1, 1)))
    net.encoder.levels[0] = net.encoder.levels[1] = nn.Identity()
    coarse = torch.rand(1, 1, 4, 6) + 1
    fine = torch.zeros(1, 1, 8, 12)
    fine[..., 1::2, ::2] = coarse
    features = net.encoder(fine)
    assert torch.equal(features[0], fine)
    assert torch.equal(features[1], coarse)


def test_multimix_has_the_parameters_counted_by_hand():
    """Only convolutions have parameters; biases would have no effect before the norms."""
    widths = (16, 32, 64, 128, 256)
    down = sum(9 * i * o + 9 * o * o for i, o in pairwise((1, *widths)))
    up = sum(9 * (i + o) * o + 9 * o * o for i, o in pairwise(widths[::-1]))
    net = MultiMixUNet(1, 1, MultiMixNetwork())
    assert parameters(net.encoder) == down == 1_177_488
    assert parameters(net.decoder) == up == 783_360
    assert parameters(net) == down + up + 16 + 1


def test_a_level_of_multimix_ends_in_dropout():
    net = MultiMixUNet(1, 1, MultiMixNetwork())
    order = [nn.Conv2d, nn.InstanceNorm2d, nn.LeakyReLU] * 2 + [nn.Dropout]
    up = [level.convolutions for level in net.decoder.levels]
    for level in [*net.encoder.levels, *up]:
        assert kinds(level, *set(order)) == order
    assert {m.negative_slope for m in net.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.25}


def test_instance_norm_has_no_learned_scale_and_no_running_averages():
    net = MultiMixUNet(1, 1, MultiMixNetwork())
    norms = [m for m in net.modules() if isinstance(m, nn.InstanceNorm2d)]
    assert len(norms) == 18
    assert all(m.weight is None and m.bias is None and m.running_mean is None for m in norms)
    # Offset and scale of the features of a channel have no effect after the first norm.
    images = torch.randn(2, 1, 32, 32)
    with torch.inference_mode():
        net.eval()
        torch.testing.assert_close(net(images), net(5 * images), atol=1e-4, rtol=1e-3)


def test_dropout_is_random_in_training_and_off_in_evaluation():
    net = MultiMixUNet(1, 1, MultiMixNetwork())
    images = torch.randn(1, 1, 32, 32)
    first = net.encoder(images)[0]
    assert not torch.equal(first, net.encoder(images)[0])
    # A quarter of the features is dropped, the others are scaled by 4/3.
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    net.eval()
    whole = net.encoder(images)[0]
    assert torch.equal(whole, net.encoder(images)[0])
    kept = first != 0
    torch.testing.assert_close(first[kept], whole[kept] * 4 / 3)


def test_bilinear_upsampling_keeps_positions():
    """A ramp is reproduced without a shift by half a pixel and without stretching."""
    net = MultiMixUNet(1, 1, MultiMixNetwork(widths=(1, 1)))
    level = net.decoder.levels[0]
    level.convolutions = nn.Identity()
    fine = torch.arange(16.0).expand(1, 1, 4, 16)
    coarse = fine.unfold(3, 2, 2).mean(-1)[:, :, ::2]
    raised = level(coarse, fine)[:, :1]
    torch.testing.assert_close(raised[..., 1:-1], fine[..., 1:-1])


def test_repeating_to_fit_by_hand():
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = torch.tensor([[1.0, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4], [3, 4, 4, 4]])
    # One place is too few, so the last axis has two.
    wide = torch.cat([expected, expected[:, -1:].expand(4, 4)], dim=1)
    assert torch.equal(repeat_to_fit(images, 4)[0, 0], wide)
    assert torch.equal(repeat_to_fit(images, 1), images)
    fitting = torch.rand(1, 1, 8, 4)
    assert repeat_to_fit(fitting, 4) is fitting
