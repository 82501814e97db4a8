"""Settings of local contrastive learning. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.settings.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings
from napari_sslseg.core.settings.stages import Transfer


class LocalContrast(PretextSettings):
    """Local contrastive learning: the decoder tells places of a slice apart.

    Umapathy et al. 2022 after Chaitanya et al. 2020, the second stage after global contrast: small
    regions of the decoder's features are pulled to the same region of another view, and pushed
    away from other regions of both views. Start it from a run of global contrast, whose encoder
    stays as it is; the decoder is trained up to one level, and the head is thrown away afterwards.

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
        description="How much the hardest negatives count; 0.1 in Umapathy et al. 2022.",
    )
    level: int = Field(
        default=3,
        ge=1,
        le=8,
        title="Level of the decoder",
        description="Levels that are trained, from the coarsest; all of a decoder with fewer. 3 in "
        "the code of Chaitanya et al. 2020. Later levels are not pretrained.",
    )
    regions: Literal["random", "grid"] = Field(
        default="random",
        title="Regions",
        description="random: anywhere, without overlap, negatives among all others (Umapathy et "
        "al. 2022). grid: the 13 fixed ones of Chaitanya et al. 2020, negatives among the nearest.",
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
        description="Other regions that are negatives, from each of both views; 5 in Chaitanya et "
        "al. 2020.",
    )
    freeze_encoder: bool = Field(
        default=True,
        title="Keep the encoder",
        description="Leave the encoder just as the run to start from has it.",
    )
    least_area: float = Field(
        default=1.0,
        gt=0,
        le=1,
        title="Smallest crop",
        description="Smallest share of the slice's area that a view shows. 1: views differ in "
        "intensity alone, as in Chaitanya et al. 2020. Below 1, both show all regions.",
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
        description="Numbers that stand for a region; 128 in Chaitanya et al. 2020.",
    )

    @model_validator(mode="after")
    def _check(self) -> "LocalContrast":
        if self.negatives >= self.count:
            raise ValueError(
                f"{self.count} regions have at most {self.count - 1} negatives, not "
                f"{self.negatives}"
            )
        if self.regions == "grid" and (self.count, self.negatives) != (13, 5):
            raise ValueError("the grid has 13 regions with 5 negatives; leave count and negatives")
        return self

    @property
    def summary(self) -> str:
        """The settings that matter most, in a few words."""
        return f"{self.count} {self.regions} regions, decoder level {self.level}"

    def on_start(self, started: bool) -> str | None:
        """Refuse to train a decoder on a random encoder that stays so, or say that it is random.

        Parameters
        ----------
        started : bool
            Whether the network starts from an earlier run.

        Raises
        ------
        ConfigError
            If the encoder is frozen and there is nothing to start from.
        """
        if started:
            return None
        if self.freeze_encoder:
            raise ConfigError(
                "The pretext task local-contrast leaves the encoder as it is, which from scratch "
                "is random; start from a run of global-contrast (--init, in Python init=), or "
                "train the encoder as well (in Python freeze_encoder=False)."
            )
        return (
            "Local contrast is the stage after global contrast; without a run to start from, the "
            "encoder is random at first."
        )
