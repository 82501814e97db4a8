"""Parts that the networks share: levels one after another, and how the three parts join."""

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.networks.base import DecoderPart, EncoderPart
from napari_sslseg.core.settings.networks import fitting_size


class Freezable(nn.Module):
    """A part of a network that can be kept exactly as it is.

    While it is frozen it has no gradients, and it stays in evaluation mode whatever mode the
    network around it is set to: running averages do not move, and nothing is dropped out.
    """

    frozen = False

    def freeze(self, frozen: bool = True) -> None:
        """Keep the part as it is; or let it learn again, from the next ``train()`` on."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        if frozen:
            self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode, which for a frozen part is that of evaluation."""
        return super().train(mode and not self.frozen)


class Encoder(Freezable):
    """Levels one after another; returns the features of every level, finest first.

    Parameters
    ----------
    levels : iterable of Module
        Each maps the features of the one before.
    channels : sequence of int
        Channels of each level's features.
    pool : bool
        Whether max-pooling halves the features between levels. Otherwise the levels do it.
    """

    def __init__(
        self, levels: Iterable[nn.Module], channels: Sequence[int], pool: bool = True
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.channels = tuple(channels)
        self.pool = pool

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of every level: (N, channels[l], side / 2^l, …)."""
        features = [self.levels[0](images)]
        max_pool = functional.max_pool2d if images.ndim == 4 else functional.max_pool3d
        for level in list(self.levels)[1:]:
            features.append(level(max_pool(features[-1], 2) if self.pool else features[-1]))
        return features

    def modules_by_level(self) -> list[list[nn.Module]]:
        """Modules of each level, finest first."""
        return [[level] for level in self.levels]


class Decoder(nn.Module):
    """Levels from the coarsest features to full resolution, each with the encoder's features.

    Parameters
    ----------
    levels : iterable of Module
        Each maps coarse features, and the encoder's of twice their size, to that size.
    channels : sequence of int
        Channels after each level.
    """

    def __init__(self, levels: Iterable[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self.channels = tuple(channels)

    def forward(self, features: list[Tensor], levels: int | None = None) -> Tensor:
        """Features after the first ``levels`` levels; at full resolution after all of them."""
        decoded = features[-1]
        wanted = level_count(levels, len(self.levels))
        for level, skip in list(zip(self.levels, features[-2::-1], strict=True))[:wanted]:
            decoded = level(decoded, skip)
        return decoded

    def first(self, levels: int) -> "Decoder":
        """Give a decoder of the first levels alone: the same modules by the same names.

        It takes the features from the coarsest on that these levels need.
        """
        return Decoder(list(self.levels)[:levels], self.channels[:levels])


def level_count(levels: int | None, available: int) -> int:
    """Check how many levels to decode; all if not said."""
    if levels is None:
        return available
    if not 0 <= levels <= available:
        raise ValueError(f"levels must lie within 0…{available}, not {levels}")
    return levels


class EncoderDecoder(nn.Module):
    """A :class:`~napari_sslseg.core.networks.base.SegmentationNetwork` of three parts.

    Parameters
    ----------
    encoder, decoder, output : Module
        The parts.
    stride : int
        See :class:`~napari_sslseg.core.networks.base.SegmentationNetwork`.
    """

    encoder: EncoderPart
    decoder: DecoderPart
    output: nn.Module

    def __init__(
        self, encoder: EncoderPart, decoder: DecoderPart, output: nn.Module, stride: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output = output
        self.stride = stride

    @property
    def embedding_channels(self) -> int:
        """Channels of the coarsest features."""
        return self.encoder.channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Scores, shape (N, out_channels, …), of the size of the images whatever it is.

        Images whose sides are no multiples of the stride go through with their last rows and
        columns repeated, and the scores of those are cut off again.
        """
        fitted = repeat_to_fit(images, self.stride)
        scores = self.output(self.decoder(self.encoder(fitted)))
        if fitted is images:
            return scores
        inside = tuple(slice(side) for side in images.shape[2:])
        return scores[(..., *inside)]


def repeat_to_fit(images: Tensor, stride: int) -> Tensor:
    """Repeat the last rows, columns (and slices) until the network takes the images.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
        Returned as they are if they fit.
    stride : int
        Stride of the network.
    """
    sides = images.shape[2:]
    wanted = fitting_size(sides, stride)
    if wanted == tuple(sides):
        return images
    # From the last axis to the first, as functional.pad has it.
    margins = [
        margin
        for side, target in zip(reversed(sides), reversed(wanted), strict=True)
        for margin in (0, target - side)
    ]
    return functional.pad(images, margins, mode="replicate")


def output_layer(dimensions: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    """Last convolution, from features to scores at the same resolution."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return convolution(inputs, outputs, kernel, padding=kernel // 2)


def he_init(module: nn.Module) -> None:
    """He initialisation of a convolution for ReLU, with zero bias; for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def joined(features: Tensor, skip: Tensor) -> Tensor:
    """Decoded features and the encoder's, one after the other along the channels."""
    return torch.cat([features, skip], dim=1)
