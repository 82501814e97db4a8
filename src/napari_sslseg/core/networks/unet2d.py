"""The 2D U-Net of Dominic et al. 2023 with configurable widths.

Encoder level: 3×3 convolution and ReLU, weight-standardised 3×3 convolution and ReLU, one
GroupNorm; max-pooling between levels. Decoder level: transposed 3×3 convolution of stride 2,
concatenation with the encoder's features, one weight-standardised convolution and ReLU, one
GroupNorm. He initialisation throughout. This is true GroupNorm, without the moving averages of the
authors' code.

The three parts are modules named ``encoder``, ``decoder`` and ``output``, so that a part of a
pretrained network can be selected and transferred.
"""

from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.networks.group_norm import GroupNorm, fast_layout
from napari_sslseg.core.networks.parts import (
    Decoder,
    Encoder,
    EncoderDecoder,
    concatenate,
    he_init,
    output_layer,
)
from napari_sslseg.core.settings.networks import Network


class WeightStandardizedConv2d(nn.Conv2d):
    """Convolution whose kernels have mean 0 and standard deviation 1 over their inputs.

    Ŵ = (W − mean) / (std + 1e-5), over height, width and input channels (Qiao et al. 2019).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve with the standardised weights."""
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return functional.conv2d(images, weight, self.bias, self.stride, self.padding)


def group_norm(channels: int, groups: int) -> GroupNorm:
    """GroupNorm with ``groups`` groups, or their common divisor with ``channels``."""
    return GroupNorm(gcd(groups, channels), channels)


class EncoderLevel(nn.Module):
    """Two convolutions, the last weight-standardised, and one GroupNorm."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.ws_conv = WeightStandardizedConv2d(outputs, outputs, 3, padding=1)
        self.norm = group_norm(outputs, groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map features, shape (N, inputs, H, W), to (N, outputs, H, W)."""
        features = functional.relu(fast_layout(self.conv(features)))
        return self.norm(functional.relu(self.ws_conv(features)))


class DecoderLevel(nn.Module):
    """Up-sample, concatenate the skip, one weight-standardised convolution, GroupNorm."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.ws_conv = WeightStandardizedConv2d(2 * outputs, outputs, 3, padding=1)
        self.norm = group_norm(outputs, groups)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features and the skip of twice their size to the skip's shape."""
        features = concatenate(self.up(features), skip)
        return self.norm(functional.relu(self.ws_conv(features)))


class UNet2d(EncoderDecoder):
    """U-Net from images to ``out_channels`` scores per pixel.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the slices and of the output.
    network : Network
        Widths per level and groups of the normalisation.
    output_kernel : {1, 3}
        Kernel of the last layer: 1 to segment, 3 to restore images (Dominic et al. 2023).

    Examples
    --------
    >>> net = UNet2d(1, 3, Network.preset("tiny"))
    >>> net(torch.zeros(2, 1, 64, 48)).shape
    torch.Size([2, 3, 64, 48])
    """

    def __init__(
        self, in_channels: int, out_channels: int, network: Network, output_kernel: int = 1
    ) -> None:
        widths, groups = network.widths, network.groups
        coarse_to_fine = widths[::-1]
        super().__init__(
            Encoder(
                (EncoderLevel(i, o, groups) for i, o in pairwise((in_channels, *widths))), widths
            ),
            Decoder(
                (DecoderLevel(i, o, groups) for i, o in pairwise(coarse_to_fine)),
                coarse_to_fine[1:],
            ),
            output_layer(2, widths[0], out_channels, output_kernel),
            network.stride,
        )
        self.apply(he_init)
