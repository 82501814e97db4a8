"""Parts of the networks: sequences of levels, and encoder, decoder and output together."""

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.networks.base import DecoderPart, EncoderPart
from napari_sslseg.core.settings.networks import fitting_size


class Freezable(nn.Module):
    """A part of a network that can be frozen.

    While it is frozen it has no gradients and stays in evaluation mode, even if the network is set
    to training mode: running averages do not change, and there is no dropout.
    """

    frozen = False

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the part; or unfreeze it, from the next ``train()`` on."""
        self.frozen = frozen
        self.requires_grad_(not frozen)
        if frozen:
            self.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen part stays in evaluation mode."""
        return super().train(mode and not self.frozen)


class Encoder(Freezable):
    """Sequence of levels; returns the features of every level, finest first.

    Parameters
    ----------
    levels : iterable of Module
        Each maps the features of the level before.
    channels : sequence of int
        Channels of the features of each level.
    pool : bool
        Whether max-pooling halves the resolution between levels; otherwise the levels do.
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
    """Levels from the coarsest features to full resolution, with skips from the encoder.

    Parameters
    ----------
    levels : iterable of Module
        Each maps coarse features, and encoder features of twice their size, to that size.
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
        """Return a decoder of the first levels only: the same modules under the same names.

        Its input are the features of these levels, to the coarsest.
        """
        return Decoder(list(self.levels)[:levels], self.channels[:levels])


def level_count(levels: int | None, available: int) -> int:
    """Check the number of levels to decode; all if None."""
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
        """Scores, shape (N, out_channels, …), with the size of the images, which may be any size.

        If the sides of the images are not multiples of the stride, their last rows and columns are
        repeated, and the scores are cropped again.
        """
        fitted = repeat_to_fit(images, self.stride)
        scores = self.output(self.decoder(self.encoder(fitted)))
        if fitted is images:
            return scores
        inside = tuple(slice(side) for side in images.shape[2:])
        return scores[(..., *inside)]


def repeat_to_fit(images: Tensor, stride: int) -> Tensor:
    """Repeat the last rows, columns (and slices) until the size fits the network.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
        Images; returned as they are if they fit.
    stride : int
        Stride of the network.
    """
    sides = images.shape[2:]
    wanted = fitting_size(sides, stride)
    if wanted == tuple(sides):
        return images
    # From the last axis to the first, for functional.pad.
    margins = [
        margin
        for side, target in zip(reversed(sides), reversed(wanted), strict=True)
        for margin in (0, target - side)
    ]
    return functional.pad(images, margins, mode="replicate")


def output_layer(dimensions: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    """Return the last convolution, from features to scores at the same resolution."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return convolution(inputs, outputs, kernel, padding=kernel // 2)


def he_init(module: nn.Module) -> None:
    """Initialise a convolution for ReLU (He) with zero bias; for ``Module.apply``."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def concatenate(features: Tensor, skip: Tensor) -> Tensor:
    """Concatenate decoded features and those of the encoder along the channels."""
    return torch.cat([features, skip], dim=1)
