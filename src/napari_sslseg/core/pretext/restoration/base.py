"""Base class of the tasks that restore a corrupted image."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size, words_for
from napari_sslseg.core.pretext.base import BaseTask


class Corruption(Protocol):
    """Corrupts batches: draws parameters, applies them, and returns the mask of replaced pixels."""

    image_size: Size

    def sample(self, n: int, generator: torch.Generator) -> Any: ...

    def apply(self, images: Tensor, parameters: Any) -> Tensor: ...

    def mask(self, parameters: Any, device: torch.device = ...) -> Tensor: ...


class RestorationTask(BaseTask):
    """Corrupt slices or volumes, restore them with the network, and compare.

    A subclass sets the attributes.

    Attributes
    ----------
    corruption : Corruption
        Corruption of the images.
    compare : callable
        The loss, of restored and original images.
    captions : mapping of str to str
        Captions of the arrays of a preview, see :func:`captions_for`.
    masked_only : bool
        Whether the loss is that of the masked pixels only. A preview then shows the original
        elsewhere, because the output of the network has no meaning there.
    """

    captions: ClassVar[Mapping[str, str]]
    masked_only: ClassVar[bool] = False
    compare: ClassVar[Callable[..., Tensor]]
    corruption: Corruption

    def sample(self, n: int, generator: torch.Generator) -> Any:
        """Draw the parameters of ``n`` images, from a generator on the CPU."""
        return self.corruption.sample(n, generator)

    def apply(self, images: Tensor, parameters: Any) -> Tensor:
        """Corrupt images (N, C, …), which are not changed."""
        return self.corruption.apply(images, parameters)

    def loss(self, model: nn.Module, images: Tensor, parameters: Any) -> Tensor:
        """Corrupt, restore, and compare with the original images.

        Parameters
        ----------
        model : Module
            Takes and returns (N, C, …).
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters
            From :meth:`sample`, for N images.
        """
        return self.compare(model(self.apply(images, parameters)), images)

    def preview(
        self, images: Tensor, parameters: Any, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show the corruption of these images and the output of the network.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters
            From :meth:`sample`, for N images.
        model : Module, optional
            Runs in evaluation mode; its mode is restored afterwards.
        """
        corrupted = self.apply(images, parameters)
        mask = self.corruption.mask(parameters, images.device)
        original = images.cpu().numpy().copy()
        result = None
        if model is not None:
            restored = forward(model, corrupted).float()
            if self.masked_only:
                restored = restored.where(mask, images.float())
            result = restored.cpu().numpy().copy()
        return PretextPreview(
            original=original,
            corrupted=corrupted.cpu().numpy(),
            mask=mask.cpu().numpy(),
            restored=result,
            error=None if result is None else abs(result - original),
            captions=captions_for(self.captions, self.corruption.image_size),
        )


def captions_for(captions: Mapping[str, str], size: Size) -> dict[str, str]:
    """Fill in ``{Image}`` (slice or volume), ``{Places}`` and ``{places}`` (pixels or voxels)."""
    words = words_for(size)
    names = {
        "Image": words.image.capitalize(),
        "Places": words.places.capitalize(),
        "places": words.places,
    }
    return {name: text.format(**names) for name, text in captions.items()}


def forward(model: nn.Module, *inputs: Tensor) -> Tensor:
    """Pass a batch through a model in evaluation mode; its mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return model(*inputs)
    finally:
        model.train(training)
