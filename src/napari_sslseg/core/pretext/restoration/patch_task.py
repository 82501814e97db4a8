"""Context restoration and context prediction: swap or erase patches, and restore the image."""

from collections.abc import Mapping
from typing import ClassVar

from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.corruptions.patch_swap import PatchErase, PatchSwap
from napari_sslseg.core.pretext.restoration.base import RestorationTask
from napari_sslseg.core.pretext.restoration.losses import restoration_l2
from napari_sslseg.core.settings.pretext.context_patches import PatchSettings


class _PatchTask(RestorationTask):
    """Restoration of swapped or erased patches; the loss is that of the whole image."""

    compare = staticmethod(restoration_l2)  # equation A1
    corrupt: type[PatchSwap]

    settings: PatchSettings

    def __init__(self, settings: PatchSettings, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self.corruption = self.corrupt(
            image_size,
            patch_size=settings.patch_size,
            sampling=settings.sampling,
            min_area=settings.min_area,
            n_masks=settings.n_masks,
            seed=seed,
        )


class ContextRestorationTask(_PatchTask):
    """Context restoration (Dominic et al. 2023) for images of one size.

    Raises
    ------
    ConfigError
        If such patches do not fit the images; the message names a size that does.
    """

    corrupt = PatchSwap
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "corrupted": "Patches swapped",
        "mask": "Swapped {places}",
        "restored": "Restored",
        "error": "Absolute error",
    }


class ContextPredictionTask(_PatchTask):
    """Context prediction (Dominic et al. 2023) for images of one size.

    Raises
    ------
    ConfigError
        If such patches do not fit the images; the message names a size that does.
    """

    corrupt = PatchErase
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "corrupted": "Patches erased",
        "mask": "Erased {places}",
        "restored": "Restored",
        "error": "Absolute error",
    }
