"""The 2D U-Net of PolyCL, from MultiMix (Haque et al. 2021).

Five levels of 16 to 256 channels; each has two 3×3 convolutions with InstanceNorm (without
learned scale and offset) and LeakyReLU of slope 0.2, and then dropout. Max-pooling in the encoder;
bilinear up-sampling, concatenation and such a level in the decoder; a 1×1 convolution as output.
Convolutions before an InstanceNorm have no bias, which it would remove. Up-sampling does not align
corners, so that it does not depend on the size of the slice.
"""

from itertools import pairwise

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
from napari_sslseg.core.settings.networks import MultiMixNetwork

SLOPE = 0.2
"""Slope of LeakyReLU below 0."""


def convolutions(inputs: int, outputs: int, dropout: float) -> nn.Sequential:
    """Two 3×3 convolutions, each with InstanceNorm and LeakyReLU, then dropout."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.InstanceNorm2d(outputs, affine=False),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.InstanceNorm2d(outputs, affine=False),
        nn.LeakyReLU(SLOPE),
        nn.Dropout(dropout),
    )


class MultiMixUpLevel(nn.Module):
    """Bilinear up-sampling, the encoder's features, two convolutions."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = convolutions(inputs + outputs, outputs, dropout)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features and the skip of twice their size to the skip's size."""
        raised = functional.interpolate(
            features, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return self.convolutions(concatenate(raised, skip))


class MultiMixUNet(EncoderDecoder):
    """U-Net from slices to ``out_channels`` scores per pixel.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the slices and of the output.
    network : MultiMixNetwork
        Widths per level and dropout.
    output_kernel : {1, 3}
        Kernel of the last layer; 1 in the paper.
    """

    def __init__(
        self, in_channels: int, out_channels: int, network: MultiMixNetwork, output_kernel: int = 1
    ) -> None:
        widths, dropout = network.widths, network.dropout
        up = widths[::-1]
        super().__init__(
            Encoder(
                (convolutions(i, o, dropout) for i, o in pairwise((in_channels, *widths))), widths
            ),
            Decoder((MultiMixUpLevel(i, o, dropout) for i, o in pairwise(up)), up[1:]),
            output_layer(2, widths[0], out_channels, output_kernel),
            network.stride,
        )
        self.apply(he_init)
