"""Settings of the data augmentation of the fine-tuning."""

from pydantic import Field

from napari_sslseg.core.common.settings_base import Settings


class Augmentation(Settings):
    """Random changes of slices and their labels, applied on the device; 0 turns a change off.

    In ``SelfTraining``, changes of the intensity that are not set are stronger than the defaults
    here: intensity 0.5, noise 0.2, gamma 1 and blur 1.
    """

    translation: float = Field(
        0.1,
        ge=0,
        le=0.5,
        title="Translation",
        description="Largest shift, as a fraction of the slice.",
    )
    rotation: float = Field(
        15.0, ge=0, le=180, title="Rotation", description="Largest angle in degrees."
    )
    crop: float = Field(
        0.25, ge=0, lt=1, title="Crop", description="Largest fraction of each side to crop or add."
    )
    elastic: float = Field(
        0.03,
        ge=0,
        le=0.2,
        title="Elastic",
        description="Standard deviation of the displacement of the control points, as a fraction "
        "of the slice.",
    )
    intensity: float = Field(
        0.2, ge=0, le=1, title="Intensity", description="Largest change of contrast and brightness."
    )
    noise: float = Field(
        0.1, ge=0, le=1, title="Noise", description="Largest standard deviation of added noise."
    )
    gamma: float = Field(
        0.0,
        ge=0,
        le=3,
        title="Intensity curve",
        description="Gamma correction with exponents from 1 / (1 + this) to 1 + this.",
    )
    blur: float = Field(
        0.0, ge=0, le=5, title="Blur", description="Largest standard deviation in pixels."
    )
