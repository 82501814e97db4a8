"""Settings of masked-pixel regression. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.pretext.base import PretextSettings


class MaskedPixels(PretextSettings):
    """Masked-pixel regression: single pixels become noise, and the network predicts their values.

    Umapathy et al. 2022, *Learning to segment with limited annotations: self-supervised
    pretraining with regression and contrastive loss in MRI*. The loss is the mean absolute error of
    the replaced pixels. The paper scales intensities to 0…1, where the
    noise around 0 is dark.

    Examples
    --------
    >>> MaskedPixels().build((128, 128)).title
    'Restore masked pixels'
    """

    title: ClassVar[str] = "Restore masked pixels"
    about: ClassVar[str] = (
        "Single pixels become noise and the network predicts their values. Fast, but learns "
        "texture rather than anatomy."
    )
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.masked_task:MaskedPixelsTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    kind: Literal["masked-pixels"] = "masked-pixels"
    share: float = Field(
        0.1,
        gt=0,
        lt=1,
        title="Masked fraction",
        description="Fraction of the pixels (voxels of a volume) that are replaced, the same "
        "number in every image; a tenth in Umapathy et al. 2022.",
    )
    sigma: float = Field(
        0.01,
        ge=0,
        le=10,
        title="Noise",
        description="Standard deviation of the noise around 0 that replaces the pixels, in units "
        "of the normalised intensities; 0.01 in Umapathy et al. 2022.",
    )

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"{self.share:.0%} of the pixels"

    def remark(self, preprocessing: AnyPreprocessing) -> str | None:
        """Return a remark unless intensities are scaled to 0…1."""
        if preprocessing.normalize == "unit":
            return None
        return (
            "Masked pixels become noise around 0, which is the mean of z-scored images and not "
            'their darkest value; Umapathy et al. 2022 scale to 0…1 (normalisation "unit").'
        )
