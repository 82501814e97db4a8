"""Settings of learning from unlabelled scans while fine-tuning."""

from typing import Any

from pydantic import Field

from napari_sslseg.core.common.frozen import Settings
from napari_sslseg.core.settings.augmentation import Augmentation

AVERAGE_DECAY = 0.99
"""Of the weights of the teacher, where nothing else is asked for."""

STRONG_GREYS = Augmentation(intensity=0.5, noise=0.2, gamma=1.0, blur=1.0)
"""Grey values that change more than those of labelled slices: the student has it harder."""


class SelfTraining(Settings):
    """How slices without labels contribute to a fine-tuning.

    See :mod:`napari_sslseg.core.segmentation.self_training`.
    """

    begin: float = Field(
        0.4,
        gt=0,
        lt=1,
        title="Begin",
        description="Share of the steps that learn from labelled slices alone. Then the network "
        "labels the others for the first time.",
    )
    rounds: int = Field(
        2,
        ge=1,
        le=100,
        title="Rounds",
        description="How often it labels them, at even distances from there to the end.",
    )
    threshold: float = Field(
        0.7,
        ge=0,
        lt=1,
        title="Confidence",
        description="Least probability at which a pixel counts as labelled.",
    )
    least_part: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Smallest part",
        description="Pieces of a structure that are smaller than this share of its largest piece "
        "in the scan do not count; 0 lets all count, as for structures in many pieces.",
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Weight",
        description="Of what the network labelled, in the loss.",
    )
    augmentation: Augmentation | None = Field(
        STRONG_GREYS,
        title="Random changes",
        description="Of these slices; as of labelled ones if there are none here.",
    )
    cutmix: float = Field(
        0.5,
        ge=0,
        le=1,
        title="CutMix",
        description="Share of these slices that get a box of another one.",
    )


def self_trained(many_pieces: bool = False) -> dict[str, Any]:
    """Fields of the fine-tuning that learns from unlabelled slices, as it comes.

    Parameters
    ----------
    many_pieces : bool
        Whether a structure may be in many pieces, such as lesions, so that small ones count.
    """
    asked = {"least_part": 0.0} if many_pieces else {}
    return {"self_training": asked, "average_decay": AVERAGE_DECAY}
