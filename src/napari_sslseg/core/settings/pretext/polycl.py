"""Settings of PolyCL. Loads no PyTorch."""

from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings

Selection = Literal["scan", "organ", "scan+organ"]
"""Selection of the positives: PolyCL-S, PolyCL-O, PolyCL-M."""


class PolyCL(PretextSettings):
    """PolyCL: slices of one scan, or with the same organ, are positives; others are negatives.

    Moseley & Imran, *PolyCL*. Examples are whole slices without any augmentation: one positive and
    exactly one negative for each anchor. It trains the encoder only.

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
        description="Positives. scan (PolyCL-S): slices of one scan. organ (PolyCL-O): slices that "
        "all contain the organ, or all do not. scan+organ (PolyCL-M): both.",
    )
    organ_slices: dict[str, tuple[int, ...]] | None = Field(
        default=None,
        title="Slices with the organ",
        description="Numbers of the slices that contain the organ, by name of the scan; other "
        "scans are not used. Do not take them from the labels of held-out scans.",
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
                f"selection by {self.selection} needs the slices that contain the organ; give "
                "--masks or --organ-slices (in Python organ_slices=)"
            )
        return self

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"examples by {self.selection}"

    @classmethod
    def needs_masks(cls, options: Mapping[str, object]) -> bool:
        """Whether the selection depends on the organ."""
        return options.get("selection", "scan") != "scan"

    def for_scans(self, names: Iterable[str]) -> "PolyCL":
        """Return the settings without the slices of scans that are not named."""
        if not self.organ_slices:
            return self
        wanted = set(names)
        left = {name: slices for name, slices in self.organ_slices.items() if name in wanted}
        if not left and self.selection != "scan":
            raise DataError(
                "The slices with the organ are given for other scans only, such as "
                f"{next(iter(self.organ_slices))}; use those scans, or give the slices of these."
            )
        return self.model_copy(update={"organ_slices": left or None})
