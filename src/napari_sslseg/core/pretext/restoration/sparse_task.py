"""Sparse masked modelling: hide patches from the encoder, and restore them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import words_for
from napari_sslseg.core.networks.parts import EncoderDecoder
from napari_sslseg.core.pretext.restoration.base import forward
from napari_sslseg.core.pretext.restoration.masked_task import GridTask
from napari_sslseg.core.pretext.restoration.sparse_network import SparseNetwork

EPSILON = 1e-6
"""Added to the variance of a patch."""


class SparseMaskingTask(GridTask):
    """Sparse masked modelling (Tian et al. 2023) for images of one size.

    Raises
    ------
    ConfigError
        If no patch would be hidden or none would be visible; the message names a size that fits.
    """

    def wrap(self, network: EncoderDecoder) -> SparseNetwork:
        """Make the sparse network of the parts of a network.

        Raises
        ------
        ConfigError
            If the patch size is no multiple of its stride, or its normalisation is not supported.
        """
        if self.settings.patch_size % network.stride:
            raise ConfigError(
                f"Patches of {self.settings.patch_size} "
                f"{words_for(self.corruption.image_size).places} are no multiple of the stride of "
                f"this network; choose a patch size that is a multiple of {network.stride}."
            )
        return SparseNetwork(network)

    def loss(self, model: nn.Module, images: Tensor, parameters: Any) -> Tensor:
        """Mean squared error of the hidden pixels, with normalised patches.

        Parameters
        ----------
        model : Module
            From :meth:`wrap`.
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters : GridParameters
            From :meth:`sample`, for N images.
        """
        mask = self.corruption.mask(parameters, images.device)
        mean, deviation = patch_statistics(images, self.settings.patch_size)
        output = model(self.corruption.fill(images, mask, parameters), ~mask)
        return self.compare(output, (images - mean) / deviation, mask)

    def preview(
        self, images: Tensor, parameters: Any, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show the corruption of these images and the output of the network.

        The output is scaled by the mean and standard deviation of each patch.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters : GridParameters
            From :meth:`sample`, for N images.
        model : Module, optional
            From :meth:`wrap`; runs in evaluation mode; its mode is restored afterwards.
        """
        if model is None:
            return super().preview(images, parameters)
        visible = ~self.corruption.mask(parameters, images.device)
        mean, deviation = patch_statistics(images, self.settings.patch_size)

        class Rescaled(nn.Module):
            """The model with its output in the intensities of the images."""

            def forward(self, corrupted: Tensor) -> Tensor:
                assert model is not None
                return forward(model, corrupted, visible).float() * deviation + mean

        return super().preview(images, parameters, Rescaled())


def patch_statistics(images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the patch of each pixel, both of the shape of the images.

    Patches cut off by the border are averaged over their own pixels.
    """
    sides = images.shape[2:]
    # From the last axis to the first, as functional.pad has it.
    margins = [margin for length in reversed(sides) for margin in (0, -length % side)]
    pool = functional.avg_pool2d if len(sides) == 2 else functional.avg_pool3d

    def averaged(values: Tensor) -> Tensor:
        inside = functional.pad(torch.ones_like(values[:1, :1]), margins)
        means = pool(functional.pad(values, margins), side) / pool(inside, side)
        for axis, length in enumerate(sides, start=2):
            means = means.repeat_interleave(side, axis).narrow(axis, 0, length)
        return means

    values = images.float()
    mean = averaged(values)
    return mean, (averaged((values - mean).square()) + EPSILON).sqrt()
