"""Settings of self-training: learning from unlabelled scans in the fine-tuning."""

from typing import Any, Self

from pydantic import Field, model_validator

from napari_sslseg.core.common.settings_base import Settings, fill_fields
from napari_sslseg.core.settings.augmentation import Augmentation

AVERAGE_DECAY = 0.99
"""Default decay of the moving average of the weights, the teacher."""

STRONG_INTENSITY = Augmentation(intensity=0.5, noise=0.2, gamma=1.0, blur=1.0)
"""Default augmentation of unlabelled slices: stronger intensity changes than for labelled ones."""


class SelfTraining(Settings):
    """Settings of the contribution of unlabelled slices to the loss.

    See :mod:`napari_sslseg.core.segmentation.self_training`.
    """

    begin: float = Field(
        0.4,
        gt=0,
        lt=1,
        title="Begin",
        description="Fraction of the steps that use labelled slices only. After them the network "
        "predicts pseudo-labels for the first time.",
    )
    rounds: int = Field(
        2,
        ge=1,
        le=100,
        title="Rounds",
        description="Number of times the network predicts pseudo-labels, evenly spaced from there "
        "to the end.",
    )
    threshold: float = Field(
        0.7,
        ge=0,
        lt=1,
        title="Confidence",
        description="Smallest probability of a pixel to use its pseudo-label.",
    )
    least_part: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Smallest component",
        description="Connected components smaller than this fraction of the largest one of the "
        "structure in the scan are not used; 0 uses all, for structures of many components.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Weight",
        description="Weight of unlabelled slices in the loss.",
    )
    augmentation: Augmentation | None = Field(
        STRONG_INTENSITY,
        title="Augmentation",
        description="Augmentation of unlabelled slices; None for that of labelled slices. Fields "
        "of it that are not set have stronger changes of the intensity than for labelled slices.",
    )
    cutmix: float = Field(
        0.5,
        ge=0,
        le=1,
        title="CutMix",
        description="Fraction of the unlabelled slices that get a box of another one.",
    )

    @model_validator(mode="after")
    def _fill_augmentation(self) -> Self:
        if self.augmentation is not None:
            strong = STRONG_INTENSITY.model_dump(exclude_unset=True)
            self.__dict__["augmentation"] = fill_fields(self.augmentation, strong)
        return self


def self_trained(many_pieces: bool = False) -> dict[str, Any]:
    """Return the fields of FinetuneSettings for self-training with default settings.

    Parameters
    ----------
    many_pieces : bool
        Whether a structure may have many connected components, such as lesions, so that small
        ones are used as well.
    """
    asked = {"least_part": 0.0} if many_pieces else {}
    return {"self_training": asked, "average_decay": AVERAGE_DECAY}
