"""Settings of context restoration. Loads no PyTorch: the task itself is made by ``build``."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.settings.pretext.base import PretextSettings

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.restoration.patch_task import (
        ContextPredictionTask,
        ContextRestorationTask,
    )

Sampling = Literal["poisson-disc", "uniform"]
"""How patches are placed: with a least distance between them, or anywhere."""


class PatchSettings(PretextSettings):
    """Which patches are corrupted: what context restoration and prediction share."""

    title: ClassVar[str]
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    patch_share: ClassVar[float] = 1 / 16
    """Patch side over image side, for a default: 32 of 512 pixels in Dominic et al. 2023."""

    patch_size: int = Field(
        default=32,
        gt=0,
        le=512,
        title="Patch size",
        description="Side of the patches that are corrupted, in pixels: squares of slices, cubes "
        "of volumes. Dominic et al. 2023 compare 64, 32, 16 and 8 and find 32 best, on slices of "
        "512 × 512.",
    )
    sampling: Sampling = Field(
        default="poisson-disc",
        title="Placement of patches",
        description="poisson-disc keeps patches apart and spreads them over the image; uniform "
        "places them anywhere, even on each other. Dominic et al. 2023 find poisson-disc best.",
    )
    min_area: float = Field(
        default=0.25,
        gt=0,
        le=0.9,
        title="Corrupted share",
        description="Patches are added until at least this share of the slice or volume "
        "is corrupted; a quarter in Dominic et al. 2023. At most 0.3 with poisson-disc.",
    )
    n_masks: int = Field(
        default=100,
        gt=0,
        le=10_000,
        title="Number of masks",
        description="Arrangements of patches made in advance. Each image gets one of them, turned "
        "at random, each time it is shown; 100 in Dominic et al. 2023.",
    )

    @property
    def summary(self) -> str:
        """The settings that matter most, in a few words."""
        return f"patches of {self.patch_size} pixels, {self.sampling}"


class ContextRestoration(PatchSettings):
    """Context restoration: patches of an image change places, and the network puts them back.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*. The defaults are the best of the designs
    compared there, found on MR and CT slices of 512 × 512 pixels. Volumes, which the paper has
    none of, are treated alike, with cubes for squares.

    Examples
    --------
    >>> ContextRestoration(patch_size=16).build((128, 128)).title
    'Restore swapped patches'
    """

    title: ClassVar[str] = "Restore swapped patches"
    kind: Literal["context-restoration"] = "context-restoration"

    def build(self, image_size: Size, seed: int = 0) -> "ContextRestorationTask":
        """Make the task for images of one size.

        Parameters
        ----------
        image_size : tuple of int
            Height and width of slices in pixels; or slices, height and width of volumes in voxels.
        seed : int
            Seed of the masks that are made in advance.

        Raises
        ------
        ConfigError
            If such patches do not fit the images; the message names a size that does.
        """
        from napari_sslseg.core.pretext.restoration.patch_task import ContextRestorationTask

        return ContextRestorationTask(self, image_size, seed)


class ContextPrediction(PatchSettings):
    """Context prediction: patches of an image are erased, and the network fills them in.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*. Patches lie as in context restoration and
    become 0 after the normalisation, which is the mean of z-scored images. The loss runs over the
    whole image.

    Examples
    --------
    >>> ContextPrediction(patch_size=16).build((128, 128)).title
    'Fill in erased patches'
    """

    title: ClassVar[str] = "Fill in erased patches"
    kind: Literal["context-prediction"] = "context-prediction"

    def build(self, image_size: Size, seed: int = 0) -> "ContextPredictionTask":
        """Make the task for images of one size.

        Parameters
        ----------
        image_size : tuple of int
            Height and width of slices in pixels; or slices, height and width of volumes in voxels.
        seed : int
            Seed of the masks that are made in advance.

        Raises
        ------
        ConfigError
            If such patches do not fit the images; the message names a size that does.
        """
        from napari_sslseg.core.pretext.restoration.patch_task import ContextPredictionTask

        return ContextPredictionTask(self, image_size, seed)
