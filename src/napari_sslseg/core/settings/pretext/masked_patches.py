"""Settings of masked image modelling. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings


class MaskedPatches(PretextSettings):
    """Masked image modelling (MAE): most patches of a grid are hidden, and restored.

    The idea of He et al. 2022, *Masked autoencoders are scalable vision learners*, for a U-Net:
    hidden patches become 0 after the normalisation, and the loss is the mean squared error of the
    hidden pixels. Patches are squares in slices and cubes in volumes. If their side does not divide
    that of the image, the border cuts off the last patches.

    Examples
    --------
    >>> MaskedPatches(patch_size=16).build((128, 128)).title
    'Fill in a mostly hidden image'
    """

    title: ClassVar[str] = "Fill in a mostly hidden image"
    about: ClassVar[str] = (
        "Most of a slice is hidden and the network predicts it from the rest. Works best "
        "with many scans and long training."
    )
    short_name: ClassVar[str] = "MAE"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.masked_task:MaskedPatchesTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    patch_share: ClassVar[float | None] = 1 / 8
    """Patch side over image side, for a default: 32 of 256 pixels, 16 of 128 voxels."""

    kind: Literal["mae"] = "mae"
    patch_size: int = Field(
        default=32,
        gt=0,
        le=512,
        title="Patch size",
        description="Side of the patches of the grid in pixels: squares in slices, cubes in "
        "volumes. He et al. 2022 hide patches of 16 on pictures of 224; 32 suits medical slices of "
        "256 × 256, and 16 volumes of 128 × 128 × 128.",
    )
    share: float = Field(
        default=0.75,
        gt=0,
        lt=1,
        title="Hidden fraction",
        description="Fraction of the patches that are hidden, the same number in every image; "
        "three quarters in He et al. 2022.",
    )

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"{self.share:.0%} of patches of {self.patch_size} pixels hidden"
