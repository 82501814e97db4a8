"""The 2D U-Net of Umapathy et al. 2022.

The paper says only "2D U-Net-like"; its references lead to Chaitanya et al. 2020: six levels of
16, 32, 64, 128, 128 and 128 channels, each of two 3×3 convolutions with BatchNorm and ReLU, and
max-pooling between them. In the decoder, the up-convolution of the first U-Net (2×2, stride 2) with
BatchNorm and ReLU, concatenation, and again two convolutions. Convolutions before a BatchNorm
have no bias, which it would remove.
"""

from itertools import pairwise

from torch import Tensor, nn

from napari_sslseg.core.networks.parts import (
    Decoder,
    Encoder,
    EncoderDecoder,
    concatenate,
    he_init,
    output_layer,
)
from napari_sslseg.core.settings.networks import UmapathyNetwork


def convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UmapathyUpLevel(nn.Module):
    """Up-convolution, the encoder's features, two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )
        self.convolutions = convolutions(2 * outputs, outputs)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map coarse features and the skip of twice their size to the skip's shape."""
        return self.convolutions(concatenate(self.up(features), skip))


class UmapathyUNet(EncoderDecoder):
    """U-Net from slices to ``out_channels`` scores per pixel.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the slices and of the output.
    network : UmapathyNetwork
        Widths per level.
    output_kernel : {1, 3}
        Kernel of the last layer.
    """

    def __init__(
        self, in_channels: int, out_channels: int, network: UmapathyNetwork, output_kernel: int = 1
    ) -> None:
        widths = network.widths
        up = widths[::-1]
        super().__init__(
            Encoder((convolutions(i, o) for i, o in pairwise((in_channels, *widths))), widths),
            Decoder((UmapathyUpLevel(i, o) for i, o in pairwise(up)), up[1:]),
            output_layer(2, widths[0], out_channels, output_kernel),
            network.stride,
        )
        self.apply(he_init)
