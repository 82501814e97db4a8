"""Settings of PolyCL. Loads no PyTorch."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.settings.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings

Selection = Literal["scan", "organ", "scan+organ"]
"""By what slices are told alike: PolyCL-S, PolyCL-O, PolyCL-M."""


class PolyCL(PretextSettings):
    """PolyCL: slices of one scan, or with the same organ, are alike; others are not.

    Moseley & Imran, *PolyCL*. Whole slices are examples of each other, without any augmentation:
    one positive and exactly one negative for each anchor. It trains the encoder alone.

    Examples
    --------
    >>> PolyCL(selection="scan").build((128, 128)).title
    'Tell scans or organs apart'
    """

    title: ClassVar[str] = "Tell scans or organs apart"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.contrast.polycl_task:PolyCLTask"
    )
    compares_scans: ClassVar[bool] = True
    uses_masks: ClassVar[bool] = True

    kind: Literal["polycl"] = "polycl"
    selection: Selection = Field(
        default="scan",
        title="Examples",
        description="scan (PolyCL-S): slices of one scan are alike. organ (PolyCL-O): slices on "
        "which the organ is present, or absent, are. scan+organ (PolyCL-M): both.",
    )
    organ_slices: dict[str, tuple[int, ...]] | None = Field(
        default=None,
        title="Slices with the organ",
        description="Numbers of the slices that hold the organ, by name of the scan; scans that "
        "are not named take no part. Never from the labels of scans that are held out.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        le=10,
        title="Temperature",
        description="One over the batch size if not set, as in the paper.",
    )
    embedding: int = Field(default=256, ge=2, le=4096, title="Length of the embedding")

    @model_validator(mode="after")
    def _check(self) -> "PolyCL":
        if self.selection != "scan" and not self.organ_slices:
            raise ValueError(
                f"selection by {self.selection} needs to know on which slices the organ is; give "
                "--masks or --organ-slices (in Python organ_slices=)"
            )
        return self

    @property
    def summary(self) -> str:
        """The settings that matter most, in a few words."""
        return f"examples by {self.selection}"

    @classmethod
    def needs_masks(cls, options: Mapping[str, object]) -> bool:
        """Whether the examples depend on the organ."""
        return options.get("selection", "scan") != "scan"

    def for_scans(self, names: Iterable[str]) -> "PolyCL":
        """Give the task without the slices of scans that are not named."""
        if not self.organ_slices:
            return self
        wanted = set(names)
        left = {name: slices for name, slices in self.organ_slices.items() if name in wanted}
        if not left and self.selection != "scan":
            raise DataError(
                "On which slices the organ is, is known of other scans alone, such as "
                f"{next(iter(self.organ_slices))}; take those, or name the slices of these."
            )
        return self.model_copy(update={"organ_slices": left or None})
