"""Context restoration at work: swap patches, restore, compare."""

import torch
from torch import Tensor, nn

from napari_sslseg.core.corruptions import PatchSwap, SwapParameters
from napari_sslseg.core.losses import restoration_l2
from napari_sslseg.core.pretext.base import PretextPreview
from napari_sslseg.core.pretext.context_restoration import ContextRestoration

CAPTIONS = {
    "original": "Original",
    "corrupted": "Patches swapped",
    "mask": "Swapped pixels",
    "restored": "Restored by the network",
    "error": "Absolute error",
}


class ContextRestorationTask:
    """Context restoration (Dominic et al. 2023) for slices of one size.

    Parameters
    ----------
    settings : ContextRestoration
        Patches and masks.
    image_size : tuple of int
        Height and width of the slices in pixels.
    seed : int
        Seed of the masks that are made in advance.

    Raises
    ------
    ConfigError
        If such patches do not fit the slices; the message names a size that does.
    """

    name = "context-restoration"
    title = "Restore swapped patches"

    def __init__(
        self, settings: ContextRestoration, image_size: tuple[int, int], seed: int = 0
    ) -> None:
        self.settings = settings
        self.swap = PatchSwap(
            image_size,
            patch_size=settings.patch_size,
            sampling=settings.sampling,
            min_area=settings.min_area,
            n_masks=settings.n_masks,
            seed=seed,
        )

    def head(self, in_channels: int) -> int:
        """Give the number of output channels: the image's own."""
        return in_channels

    def sample(self, n: int, generator: torch.Generator) -> SwapParameters:
        """Draw mask, symmetry and pairs for ``n`` images, from a generator on the CPU."""
        return self.swap.sample(n, generator)

    def apply(self, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Swap patches of images (N, C, H, W), which stay as they are."""
        return self.swap.apply(images, parameters)

    def loss(self, model: nn.Module, images: Tensor, parameters: SwapParameters) -> Tensor:
        """Squared error of the restored whole images, summed over pixels (equation A1).

        Parameters
        ----------
        model : Module
            Takes and returns (N, C, H, W).
        images : Tensor, shape (N, C, H, W)
            Original slices, on the model's device.
        parameters : SwapParameters
            From :meth:`sample`, for N images.
        """
        return restoration_l2(model(self.apply(images, parameters)), images)

    def preview(
        self, images: Tensor, parameters: SwapParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show what training does to these images, and what the network makes of it.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W)
            Original slices, on the model's device.
        parameters : SwapParameters
            From :meth:`sample`, for N images.
        model : Module, optional
            Runs in evaluation mode and is left in the mode it was in.
        """
        corrupted = self.apply(images, parameters)
        restored = None if model is None else _restore(model, corrupted)
        original = images.cpu().numpy().copy()
        result = None if restored is None else restored.float().cpu().numpy().copy()
        return PretextPreview(
            original=original,
            corrupted=corrupted.cpu().numpy(),
            mask=self.swap.mask(parameters).numpy(),
            restored=result,
            error=None if result is None else abs(result - original),
            captions=CAPTIONS,
        )


def _restore(model: nn.Module, corrupted: Tensor) -> Tensor:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(corrupted)
    finally:
        model.train(training)
