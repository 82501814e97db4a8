"""Settings of learning from unlabelled scans while fine-tuning."""

from pydantic import Field

from napari_sslseg.core.settings import Settings

AVERAGE_DECAY = 0.99
"""Of the weights of the teacher, where nothing else is asked for."""


class Consistency(Settings):
    """What unlabelled slices contribute, see :mod:`napari_sslseg.core.consistency`."""

    weight: float = Field(
        1.0,
        gt=0,
        le=100,
        title="Weight",
        description="Largest weight of the unlabelled slices in the loss.",
    )
    ramp: float = Field(
        0.3,
        ge=0,
        le=1,
        title="Ramp",
        description="Share of the steps over which the weight rises.",
    )
    threshold: float = Field(
        0.8,
        ge=0,
        lt=1,
        title="Confidence",
        description="Least probability at which a prediction on an unlabelled pixel counts.",
    )
    cutmix: float = Field(
        0.5,
        ge=0,
        le=1,
        title="CutMix",
        description="Share of the unlabelled slices that get a box of another one.",
    )
