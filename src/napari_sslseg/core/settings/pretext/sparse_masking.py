"""Settings of sparse masked modelling. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings


class SparseMasking(PretextSettings):
    """Sparse masked modelling (SparK): the encoder sees only the visible patches.

    Tian et al. 2023, *Designing BERT for convolutional networks: sparse and hierarchical masked
    modeling*. As in masked image modelling patches of a grid are hidden, but no layer of the
    encoder mixes hidden places into visible ones; the decoder gets a learned token instead. The
    loss is the mean squared error of the hidden pixels, with each patch normalised to mean 0 and
    standard deviation 1.

    Examples
    --------
    >>> SparseMasking(patch_size=16).build((128, 128)).title
    'Fill in hidden patches from visible ones'
    """

    title: ClassVar[str] = "Fill in hidden patches from visible ones"
    about: ClassVar[str] = (
        "Like the masked autoencoder, but the network never sees the hidden patches. Works "
        "best with many scans and long training."
    )
    short_name: ClassVar[str] = "SparK"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.sparse_task:SparseMaskingTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    patch_share: ClassVar[float | None] = 1 / 8
    """Patch side over image side, for a default: 32 of 224 pixels in Tian et al. 2023."""
    least_cube: ClassVar[int] = 16
    """Smallest default in volumes: the stride of the networks of volumes."""
    patches_fit_stride: ClassVar[bool] = True

    kind: Literal["spark"] = "spark"
    patch_size: int = Field(
        default=32,
        gt=0,
        le=512,
        title="Patch size",
        description="Side of the patches of the grid in pixels (squares in slices, cubes in "
        "volumes): a multiple of the network's stride. Tian et al. 2023 hide patches of 32 on "
        "pictures of 224.",
    )
    share: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        title="Hidden fraction",
        description="Fraction of the patches that are hidden, the same number in every image; "
        "0.6 in Tian et al. 2023.",
    )

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"{self.share:.0%} of patches of {self.patch_size} pixels hidden"
