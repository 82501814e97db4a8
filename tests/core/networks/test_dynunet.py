from itertools import pairwise

import pytest
import torch
from monai.networks.nets import DynUNet as MonaiDynUNet

from napari_sslseg.core.networks.dynunet import DynUNet
from napari_sslseg.core.settings.networks import DynUNet2dNetwork, DynUNet3dNetwork


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def monai(network, inputs, outputs, **options):
    n = len(network.widths)
    return MonaiDynUNet(
        network.dimensions, inputs, outputs, [3] * n, [1] + [2] * (n - 1), [2] * (n - 1), **options
    )


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", [DynUNet2dNetwork, DynUNet3dNetwork])
@pytest.mark.parametrize("widths", [(4, 6, 8), (4, 6, 8, 10, 12)])
def test_the_same_weights_give_monais_output(kind, residual, widths):
    network = kind(widths=widths, residual=residual)
    theirs = monai(network, 2, 3, filters=widths, res_block=residual)
    ours = DynUNet(2, 3, network)
    levels = [theirs.input_block, *theirs.downsamples, theirs.bottleneck]
    for level, block in zip(ours.encoder.levels, levels, strict=True):
        level.load_state_dict(block.state_dict())
    for level, block in zip(ours.decoder.levels, theirs.upsamples, strict=True):
        level.load_state_dict(block.state_dict())
    ours.output.load_state_dict(theirs.output_block.conv.conv.state_dict())
    images = torch.randn(2, 2, *[2 * network.stride] * network.dimensions)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=0)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize(
    ("network", "count"), [(DynUNet2dNetwork(), 7_762_018), (DynUNet3dNetwork(), 16_543_650)]
)
def test_default_widths_are_monais_and_parameters_those_counted_by_hand(network, count):
    """Widths double from 32 up to 512 in 2D, 320 in 3D."""
    widths, axes = network.widths, network.dimensions
    net = DynUNet(1, 2, network)
    assert list(widths) == monai(network, 1, 2).filters

    def double(i, o):  # two convolutions without bias, each with an affine InstanceNorm
        return 3**axes * (i * o + o * o) + 4 * o

    total = double(1, widths[0]) + 2 * widths[0] + 2
    for fine, coarse in pairwise(widths):
        total += double(fine, coarse) + 2**axes * coarse * fine + double(2 * fine, fine)
    assert sum(p.numel() for p in net.parameters()) == total == count


def test_the_last_layer_starts_as_monais_do():
    net = DynUNet(1, 64, DynUNet2dNetwork(), output_kernel=3)
    assert net.output.bias.abs().sum() == 0
    expected = (2 / (1 + 0.01**2) / (32 * 9)) ** 0.5  # He for LeakyReLU of slope 0.01
    assert float(net.output.weight.detach().std()) == pytest.approx(expected, rel=0.03)
