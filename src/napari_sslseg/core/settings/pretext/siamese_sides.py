"""Settings of the siamese left/right task. Loads no PyTorch."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings

MULTIPLE = 16
"""Sides of a crop are multiples of this."""


class SiameseSides(PretextSettings):
    """Left or right: the encoder learns whether two organs, such as kidneys, are of one side.

    Dhere & Sivaswamy 2021, *Self-supervised learning for segmentation*: both members of a pair go
    through one encoder; pairs of the same side are pulled together, pairs of opposite sides pushed
    a margin apart. It needs the position of the organ of each side, from masks or from boxes, and
    trains only the encoder of a 3D network, without a head.

    If each scan shows one organ of unknown side, such as a hippocampus, ``sides`` can be "mirror":
    scans are one side, and their mirror images the other. The network then learns to tell the organ
    from its mirror image, but no other differences between the sides. All scans should be of one
    side: with scans of both sides, an organ and the mirror image of one of the other side look the
    same, but the pairs are labelled as different.

    Examples
    --------
    >>> SiameseSides(left=(3,), right=(2,)).build((64, 112, 112)).title
    'Tell left from right organs'
    """

    title: ClassVar[str] = "Tell left from right organs"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.contrast.siamese_task:SiameseTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (3,)
    compares_scans: ClassVar[bool] = True
    uses_masks: ClassVar[bool] = True
    samples: ClassVar[Implementation | None] = (
        "napari_sslseg.core.pretext.contrast.siamese_crops:iter_organ_crops"
    )

    kind: Literal["siamese"] = "siamese"
    crop: tuple[int, int, int] = Field(
        default=(64, 112, 112),
        title="Crop size",
        description="Slices, rows and columns of the region around each organ, multiples of 16; "
        "64 × 112 × 112 in Dhere & Sivaswamy 2021.",
    )
    sides: Literal["masks", "mirror"] = Field(
        default="masks",
        title="Sides",
        description="masks: the side of an organ is given by the labels (or boxes, or the list of "
        "sides). mirror: each scan shows one organ, all of one side; mirror images are the other.",
    )
    left: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        title="Labels of the left organ",
        description="Label values of the organ on the patient's left, such as kidney and tumour.",
    )
    right: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        title="Labels of the right organ",
        description="Label values of the organ on the patient's right.",
    )
    organ: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        title="Labels of both organs",
        description="Label values of the organ on both sides (all values if not set); the scan is "
        "then divided in the middle of its width, as in Dhere & Sivaswamy 2021.",
    )
    case_sides: dict[str, Literal["left", "right"]] | None = Field(
        default=None,
        title="Side of each scan",
        description="For scans that show one organ each: left or right by name of the scan. Other "
        "scans are not used.",
    )
    background: Literal["zero", "keep"] = Field(
        default="zero",
        title="Surroundings",
        description="zero: 0 outside the organ, as in the program of Dhere & Sivaswamy, so that "
        "the surroundings do not reveal the side. keep: the surroundings of the organ stay.",
    )
    embedding: Literal["gap", "flat"] = Field(
        default="gap",
        title="Embedding",
        description="gap: the last features of the encoder, averaged over the crop. flat: all of "
        "them, 28,224 numbers in Dhere & Sivaswamy 2021, whose distances at the start are so "
        "large that opposite sides are not pushed apart at all.",
    )
    normalised: bool = Field(
        default=False,
        title="Embeddings of length 1",
        description="Divide embeddings by their length, so that no distance is above 2.",
    )
    margin: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        title="Margin",
        description="Distance at which opposite sides no longer contribute to the loss; 1 in the "
        "paper.",
    )
    mirror_right: bool = Field(
        default=False,
        title="Mirror right organs",
        description="Use the mirror image of every right organ. Otherwise the orientation alone "
        "may be enough to tell the sides, without size or shape.",
    )

    @model_validator(mode="after")
    def _check(self) -> "SiameseSides":
        if any(n % MULTIPLE or not MULTIPLE <= n <= 1024 for n in self.crop):
            raise ValueError(f"crop must be multiples of {MULTIPLE} up to 1024, not {self.crop}")
        pair = self.left is not None or self.right is not None
        if pair and (self.left is None or self.right is None or set(self.left) & set(self.right)):
            raise ValueError("left and right need different label values")
        if pair and (self.organ is not None or self.case_sides is not None):
            raise ValueError("left and right give the sides; leave out organ and case_sides")
        if self.sides == "mirror" and (pair or self.case_sides is not None or self.mirror_right):
            raise ValueError(
                "sides='mirror' makes the other side from mirror images; leave out left, right, "
                "case_sides and mirror_right"
            )
        if self.normalised and self.margin > 2:
            raise ValueError("embeddings of length 1 are at most 2 apart; take a lower margin")
        return self

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        crop = " × ".join(map(str, self.crop))
        return f"sides from {'mirror images' if self.sides == 'mirror' else 'masks'}, crops {crop}"

    def for_scans(self, names: Iterable[str]) -> "SiameseSides":
        """Return the settings without the sides of scans that are not named."""
        if self.case_sides is None:
            return self
        wanted = set(names)
        left = {name: side for name, side in self.case_sides.items() if name in wanted}
        if not left:
            raise DataError(
                "The sides are given for other scans only, such as "
                f"{next(iter(self.case_sides), 'none')}; give the sides of these scans."
            )
        return self.model_copy(update={"case_sides": left})
