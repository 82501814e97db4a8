"""A 2D U-Net whose encoder is an EfficientNet, as MONAI builds it.

Depthwise convolutions make it deep at little cost on a processor. EfficientNet-Lite (Liu 2020) has
neither squeeze-and-excitation nor swish, but ReLU6, and stem and head of a fixed width.

EfficientNet halves the resolution before its first features. The images are therefore zoomed by
two, so that these have one place for each pixel and small structures are not lost.
"""

from collections import OrderedDict

import torch
from monai.networks.nets.efficientnet import EfficientNet, MBConvBlock, efficientnet_params
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.networks.parts import (
    Decoder,
    Encoder,
    EncoderDecoder,
    concatenate,
    he_init,
    output_layer,
)
from napari_sslseg.core.networks.umapathy import convolutions
from napari_sslseg.core.settings.networks import LITE, EfficientNetwork

ZOOM = 2
BLOCKS = (
    "r1_k3_s11_e1_i32_o16", "r2_k3_s22_e6_i16_o24", "r2_k5_s22_e6_i24_o40", "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112", "r4_k5_s22_e6_i112_o192", "r1_k3_s11_e6_i192_o320",
)  # fmt: skip
"""Stages of EfficientNet (Tan & Le 2019, table 1): repeats, kernel, stride, expansion, channels."""

LEVELS = ((0,), (1,), (2,), (3, 4), (5, 6))
"""Stages of each resolution, finest first."""

NORM = ("batch", {"eps": 1e-3, "momentum": 0.1})
"""BatchNorm whose averages follow a training of some hundred steps."""


class Zoom(nn.Module):
    """Enlarge images, shape (N, C, H, W), by two."""

    def forward(self, images: Tensor) -> Tensor:
        """Interpolate linearly."""
        return functional.interpolate(images, scale_factor=float(ZOOM), mode="bilinear")


class UpLevel(nn.Module):
    """Repeat pixels, concatenate the encoder's features, two convolutions."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = convolutions(inputs + skip, outputs)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features and the skip of twice their size to the skip's size."""
        larger = functional.interpolate(features, scale_factor=2.0, mode="nearest")
        return self.convolutions(concatenate(larger, skip))


class EfficientUNet(EncoderDecoder):
    """U-Net from slices to ``out_channels`` scores per pixel.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the slices and of the output.
    network : EfficientNetwork
        Name of the encoder, and widths of the decoder.
    output_kernel : {1, 3}
        Kernel of the last layer.
    """

    def __init__(
        self, in_channels: int, out_channels: int, network: EfficientNetwork, output_kernel: int = 1
    ) -> None:
        levels, channels = _levels(in_channels, network.encoder)
        widths = network.decoder_widths
        inputs, skips = (channels[-1], *widths), channels[-2::-1]
        decoder = Decoder(map(UpLevel, inputs, skips, widths), widths)
        output = output_layer(2, widths[-1], out_channels, output_kernel)
        super().__init__(
            Encoder(levels, channels, pool=False),
            decoder.apply(he_init),
            output.apply(he_init),
            network.stride,
        )
        # Features follow the layout of the weights, and this one is a fifth faster on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _levels(in_channels: int, name: str) -> tuple[list[nn.Module], tuple[int, ...]]:
    """Build the levels of an encoder and their channels, finest first."""
    is_lite = name == LITE
    width, depth, size, _, _ = efficientnet_params["efficientnet-b0" if is_lite else name]
    whole = EfficientNet(
        [block if is_lite else f"{block}_se0.25" for block in BLOCKS],
        spatial_dims=2,
        in_channels=in_channels,
        width_coefficient=width,
        depth_coefficient=depth,
        # Of padding only; all sizes that are multiples of the stride are padded alike.
        image_size=size // 32 * 32,
        norm=NORM,
        drop_connect_rate=0.0,
    )
    blocks = [module for module in whole.modules() if isinstance(module, MBConvBlock)]
    for module in (whole, *blocks):
        module._swish = nn.ReLU6() if is_lite else nn.SiLU()
    stem = nn.Sequential(
        OrderedDict(
            zoom=Zoom(),
            padding=whole._conv_stem_padding,
            conv=whole._conv_stem,
            norm=whole._bn0,
            activation=whole._swish,
        )
    )
    levels: list[nn.Module] = [
        # Blocks keep the numbers that they have in the whole network, by which weights name them.
        nn.Sequential(
            OrderedDict(
                child for stage in stages for child in whole._blocks[stage].named_children()
            )
        )
        for stages in LEVELS
    ]
    levels[0] = nn.Sequential(OrderedDict(stem=stem, **dict(levels[0].named_children())))
    channels = tuple(whole._blocks_args[stages[-1]].output_filters for stages in LEVELS)
    return levels, channels
