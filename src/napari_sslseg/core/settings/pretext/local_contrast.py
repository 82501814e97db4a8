"""Settings of local contrastive learning. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings
from napari_sslseg.core.settings.stages import Transfer


class LocalContrast(PretextSettings):
    """Local contrastive learning: the decoder tells places of a slice apart.

    Umapathy et al. 2022 after Chaitanya et al. 2020, the second stage after global contrast: small
    regions of the decoder's features are pulled to the same region of another view, and pushed
    away from other regions of both views. Start it from a run of global contrast, whose encoder
    stays frozen; the decoder is trained up to one level, and the head is discarded afterwards.

    Examples
    --------
    >>> LocalContrast(level=2).build((128, 128)).title
    'Tell places apart'
    """

    title: ClassVar[str] = "Tell places apart"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.contrast.local_task:LocalContrastTask"
    )

    transfer: ClassVar[Transfer] = "encoder+decoder"
    kind: Literal["local-contrast"] = "local-contrast"
    temperature: float = Field(
        default=0.1,
        gt=0,
        le=10,
        title="Temperature",
        description="The lower, the more weight the hardest negatives have; 0.1 in Umapathy et al. "
        "2022.",
    )
    level: int = Field(
        default=3,
        ge=1,
        le=8,
        title="Level of the decoder",
        description="Number of levels to train, from the coarsest; all if the decoder has fewer. 3 "
        "in the code of Chaitanya et al. 2020. Later levels are not pretrained.",
    )
    regions: Literal["random", "grid"] = Field(
        default="random",
        title="Regions",
        description="random: anywhere without overlap, negatives from all other regions (Umapathy "
        "et al. 2022). grid: the 13 fixed regions of Chaitanya et al. 2020, negatives from the "
        "nearest.",
    )
    count: int = Field(
        default=13,
        ge=2,
        le=256,
        title="Number of regions",
        description="Regions of each slice, of 3 × 3 places; 13 in Chaitanya et al. 2020.",
    )
    negatives: int = Field(
        default=5,
        ge=1,
        le=255,
        title="Negatives",
        description="Number of negatives of a region in each of the two views; 5 in Chaitanya et "
        "al. 2020.",
    )
    freeze_encoder: bool = Field(
        default=True,
        title="Freeze the encoder",
        description="Keep the encoder of the run to start from unchanged.",
    )
    least_area: float = Field(
        default=1.0,
        gt=0,
        le=1,
        title="Smallest crop",
        description="Smallest fraction of the area of the slice in a view. 1: views differ only in "
        "intensity, as in Chaitanya et al. 2020. Below 1, both views contain all regions.",
    )
    intensity: float = Field(
        default=0.3,
        ge=0,
        le=1,
        title="Change of intensity",
        description="Largest change of contrast and brightness; 0.3 in Chaitanya et al. 2020.",
    )
    embedding: int = Field(
        default=128,
        ge=2,
        le=4096,
        title="Length of the embedding",
        description="Length of the embedding of a region; 128 in Chaitanya et al. 2020.",
    )

    @model_validator(mode="after")
    def _check(self) -> "LocalContrast":
        if self.negatives >= self.count:
            raise ValueError(
                f"{self.count} regions have at most {self.count - 1} negatives, not "
                f"{self.negatives}"
            )
        if self.regions == "grid" and (self.count, self.negatives) != (13, 5):
            raise ValueError(
                "the grid has 13 regions with 5 negatives; leave out count and negatives"
            )
        return self

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"{self.count} {self.regions} regions, decoder level {self.level}"

    def on_start(self, started: bool) -> str | None:
        """Return a remark that the encoder is random if the training starts from scratch.

        Parameters
        ----------
        started : bool
            Whether the network starts from an earlier run.

        Raises
        ------
        ConfigError
            If the encoder is frozen and the training starts from scratch.
        """
        if started:
            return None
        if self.freeze_encoder:
            raise ConfigError(
                "The pretext task local-contrast freezes the encoder, which is random without a "
                "run to start from; start from a run of global-contrast (--init, in Python init=), "
                "or train the encoder as well (in Python freeze_encoder=False)."
            )
        return (
            "Local contrast is the stage after global contrast; without a run to start from, the "
            "encoder is random at first."
        )
