"""Settings of the siamese left/right task. Loads no PyTorch."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.settings.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings

MULTIPLE = 16


class SiameseSides(PretextSettings):
    """Left or right: the encoder tells whether two organs, such as kidneys, are of one side.

    Dhere & Sivaswamy 2021, *Self-supervised learning for segmentation*: both members of a pair go
    through one encoder; pairs of the same side are pulled together, pairs of opposite sides pushed
    a margin apart. It needs to know where the organ of each side is, from masks or from boxes, and
    trains the encoder of a 3D network alone, without any head.

    Where each scan shows one organ whose side nobody knows, such as a hippocampus, ``sides`` can
    be "mirror": scans count as one side, their mirror images as the other. The network then learns
    how the organ is handed, that is to tell it from its mirror image, and nothing of how the two
    sides differ otherwise. All scans should be of one side: among scans of both sides an organ and
    the mirror image of the other side's look alike, and the pairs say the opposite.

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
        "napari_sslseg.core.pretext.contrast.organ_crops:iter_organ_crops"
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
        description="masks: the labels (or boxes, or the list of sides) say which side an organ "
        "is of. mirror: each scan shows one organ, all of one side; mirror images are the other.",
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
        description="Label values that both sides share (all, if nothing is set); the scan is then "
        "halved in the middle of its width, as in Dhere & Sivaswamy 2021.",
    )
    case_sides: dict[str, Literal["left", "right"]] | None = Field(
        default=None,
        title="Side of each scan",
        description="For scans that show one organ each: left or right by name of the scan. Scans "
        "that are not named take no part.",
    )
    background: Literal["zero", "keep"] = Field(
        default="zero",
        title="Surroundings",
        description="zero: 0 wherever the organ is not, as in the program of Dhere & Sivaswamy, so "
        "that the place in the body gives nothing away. keep: what surrounds the organ stays.",
    )
    embedding: Literal["gap", "flat"] = Field(
        default="gap",
        title="Embedding",
        description="gap: the encoder's last features, averaged over the crop. flat: all of them, "
        "28,224 numbers in Dhere & Sivaswamy 2021, which lie so far apart at the start that "
        "opposite sides are not pushed at all.",
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
        description="Distance from which opposite sides are far enough apart; 1 in the paper.",
    )
    mirror_right: bool = Field(
        default=False,
        title="Mirror right organs",
        description="Show the mirror image of every right organ. Else it may be enough to tell how "
        "an organ is handed, without looking at its size or shape.",
    )

    @model_validator(mode="after")
    def _check(self) -> "SiameseSides":
        if any(n % MULTIPLE or not MULTIPLE <= n <= 1024 for n in self.crop):
            raise ValueError(f"crop must be multiples of {MULTIPLE} up to 1024, not {self.crop}")
        pair = self.left is not None or self.right is not None
        if pair and (self.left is None or self.right is None or set(self.left) & set(self.right)):
            raise ValueError("left and right need different label values")
        if pair and (self.organ is not None or self.case_sides is not None):
            raise ValueError("left and right say the sides; leave out organ and case_sides")
        if self.sides == "mirror" and (pair or self.case_sides is not None or self.mirror_right):
            raise ValueError(
                "sides='mirror' makes the other side itself; leave out left, right, case_sides and "
                "mirror_right"
            )
        if self.normalised and self.margin > 2:
            raise ValueError("embeddings of length 1 are at most 2 apart; take a lower margin")
        return self

    @property
    def summary(self) -> str:
        """The settings that matter most, in a few words."""
        crop = " × ".join(map(str, self.crop))
        return f"sides from {'mirror images' if self.sides == 'mirror' else 'masks'}, crops {crop}"

    def for_scans(self, names: Iterable[str]) -> "SiameseSides":
        """Give the task without the sides of scans that are not named."""
        if self.case_sides is None:
            return self
        wanted = set(names)
        left = {name: side for name, side in self.case_sides.items() if name in wanted}
        if not left:
            raise DataError(
                "Which side each scan shows is known of other scans alone, such as "
                f"{next(iter(self.case_sides), 'none')}; name the sides of these."
            )
        return self.model_copy(update={"case_sides": left})
