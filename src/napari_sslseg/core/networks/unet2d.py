"""The 2D U-Net of Dominic et al. 2023 with configurable widths.

Encoder level: 3×3 convolution and ReLU, weight-standardised 3×3 convolution and ReLU, one
GroupNorm; max-pooling between levels. Decoder level: transposed 3×3 convolution of stride 2,
concatenation with the encoder's features, one weight-standardised convolution and ReLU, one
GroupNorm. He initialisation throughout. GroupNorm here is the true one, without the moving
averages that the authors' code keeps.

The three parts are modules by the names ``encoder``, ``decoder`` and ``output``, so a part of a
pretrained network can be named and transferred.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.config import Network


class WeightStandardizedConv2d(nn.Conv2d):
    """Convolution whose kernels have mean 0 and standard deviation 1 over their inputs.

    Ŵ = (W − mean) / (std + 1e-5), over height, width and input channels (Qiao et al. 2019).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve with the standardised weights."""
        deviation, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) / (deviation + 1e-5)
        return functional.conv2d(images, weight, self.bias, self.stride, self.padding)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with ``groups`` groups, or the most that divide ``channels`` as well."""
    return nn.GroupNorm(gcd(groups, channels), channels)


class EncoderLevel(nn.Module):
    """Two convolutions, the last weight-standardised, and one GroupNorm."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.ws_conv = WeightStandardizedConv2d(outputs, outputs, 3, padding=1)
        self.norm = group_norm(outputs, groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map features, shape (N, inputs, H, W), to (N, outputs, H, W)."""
        features = functional.relu(self.conv(features))
        return self.norm(functional.relu(self.ws_conv(features)))


class Encoder(nn.Module):
    """Levels with max-pooling between them; returns the features of every level, finest first."""

    def __init__(self, in_channels: int, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        inputs = [in_channels, *widths[:-1]]
        self.levels = nn.ModuleList(
            EncoderLevel(i, o, groups) for i, o in zip(inputs, widths, strict=True)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of every level: (N, widths[l], H / 2^l, W / 2^l)."""
        features = [self.levels[0](images)]
        for level in self.levels[1:]:
            features.append(level(functional.max_pool2d(features[-1], 2)))
        return features


class DecoderLevel(nn.Module):
    """Up-sample, join the encoder's features, one weight-standardised convolution, GroupNorm."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.ws_conv = WeightStandardizedConv2d(2 * outputs, outputs, 3, padding=1)
        self.norm = group_norm(outputs, groups)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features and the skip of twice their size to the skip's shape."""
        features = torch.cat([self.up(features), skip], dim=1)
        return self.norm(functional.relu(self.ws_conv(features)))


class Decoder(nn.Module):
    """Levels from the coarsest features to full resolution."""

    def __init__(self, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        coarse_to_fine = list(reversed(widths))
        self.levels = nn.ModuleList(DecoderLevel(i, o, groups) for i, o in pairwise(coarse_to_fine))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features at full resolution, shape (N, widths[0], H, W)."""
        decoded = features[-1]
        for level, skip in zip(self.levels, reversed(features[:-1]), strict=True):
            decoded = level(decoded, skip)
        return decoded


class UNet2d(nn.Module):
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
        super().__init__()
        self.encoder = Encoder(in_channels, network.widths, network.groups)
        self.decoder = Decoder(network.widths, network.groups)
        self.output = nn.Conv2d(
            network.widths[0], out_channels, output_kernel, padding=output_kernel // 2
        )
        self.apply(_he_init)

    def forward(self, images: Tensor) -> Tensor:
        """Scores, shape (N, out_channels, H, W); H and W must be multiples of 2^(levels − 1)."""
        return self.output(self.decoder(self.encoder(images)))


def _he_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
