"""Masked pixels and masked patches; the loss is that of the masked pixels only."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.corruptions.masks import GridMask, PixelNoise
from napari_sslseg.core.pretext.restoration.base import Corruption, RestorationTask
from napari_sslseg.core.pretext.restoration.losses import masked_l1, masked_l2
from napari_sslseg.core.settings.pretext.masked_patches import MaskedPatches
from napari_sslseg.core.settings.pretext.masked_pixels import MaskedPixels
from napari_sslseg.core.settings.pretext.sparse_masking import SparseMasking


class Masking(Corruption, Protocol):
    """A corruption that replaces the pixels of a mask only."""

    def fill(self, images: Tensor, mask: Tensor, parameters: Any) -> Tensor: ...


class _MaskedTask(RestorationTask):
    """Restoration of the pixels of a mask, compared there only."""

    masked_only = True
    corruption: Masking

    def loss(self, model: nn.Module, images: Tensor, parameters: Any) -> Tensor:
        """Mean error of the masked pixels.

        Parameters
        ----------
        model : Module
            Takes and returns (N, C, …).
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters
            From :meth:`sample`, for N images.
        """
        mask = self.corruption.mask(parameters, images.device)
        return self.compare(model(self.corruption.fill(images, mask, parameters)), images, mask)


class GridTask(_MaskedTask):
    """Restoration of hidden patches of a grid."""

    compare = staticmethod(masked_l2)
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "corrupted": "Patches hidden",
        "mask": "Hidden {places}",
        "restored": "Filled in by the network",
        "error": "Absolute error",
    }

    settings: MaskedPatches | SparseMasking

    def __init__(
        self, settings: MaskedPatches | SparseMasking, image_size: Size, seed: int = 0
    ) -> None:
        super().__init__(settings, image_size, seed)
        self.corruption = GridMask(image_size, settings.patch_size, settings.share)


class MaskedPixelsTask(_MaskedTask):
    """Masked-pixel regression (Umapathy et al. 2022) for images of one size.

    Raises
    ------
    ConfigError
        If the fraction is rounded to no pixel, or to all.
    """

    compare = staticmethod(masked_l1)
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "corrupted": "{Places} replaced by noise",
        "mask": "Replaced {places}",
        "restored": "Restored",
        "error": "Absolute error",
    }

    settings: MaskedPixels

    def __init__(self, settings: MaskedPixels, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self.corruption = PixelNoise(image_size, settings.share, settings.sigma)


class MaskedPatchesTask(GridTask):
    """Masked image modelling (He et al. 2022) for images of one size.

    Raises
    ------
    ConfigError
        If no patch would be hidden or none would be visible; the message names a size that fits.
    """
