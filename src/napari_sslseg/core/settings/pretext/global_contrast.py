"""Settings of global contrastive learning. Loads no PyTorch."""

from typing import ClassVar, Literal

from pydantic import Field

from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.settings.pretext.base import PretextSettings


class GlobalContrast(PretextSettings):
    """Global contrastive learning: the encoder tells slices apart in any crop.

    Umapathy et al. 2022 after SimCLR (Chen et al. 2020) and Chaitanya et al. 2020: two views of
    each slice are pulled together and pushed away from all other slices of the batch. It trains the
    encoder only; the head is discarded afterwards.

    Examples
    --------
    >>> GlobalContrast(temperature=0.1).build((128, 128)).title
    'Tell slices apart'
    """

    title: ClassVar[str] = "Tell slices apart"
    about: ClassVar[str] = (
        "The network learns which two views show the same slice. Needs large batches and "
        "many patients; with few scans, restoration works better."
    )
    short_name: ClassVar[str] = "contrastive"
    implementation: ClassVar[Implementation] = (
        "napari_sslseg.core.pretext.contrast.global_task:GlobalContrastTask"
    )

    kind: Literal["global-contrast"] = "global-contrast"
    temperature: float = Field(
        default=0.1,
        gt=0,
        le=10,
        title="Temperature",
        description="The lower, the more weight the hardest negatives have; 0.1 in Umapathy et al. "
        "2022.",
    )
    negatives: Literal["all", "other-parts"] = Field(
        default="all",
        title="Negatives",
        description="all: every other slice of the batch (SimCLR, as in Umapathy et al. 2022). "
        "other-parts: none from the same part of the body, given by the position of the slice in "
        "its scan (G^D− of Chaitanya et al. 2020), for scans that all show the same region.",
    )
    positives: Literal["views", "views+scans"] = Field(
        default="views",
        title="Positives",
        description="views: two views of one slice. views+scans: also slices of the same part of "
        "the body in other scans (G^D of Chaitanya et al. 2020), with negatives from other parts.",
    )
    parts: int = Field(
        default=4,
        ge=2,
        le=64,
        title="Parts of a scan",
        description="Number of parts into which a scan is divided along the slices; 4 in Chaitanya "
        "et al.",
    )
    least_area: float = Field(
        default=0.3,
        gt=0,
        le=1,
        title="Smallest crop",
        description="Smallest fraction of the area of the slice in a view. Chaitanya et al. crop "
        "100 pixels for any size of slice.",
    )
    intensity: float = Field(
        default=0.3,
        ge=0,
        le=1,
        title="Change of intensity",
        description="Largest change of contrast and brightness; 0.3 in Chaitanya et al. 2020.",
    )
    head: Literal["pooled", "flat"] = Field(
        default="pooled",
        title="Head",
        description="Input of the head. pooled: the average of the encoder's features, for slices "
        "of any size. flat: all features, as in the code of Chaitanya et al.",
    )
    hidden: int = Field(default=1024, ge=1, le=8192, title="Units of the head")
    embedding: int = Field(default=128, ge=2, le=4096, title="Length of the embedding")

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        return f"temperature {self.temperature:g}, negatives: {self.negatives}"
