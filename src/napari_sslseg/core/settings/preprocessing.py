"""Settings of how scans become slices or volumes for a network. Loads neither NumPy nor PyTorch."""

from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from napari_sslseg.core.common.settings_base import Settings
from napari_sslseg.core.common.sizes import Plane, format_size

MOST_HU = 1e6
"""Largest window width and level; far above the values of any scanner."""

MOST_VOXELS = 512**3
"""Largest crop; one channel of its features takes half a gigabyte."""

MOST_NEIGHBOURS = 3
"""Largest number of neighbouring slices on each side."""


Clipping = Literal["soft", "hard"]
"""How MR values beyond the percentiles are treated."""


class Window(Settings):
    """A CT window: values within ``level ± width / 2`` HU are mapped to 0…1, others are clipped."""

    width: float = Field(gt=0, le=MOST_HU, title="Width", description="Width of the window in HU.")
    level: float = Field(
        ge=-MOST_HU, le=MOST_HU, title="Level", description="Centre of the window in HU."
    )

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest HU of the window."""
        return self.level - self.width / 2, self.level + self.width / 2


CT_WINDOWS: dict[str, tuple[Window, ...]] = {
    # One channel, PolyCL.
    "soft-tissue": (Window(width=400, level=40),),
    # Three channels, Dominic et al. 2023: soft tissue, bone, liver.
    "three": (
        Window(width=400, level=50),
        Window(width=1800, level=40),
        Window(width=500, level=50),
    ),
    # −80…300 HU, Dhere & Sivaswamy.
    "kidney": (Window(width=380, level=110),),
}


class Intensities(Settings):
    """Conversion of the values of a scan to the input of the network."""

    modality: Literal["MR", "CT"] = Field("MR", title="Modality", description="Kind of scan.")
    windows: tuple[Window, ...] = Field(
        CT_WINDOWS["three"],
        min_length=1,
        max_length=8,
        title="CT windows",
        description="Window width and level in HU, one input channel each. Not used for MR.",
    )
    clip_percentiles: tuple[float, float] = Field(
        (0.5, 99.5),
        title="MR percentiles",
        description="Percentiles of the scan beyond which MR values are clipped.",
    )
    clipping: Clipping = Field(
        # Runs of versions without this setting clipped hard. Defaults of new runs are in
        # default_preprocessing.
        "hard",
        title="MR clipping",
        description="Soft: values beyond the percentiles are compressed, so that small bright "
        "structures stay visible, and the upper percentile is that of the body, without air. Hard: "
        "values beyond the percentiles are cut off.",
    )

    @field_validator("clip_percentiles")
    @classmethod
    def _check_percentiles(cls, percentiles: tuple[float, float]) -> tuple[float, float]:
        low, high = percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"clip_percentiles must rise within 0…100, not {low}, {high}")
        return percentiles

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return len(self.windows) if self.modality == "CT" else 1


class Preprocessing(Intensities):
    """Conversion of a scan to slices for a 2D network.

    Settings of a stage without preprocessing take the one that suits the scans: soft clipping of
    MR, normalisation of each slice on CT, pixels as coarse as the structures allow, and a
    neighbouring slice where slices lie close together.
    Fields of this class that are not set have the defaults below instead.
    """

    kind: Literal["slices"] = "slices"
    plane: Plane = Field(
        "axial",
        title="Slicing plane",
        description="Plane in which slices are cut and labelled.",
    )
    normalize: Literal["volume", "slice", "unit"] = Field(
        "volume",
        title="Normalisation",
        description="Z-score over the whole scan, over each slice, or values scaled to 0…1.",
    )
    spacing: Literal["planned", "keep", "isotropic"] | float = Field(
        # Runs of versions without a plan kept the pixels.
        "keep",
        title="In-plane spacing",
        description="Planned: as coarse as the scans and the labelled structures allow. Keep the "
        "pixels of the scan, make them square, or resample to this many mm.",
    )
    size: tuple[int, int] | None = Field(
        None,
        title="Slice size",
        description="Height and width, multiples of 16; chosen from the scans if not set.",
    )
    fit: Literal["pad", "resize"] = Field(
        "pad",
        title="Fit to size",
        description="Pad (or crop) slices around their centre, or resize them.",
    )
    neighbours: int = Field(
        0,
        ge=0,
        le=MOST_NEIGHBOURS,
        title="Neighbouring slices",
        description="Slices on each side of a slice that are further input channels (2.5D); labels "
        "are those of the slice itself.",
    )

    @property
    def channels(self) -> int:
        """Number of channels of the input, including those of neighbouring slices."""
        return (1 + 2 * self.neighbours) * self.slice_channels

    @property
    def slice_channels(self) -> int:
        """Number of channels of one slice."""
        return super().channels

    @model_validator(mode="after")
    def _check(self) -> "Preprocessing":
        if isinstance(self.spacing, float) and not 0.05 <= self.spacing <= 50:
            raise ValueError(f"spacing must lie within 0.05…50 mm, not {self.spacing}")
        if self.size and any(n % 16 or not 16 <= n <= 4096 for n in self.size):
            raise ValueError(
                f"size must be multiples of 16 up to 4096, not {format_size(self.size)}"
            )
        return self


class VolumePreprocessing(Intensities):
    """Conversion of a scan to volumes for a 3D network.

    Settings of a stage without preprocessing take soft clipping of MR; here it must be set.
    Axes are those of the display grid: towards inferior, posterior, left.
    """

    plane: ClassVar[Plane] = "axial"
    """Axis 0 of volumes runs across axial slices."""

    kind: Literal["volumes"] = "volumes"
    normalize: Literal["volume", "unit"] = Field(
        "volume",
        title="Normalisation",
        description="Z-score over the whole scan, or values scaled to 0…1.",
    )
    spacing: Literal["keep"] | tuple[float, float, float] = Field(
        "keep",
        title="Spacing",
        description="Keep the voxels of the scan, or resample to these mm (axial slice distance, "
        "rows, columns).",
    )
    size: tuple[int, int, int] | Literal["whole"] | None = Field(
        None,
        title="Crop size",
        description="Slices, rows and columns of a crop, multiples of 16, or whole scans; chosen "
        "from the scans, at most 96 a side, if not set.",
    )
    padding: Literal["lowest", "zero"] = Field(
        "lowest",
        title="Padding",
        description="Value around a scan: its lowest value, which is air, or 0.",
    )

    @model_validator(mode="after")
    def _check(self) -> "VolumePreprocessing":
        if self.spacing != "keep" and any(not 0.05 <= mm <= 50 for mm in self.spacing):
            raise ValueError(f"spacing must lie within 0.05…50 mm, not {self.spacing}")
        crop = self.size if isinstance(self.size, tuple) else ()
        if any(n % 16 or not 16 <= n <= 1024 for n in crop):
            raise ValueError(f"size must be multiples of 16 up to 1024, not {format_size(crop)}")
        if prod(crop) > MOST_VOXELS:
            raise ValueError(
                f"size must be at most {MOST_VOXELS:,} voxels, not {format_size(crop)}"
            )
        return self


def _kind_of_preprocessing(value: object) -> str:
    # Runs of versions without volumes recorded no kind.
    kind = value.get("kind", "slices") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


AnyPreprocessing = Annotated[
    Annotated[Preprocessing, Tag("slices")] | Annotated[VolumePreprocessing, Tag("volumes")],
    Discriminator(_kind_of_preprocessing),
]
"""Preprocessing for a network of slices or of volumes, distinguished by ``kind``."""
