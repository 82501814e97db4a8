"""Settings of context restoration. Loads no PyTorch."""

from math import prod
from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.common.sizes import Size, words_for
from napari_sslseg.core.settings.patch_size import PATCH_SHARE
from napari_sslseg.core.settings.pretext.base import PretextSettings

Sampling = Literal["poisson-disc", "uniform"]
"""Placement of patches: with a smallest distance between them, or anywhere."""


class PatchSettings(PretextSettings):
    """Settings of the patches of context restoration and context prediction."""

    title: ClassVar[str]
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    patch_share: ClassVar[float | None] = PATCH_SHARE

    patch_size: int = Field(
        default=32,
        gt=0,
        le=512,
        title="Patch size",
        description="Side of the corrupted patches in pixels: squares in slices, cubes in volumes. "
        "Dominic et al. 2023 compare 64, 32, 16 and 8 and find 32 best, on slices of 512 × 512.",
    )
    sampling: Sampling = Field(
        default="poisson-disc",
        title="Placement of patches",
        description="poisson-disc keeps patches apart and spreads them over the image; uniform "
        "places them anywhere, with overlap. Dominic et al. 2023 find poisson-disc best.",
    )
    min_area: float = Field(
        default=0.25,
        gt=0,
        le=0.9,
        title="Corrupted fraction",
        description="Patches are added until at least this fraction of the slice or volume "
        "is corrupted; a quarter in Dominic et al. 2023. At most 0.3 with poisson-disc.",
    )
    n_masks: int = Field(
        default=100,
        gt=0,
        le=10_000,
        title="Number of masks",
        description="Arrangements of patches drawn in advance. In each step an image gets one of "
        "them, rotated at random; 100 in Dominic et al. 2023.",
    )

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"patches of {self.patch_size} pixels, {self.sampling}"

    def loss_remark(self, size: Size) -> str:
        """Return the unit of the loss, a sum over the image."""
        count, words = prod(size), words_for(size)
        return (
            f"The loss is the squared error summed over the {count:,} {words.places} of a "
            f"{words.image} (Dominic et al. 2023, equation A1), so thousands are usual at first; "
            f"divided by {count:,} it is that of a {words.place}."
        )


class ContextRestoration(PatchSettings):
    """Context restoration: patches of an image swap places, and the network restores the image.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*. The defaults are the best of the designs
    compared there, on MR and CT slices of 512 × 512 pixels. The paper has no volumes; here they are
    treated in the same way, with cubes instead of squares.

    Examples
    --------
    >>> ContextRestoration(patch_size=16).build((128, 128)).title
    'Restore swapped patches'
    """

    title: ClassVar[str] = "Restore swapped patches"
    about: ClassVar[str] = (
        "Patches of a slice swap places and the network restores the slice. A good first "
        "choice for MR and CT."
    )
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.patch_task:ContextRestorationTask"
    )
    kind: Literal["context-restoration"] = "context-restoration"


class ContextPrediction(PatchSettings):
    """Context prediction: patches of an image are erased, and the network fills them in.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*. Patches are placed as in context restoration
    and set to 0 after the normalisation, which is the mean of z-scored images. The loss is that of
    the whole image.

    Examples
    --------
    >>> ContextPrediction(patch_size=16).build((128, 128)).title
    'Fill in erased patches'
    """

    title: ClassVar[str] = "Fill in erased patches"
    about: ClassVar[str] = (
        "Patches of a slice are erased and the network fills them in. Similar to swapping; "
        "try it where swapped patches are hardly visible."
    )
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.patch_task:ContextPredictionTask"
    )
    kind: Literal["context-prediction"] = "context-prediction"
