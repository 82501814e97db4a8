"""The 3D network of Dhere & Sivaswamy: a densely connected encoder and a small plain decoder.

Encoder: a 3³ convolution of stride 2 to 4 channels; four blocks of 2, 2, 4 and 8 layers, in which
each layer adds its growth (4, 16, 16, 16 channels) to the output of all before it, by GroupNorm →
ReLU → 3³ convolution; after each block but the last GroupNorm → ReLU → 1³ convolution to 16
channels → 2³ convolution of stride 2. (The paper prints the strided convolution first; the
authors' program has it last.) A crop of 64 × 112 × 112 voxels becomes 144 × 4 × 7 × 7 = 28,224
numbers, the embedding of the paper.

Decoder: each level concatenates the encoder's features of the same resolution, followed by two 3³
convolutions and a transposed convolution of stride 2; the first skip has the resolution of the
embedding, because features are taken after the transitions. One more transposed convolution
compensates the stride of the first layer. Every 3³ convolution is preceded by GroupNorm; the paper
says so of all convolutions.

GroupNorm has 4 groups below 64 channels and 8 from 64 on. If these do not divide the number of
channels, it has the greatest common divisor.
"""

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.networks.parts import (
    EncoderDecoder,
    Freezable,
    concatenate,
    he_init,
    level_count,
    output_layer,
)
from napari_sslseg.core.settings.networks import Dense3dNetwork

MANY_CHANNELS = 64
RECONSTRUCTION_OUTPUT = 16
"""Channels of the last level of the reconstruction; the segmentation has 4."""


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm of 4 groups, 8 from 64 channels on, or their common divisor with the channels."""
    return nn.GroupNorm(gcd(channels, 4 if channels < MANY_CHANNELS else 8), channels)


class NormedConv(nn.Module):
    """GroupNorm, ReLU, convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.norm = group_norm(inputs)
        self.conv = nn.Conv3d(inputs, outputs, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features, shape (N, inputs, D, H, W), to (N, outputs, D, H, W)."""
        return self.conv(functional.relu(self.norm(features)))


class DenseBlock(nn.Module):
    """Densely connected layers: each gets the output of all before it, and adds its growth."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            NormedConv(inputs + number * growth, growth, 3) for number in range(layers)
        )
        self.channels = inputs + layers * growth

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, D, H, W) to (N, inputs + layers · growth, D, H, W)."""
        for layer in self.layers:
            features = torch.cat([features, layer(features)], dim=1)
        return features


class DenseEncoder(Freezable):
    """Stem, dense blocks, and transitions between them.

    Returns the features after each transition, and then those of the last block, which have the
    resolution of the last transition.
    """

    def __init__(self, in_channels: int, network: Dense3dNetwork) -> None:
        super().__init__()
        between = network.transition_channels
        inputs = [network.stem_channels, *[between] * (len(network.layers) - 1)]
        self.stem = nn.Conv3d(in_channels, network.stem_channels, 3, stride=2, padding=1)
        blocks = [
            DenseBlock(i, growth, layers)
            for i, growth, layers in zip(inputs, network.growth, network.layers, strict=True)
        ]
        self.blocks = nn.ModuleList(blocks)
        self.transitions = nn.ModuleList(
            nn.Sequential(
                NormedConv(block.channels, between, 1), nn.Conv3d(between, between, 2, stride=2)
            )
            for block in blocks[:-1]
        )
        self.channels = (*[between] * (len(blocks) - 1), blocks[-1].channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at 1/4, 1/8, 1/16 and again 1/16 of the resolution, with four blocks."""
        features = []
        here = self.stem(images)
        blocks = list(self.blocks)
        for block, transition in zip(blocks[:-1], self.transitions, strict=True):
            here = transition(block(here))
            features.append(here)
        features.append(blocks[-1](here))
        return features

    def modules_by_level(self) -> list[list[nn.Module]]:
        """Each block with the transition that follows it, and the stem with the first one."""
        levels: list[list[nn.Module]] = [[block] for block in self.blocks]
        for level, transition in zip(levels, self.transitions, strict=False):
            level.append(transition)
        levels[0].insert(0, self.stem)
        return levels


class DenseUpLevel(nn.Module):
    """Two 3³ convolutions, then a transposed convolution of stride 2."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(NormedConv(inputs, width, 3), NormedConv(width, width, 3))
        self.up = nn.ConvTranspose3d(width, outputs, 2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, D, H, W) to (N, outputs, 2D, 2H, 2W)."""
        return self.up(self.convolutions(features))


class DenseDecoder(nn.Module):
    """Levels from the embedding to full resolution; the last level only up-samples.

    Parameters
    ----------
    embedding : int
        Channels of the coarsest features.
    skip : int
        Channels of the encoder's features in each level; 0 for a decoder without skips.
    widths : tuple of int
        Channels of the convolutions of each level. Up-sampling halves them except in the last.
    """

    def __init__(self, embedding: int, skip: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.skips = skip > 0
        outputs = [*(max(1, width // 2) for width in widths[:-1]), widths[-1]]
        inputs = [embedding, *outputs[:-1]]
        self.levels = nn.ModuleList(
            DenseUpLevel(i + skip, width, o)
            for i, width, o in zip(inputs, widths, outputs, strict=True)
        )
        self.levels.append(nn.ConvTranspose3d(outputs[-1], outputs[-1], 2, stride=2))
        self.channels = (*outputs, outputs[-1])

    def forward(self, features: list[Tensor], levels: int | None = None) -> Tensor:
        """Features after the first ``levels`` levels; at full resolution after all of them."""
        decoded = features[-1]
        skips = features[-2::-1] if self.skips else []
        wanted = level_count(levels, len(self.levels))
        for number, level in enumerate(list(self.levels)[:wanted]):
            decoded = level(concatenate(decoded, skips[number]) if number < len(skips) else decoded)
        return decoded


class DenseUNet3d(EncoderDecoder):
    """Network from volumes to ``out_channels`` scores per voxel.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the volumes and of the output.
    network : Dense3dNetwork
        Blocks, growth and widths.
    output_kernel : {1, 3}
        Kernel of the last layer; 1 in the paper.
    """

    def __init__(
        self, in_channels: int, out_channels: int, network: Dense3dNetwork, output_kernel: int = 1
    ) -> None:
        encoder = DenseEncoder(in_channels, network)
        decoder = DenseDecoder(
            encoder.channels[-1], network.transition_channels, network.decoder_widths
        )
        output = output_layer(3, decoder.channels[-1], out_channels, output_kernel)
        super().__init__(encoder, decoder, output, network.stride)
        self.apply(he_init)


class ReconstructionDecoder(nn.Module):
    """Restores the image from the embedding alone, without skips: the paper's second branch.

    It is trained together with a network, to keep the encoder from overfitting. It differs from the
    decoder only in its last level.

    Parameters
    ----------
    network : Dense3dNetwork
        Settings of the network.
    embedding_channels : int
        Channels of the coarsest features of the network.
    out_channels : int
        Channels of the image.
    """

    def __init__(self, network: Dense3dNetwork, embedding_channels: int, out_channels: int) -> None:
        super().__init__()
        widths = (*network.decoder_widths[:-1], RECONSTRUCTION_OUTPUT)
        self.decoder = DenseDecoder(embedding_channels, 0, widths)
        self.output = output_layer(3, RECONSTRUCTION_OUTPUT, out_channels, 1)
        self.apply(he_init)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Restore the image from the features of the encoder."""
        return self.output(self.decoder(features))
