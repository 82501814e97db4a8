"""Volume fusion: mix images of a batch, and predict the mixing level of each pixel."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.collectives import all_gather_rows
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.corruptions.fusion import FusionParameters, SliceFusion
from napari_sslseg.core.pretext.restoration.base import captions_for, forward
from napari_sslseg.core.settings.pretext.volume_fusion import VolumeFusion


class VolumeFusionTask(BaseTask):
    """Volume fusion (Wang et al. 2023) for images of one size.

    Raises
    ------
    ConfigError
        If such boxes do not fit the images.
    """

    min_batch = 2
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "partner": "{Image} to mix in",
        "corrupted": "Mixed",
        "levels": "Mixing level (white: 1)",
        "restored": "Level predicted by the network",
        "error": "Difference of the levels",
    }

    settings: VolumeFusion

    def __init__(self, settings: VolumeFusion, image_size: Size, seed: int = 0) -> None:
        from monai.losses import DiceCELoss

        super().__init__(settings, image_size, seed)
        self.corruption = SliceFusion(
            image_size,
            levels=settings.levels,
            boxes=(settings.min_boxes, settings.max_boxes),
            shortest=settings.shortest,
            longest=settings.longest,
        )
        self._compare = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)

    def output_channels(self, in_channels: int) -> int:
        """Return the number of output channels: one for each level, including 0."""
        return self.settings.levels + 1

    def sample(self, n: int, generator: torch.Generator) -> FusionParameters:
        """Draw partners, boxes and levels of ``n`` images, from a generator on the CPU.

        Raises
        ------
        ConfigError
            If there is only one image.
        """
        return self.corruption.sample(n, generator)

    def apply(self, images: Tensor, parameters: FusionParameters) -> Tensor:
        """Mix images (N, C, …), which are not changed, with others of the batch."""
        return self.corruption.apply(images, parameters)

    def loss(self, model: nn.Module, images: Tensor, parameters: Any) -> Tensor:
        """Cross entropy and Dice over the batch of the predicted levels.

        Parameters
        ----------
        model : Module
            From (N, C, …) to scores (N, K + 1, …).
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters : FusionParameters
            From :meth:`sample`, for N images.
        """
        levels = self.corruption.level_map(parameters, images.device)
        scores = model(self.corruption.fuse(images, levels, parameters))
        # Dice is computed over the batch of all processes.
        return self._compare(all_gather_rows(scores.float()), all_gather_rows(levels[:, None]))

    def preview(
        self, images: Tensor, parameters: FusionParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show the mixed images and the predicted levels.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters : FusionParameters
            From :meth:`sample`, for N images.
        model : Module, optional
            Runs in evaluation mode; its mode is restored afterwards.
        """
        fused = self.apply(images, parameters)
        levels = self.corruption.level_map(parameters)[:, None].numpy()
        fractions = (levels / self.settings.levels).astype("float32")
        predicted = None
        if model is not None:
            classes = forward(model, fused).argmax(dim=1, keepdim=True)
            predicted = (classes.cpu().numpy() / self.settings.levels).astype("float32")
        return PretextPreview(
            original=images.cpu().numpy().copy(),
            corrupted=fused.cpu().numpy(),
            mask=levels > 0,
            restored=predicted,
            error=None if predicted is None else abs(predicted - fractions),
            captions=captions_for(self.captions, self.corruption.image_size),
            partner=images[parameters.partners.to(images.device)].cpu().numpy(),
            levels=fractions,
        )
