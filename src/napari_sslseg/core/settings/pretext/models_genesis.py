"""Settings of Models Genesis. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings


class ModelsGenesis(PretextSettings):
    """Models Genesis: an image is distorted in several ways at once, and the network restores it.

    After Zhou et al. 2019, *Models Genesis: generic autodidactic models for 3D medical image
    analysis*, on volumes as there, or on slices: intensities are changed by a rising or falling
    curve, pixels are shuffled within small windows, and boxes, or everything outside them, are
    painted over. Each distortion has its own probability. The loss is the mean squared error of the
    whole image.

    Examples
    --------
    >>> ModelsGenesis().build((128, 128)).title
    'Undo several distortions'
    """

    title: ClassVar[str] = "Undo several distortions"
    about: ClassVar[str] = (
        "Intensities are distorted and regions shuffled or painted over; the network "
        "restores the slice. For scans that differ much in brightness."
    )
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.restoration.genesis_task:ModelsGenesisTask"
    )
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    kind: Literal["models-genesis"] = "models-genesis"
    curve_rate: float = Field(
        0.9,
        ge=0,
        le=1,
        title="Intensity curve",
        description="Probability that the intensities of an image are changed by a random curve, "
        "which rises or falls; 0.9 in the configuration of Zhou et al. 2019.",
    )
    shuffle_rate: float = Field(
        0.5,
        ge=0,
        le=1,
        title="Local shuffling",
        description="Probability that the pixels of an image are shuffled within small windows; "
        "0.5 in the configuration of Zhou et al. 2019.",
    )
    paint_rate: float = Field(
        0.9,
        ge=0,
        le=1,
        title="Painting",
        description="Probability that a part of an image is painted over; 0.9 in the "
        "configuration of Zhou et al. 2019.",
    )
    outside_rate: float = Field(
        0.8,
        ge=0,
        le=1,
        title="Outside",
        description="Probability that an image is painted over outside the boxes rather than "
        "inside; 0.8 in the configuration of Zhou et al. 2019.",
    )
    max_area: float = Field(
        0.25,
        gt=0,
        le=0.9,
        title="Painted fraction",
        description="Largest fraction of an image that is painted over; a quarter in Zhou et al. "
        "2019.",
    )

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return "intensity curves, local shuffling, painting over"
