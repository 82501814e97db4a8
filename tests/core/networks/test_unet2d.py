import pytest
import torch
from torch import nn

from napari_sslseg.core.networks.unet2d import UNet2d, WeightStandardizedConv2d
from napari_sslseg.core.settings.networks import Network


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_output_has_the_size_of_the_slice(preset):
    network = UNet2d(3, 5, Network.preset(preset))
    assert network(torch.zeros(2, 3, 48, 32)).shape == (2, 5, 48, 32)


def expected_parameters(widths, inputs, outputs, kernel):
    """Count by hand: 3×3 convolutions with bias, GroupNorm with two values per channel."""

    def conv(i, o, k=3):
        return i * o * k * k + o

    total, before = 0, inputs
    for width in widths:
        total += conv(before, width) + conv(width, width) + 2 * width
        before = width
    for coarse, fine in zip(widths[::-1], widths[-2::-1], strict=False):
        total += conv(coarse, fine) + conv(2 * fine, fine) + 2 * fine
    return total + conv(widths[0], outputs, kernel)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_the_layers_are_those_of_the_paper(preset, kernel):
    network = Network.preset(preset)
    count = sum(p.numel() for p in UNet2d(1, 4, network, kernel).parameters())
    assert count == expected_parameters(network.widths, 1, 4, kernel)


def test_the_paper_preset_has_five_levels_of_32_to_512_and_16_groups():
    net = UNet2d(1, 1, Network.preset("paper"))
    assert [level.conv.out_channels for level in net.encoder.levels] == [32, 64, 128, 256, 512]
    norms = [m for m in net.modules() if isinstance(m, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {16}
    # Each level has one norm, after its last convolution, the only weight-standardised one.
    assert len(norms) == 9
    assert sum(isinstance(m, WeightStandardizedConv2d) for m in net.modules()) == 9


def test_weight_standardisation_by_hand():
    conv = WeightStandardizedConv2d(1, 1, 3, padding=0, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
    # Mean 4, population standard deviation √(60/9); the image selects the last weight.
    picture = torch.zeros(1, 1, 3, 3)
    picture[..., 2, 2] = 1
    expected = (8 - 4) / ((60 / 9) ** 0.5 + 1e-5)
    assert conv(picture).item() == pytest.approx(expected, rel=1e-6)


def test_scale_and_offset_of_standardised_weights_do_not_matter():
    conv = WeightStandardizedConv2d(4, 3, 3)
    images = torch.randn(2, 4, 8, 8)
    before = conv(images)
    with torch.no_grad():
        conv.weight.mul_(7).add_(0.3)
    torch.testing.assert_close(conv(images), before, atol=2e-4, rtol=1e-3)


def test_initial_weights_are_he_normal():
    weight = UNet2d(1, 1, Network.preset("paper")).encoder.levels[4].conv.weight
    assert float(weight.std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


def test_encoder_decoder_and_output_name_every_tensor():
    names = UNet2d(1, 2, Network.preset("tiny")).state_dict()
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "output"}


def test_every_parameter_gets_a_gradient():
    net = UNet2d(1, 2, Network.preset("tiny"))
    net(torch.randn(2, 1, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_slices_of_a_batch_do_not_mix():
    net = UNet2d(1, 2, Network.preset("tiny"))
    images = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]), atol=1e-5, rtol=1e-4)
