"""Volume fusion at work: fuse images of a batch, and tell the mixing level of each pixel."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from napari_sslseg.core.common.compute.collectives import all_gather_rows
from napari_sslseg.core.common.pictures import PretextPreview
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.base import BaseTask
from napari_sslseg.core.pretext.corruptions.fusion import FusionParameters, SliceFusion
from napari_sslseg.core.pretext.restoration.base import captions_for, forward
from napari_sslseg.core.settings.pretext.volume_fusion import VolumeFusion


class VolumeFusionTask(BaseTask):
    """Volume fusion (Wang et al. 2023) for images of one size.

    Parameters
    ----------
    settings : VolumeFusion
        Levels and boxes.
    image_size : tuple of int
        Height and width of slices in pixels; or slices, height and width of volumes in voxels.

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
        "restored": "Level told by the network",
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
        """Give the number of output channels: one for each level, 0 included."""
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
        """Fuse images (N, C, …), which stay as they are, with others of the batch."""
        return self.corruption.apply(images, parameters)

    def loss(self, model: nn.Module, images: Tensor, parameters: Any) -> Tensor:
        """Cross entropy and Dice over the batch of the levels that the network tells.

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
        # The sums of Dice run over the batch of all processes.
        return self._compare(all_gather_rows(scores.float()), all_gather_rows(levels[:, None]))

    def preview(
        self, images: Tensor, parameters: FusionParameters, model: nn.Module | None = None
    ) -> PretextPreview:
        """Show what training does to these images, and which levels the network tells.

        Parameters
        ----------
        images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
            Original images, on the model's device.
        parameters : FusionParameters
            From :meth:`sample`, for N images.
        model : Module, optional
            Runs in evaluation mode and is left in the mode it was in.
        """
        fused = self.apply(images, parameters)
        levels = self.corruption.level_map(parameters)[:, None].numpy()
        shares = (levels / self.settings.levels).astype("float32")
        told = None
        if model is not None:
            classes = forward(model, fused).argmax(dim=1, keepdim=True)
            told = (classes.cpu().numpy() / self.settings.levels).astype("float32")
        return PretextPreview(
            original=images.cpu().numpy().copy(),
            corrupted=fused.cpu().numpy(),
            mask=levels > 0,
            restored=told,
            error=None if told is None else abs(told - shares),
            captions=captions_for(self.captions, self.corruption.image_size),
            partner=images[parameters.partners.to(images.device)].cpu().numpy(),
            levels=shares,
        )
