"""Settings of volume fusion. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings

MOST_BOXES = 62
"""Largest number of boxes; the boxes that cover a pixel are bits of a 64-bit integer."""


class VolumeFusion(PretextSettings):
    """Volume fusion: another image is mixed in within boxes, and the network predicts how strongly.

    Wang et al. 2023, *MIS-FM: 3D medical image segmentation using foundation models pretrained on
    a large-scale unannotated dataset*, on volumes as there, or on slices. The network predicts the
    mixing level of each pixel as a class, with cross entropy and Dice, so that the decoder is
    trained to segment as well. The other image is from the same batch, which therefore needs at
    least two images.

    Examples
    --------
    >>> VolumeFusion().build((128, 128)).title
    'Tell where two images mix'
    """

    title: ClassVar[str] = "Tell where two images mix"
    about: ClassVar[str] = (
        "Two slices are blended in boxes and the network predicts how strongly, and where. "
        "Trains the whole network, including the decoder."
    )
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.fusion_task:VolumeFusionTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    kind: Literal["volume-fusion"] = "volume-fusion"
    levels: int = Field(
        4,
        ge=1,
        le=16,
        title="Mixing levels",
        description="Number of levels above 0, evenly spaced up to 1, which is the other image "
        "only; 4 in Wang et al. 2023, which gives five classes.",
    )
    min_boxes: int = Field(
        10,
        ge=1,
        le=MOST_BOXES,
        title="Fewest boxes",
        description="Smallest number of boxes in an image; 10 in Wang et al. 2023.",
    )
    max_boxes: int = Field(
        40,
        ge=1,
        le=MOST_BOXES,
        title="Most boxes",
        description="Largest number of boxes in an image; 40 in Wang et al. 2023.",
    )
    shortest: int = Field(
        8,
        ge=1,
        le=512,
        title="Shortest side",
        description="Shortest side of a box in pixels; 8 in Wang et al. 2023.",
    )
    longest: float = Field(
        0.625,
        gt=0,
        le=1,
        title="Longest side",
        description="Longest side of a box as a fraction of the image; 0.625 in Wang et al. 2023, "
        "80 of 128 pixels.",
    )

    @model_validator(mode="after")
    def _check(self) -> "VolumeFusion":
        if self.min_boxes > self.max_boxes:
            raise ValueError(
                f"min_boxes must be at most max_boxes, not {self.min_boxes} and {self.max_boxes}"
            )
        return self

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"{self.min_boxes} to {self.max_boxes} boxes, {self.levels} mixing levels"
