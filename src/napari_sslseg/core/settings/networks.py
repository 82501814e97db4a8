"""Settings of the networks, by kind: saved with each run, and enough to build the network again.

Loads no PyTorch; :func:`napari_sslseg.core.networks.build.make_network` builds what they say.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.frozen import Settings

NETWORK_WIDTHS: dict[str, tuple[int, ...]] = {
    "tiny": (8, 16, 32),
    "small": (16, 32, 64, 128),
    "paper": (32, 64, 128, 256, 512),
}

WIDTHS_TITLE = "Channels per level"
WIDTHS_DESCRIPTION = "Feature channels of each level, from full resolution down."
MOST_CHANNELS = 2048


class LevelledNetwork(Settings):
    """What the U-Nets share: levels of given widths, each half the resolution of the last."""

    title: ClassVar[str]
    dimensions: ClassVar[Literal[2, 3]] = 2
    widths: tuple[int, ...]

    @model_validator(mode="after")
    def _check_widths(self) -> "LevelledNetwork":
        if any(not 1 <= width <= MOST_CHANNELS for width in self.widths):
            raise ValueError(f"widths must lie within 1…{MOST_CHANNELS}, not {self.widths}")
        return self

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features stands for."""
        return 2 ** (len(self.widths) - 1)


class Network(LevelledNetwork):
    """The 2D U-Net of Dominic et al. 2023, with configurable widths."""

    title: ClassVar[str] = "U-Net (Dominic)"
    kind: Literal["unet2d"] = "unet2d"
    widths: tuple[int, ...] = Field(
        NETWORK_WIDTHS["small"],
        min_length=2,
        max_length=5,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )
    groups: int = Field(
        8,
        ge=1,
        le=64,
        title="Normalisation groups",
        description="Groups of GroupNorm; fewer where a level has too few channels for as many.",
    )

    @classmethod
    def preset(cls, name: str) -> "Network":
        """``tiny`` (tests), ``small`` (default on a CPU) or ``paper``."""
        return cls(widths=NETWORK_WIDTHS[name], groups=16 if name == "paper" else 8)


class UmapathyNetwork(LevelledNetwork):
    """The 2D U-Net of Umapathy et al. 2022, with BatchNorm.

    The paper says "2D U-Net-like"; the widths are those of Chaitanya et al. 2020, on which it
    builds.
    """

    title: ClassVar[str] = "U-Net (Umapathy)"
    kind: Literal["umapathy"] = "umapathy"
    widths: tuple[int, ...] = Field(
        (16, 32, 64, 128, 128, 128),
        min_length=2,
        max_length=7,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )


class MultiMixNetwork(LevelledNetwork):
    """The 2D U-Net of PolyCL, which it takes from MultiMix: InstanceNorm, dropout, bilinear."""

    title: ClassVar[str] = "MultiMix U-Net (PolyCL)"
    kind: Literal["multimix"] = "multimix"
    widths: tuple[int, ...] = Field(
        (16, 32, 64, 128, 256),
        min_length=2,
        max_length=7,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )
    dropout: float = Field(
        0.25,
        ge=0,
        lt=1,
        title="Dropout",
        description="Share of the features that each level drops at random while training.",
    )


class Dense3dNetwork(Settings):
    """The 3D network of Dhere & Sivaswamy: densely connected encoder, small plain decoder."""

    title: ClassVar[str] = "Dense 3D network (Dhere)"
    dimensions: ClassVar[Literal[2, 3]] = 3
    kind: Literal["dense3d"] = "dense3d"
    layers: tuple[int, ...] = Field(
        (2, 2, 4, 8),
        min_length=2,
        max_length=6,
        title="Layers per block",
        description="Densely connected layers of each block of the encoder.",
    )
    growth: tuple[int, ...] = Field(
        (4, 16, 16, 16),
        title="Growth per block",
        description="Channels that each layer of a block adds.",
    )
    stem_channels: int = Field(
        4,
        ge=1,
        le=MOST_CHANNELS,
        title="First channels",
        description="Channels of the first convolution, which halves the resolution.",
    )
    transition_channels: int = Field(
        16,
        ge=1,
        le=MOST_CHANNELS,
        title="Channels between blocks",
        description="Channels to which the features are reduced after each block but the last.",
    )
    decoder_widths: tuple[int, ...] = Field(
        (128, 32, 4),
        title="Channels of the decoder",
        description="Channels of each level of the decoder, from the coarsest; one level for "
        "each block of the encoder but the last.",
    )

    @model_validator(mode="after")
    def _check(self) -> "Dense3dNetwork":
        if len(self.growth) != len(self.layers):
            raise ValueError(f"growth needs one number for each of the {len(self.layers)} blocks")
        if len(self.decoder_widths) != len(self.layers) - 1:
            raise ValueError(
                f"decoder_widths needs {len(self.layers) - 1} numbers, one for each block of the "
                "encoder but the last"
            )
        if any(not 1 <= layers <= 64 for layers in self.layers):
            raise ValueError(f"layers must lie within 1…64, not {self.layers}")
        widths = (*self.growth, *self.decoder_widths)
        if any(not 1 <= width <= MOST_CHANNELS for width in widths):
            raise ValueError(f"channels must lie within 1…{MOST_CHANNELS}, not {widths}")
        return self

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features stands for."""
        # The stem and the transition after each block but the last halve the resolution.
        return 2 ** len(self.layers)


class DynUNetNetwork(LevelledNetwork):
    """What MONAI's DynUNet for slices and that for volumes share."""

    residual: bool = Field(
        False, title="Residual blocks", description="Add the input of each encoder level to it."
    )


class DynUNet2dNetwork(DynUNetNetwork):
    """MONAI's DynUNet for slices: the U-Net of nnU-Net, without deep supervision."""

    title: ClassVar[str] = "DynUNet 2D (MONAI)"
    kind: Literal["dynunet2d"] = "dynunet2d"
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 256, 512),
        min_length=3,
        max_length=8,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )


class DynUNet3dNetwork(DynUNetNetwork):
    """MONAI's DynUNet for volumes: the U-Net of nnU-Net, without deep supervision."""

    title: ClassVar[str] = "DynUNet 3D (MONAI)"
    dimensions: ClassVar[Literal[2, 3]] = 3
    kind: Literal["dynunet3d"] = "dynunet3d"
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 256, 320),
        min_length=3,
        max_length=7,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )


NetworkSettings = Annotated[
    Network
    | UmapathyNetwork
    | MultiMixNetwork
    | Dense3dNetwork
    | DynUNet2dNetwork
    | DynUNet3dNetwork,
    Field(discriminator="kind"),
]
"""Settings of any network, told apart by ``kind``."""

NETWORK_NAMES = (*NETWORK_WIDTHS, "umapathy", "multimix", "dynunet", "dense3d", "dynunet3d")
"""Names of the networks on the command line."""


def named_network(name: str) -> NetworkSettings:
    """Settings of a network by its name on the command line.

    Parameters
    ----------
    name : str
        ``tiny``, ``small`` and ``paper`` are widths of the U-Net of Dominic et al.; ``umapathy``
        and ``multimix`` (PolyCL) are those of the papers, ``dynunet`` is MONAI's; for volumes
        ``dense3d`` (Dhere & Sivaswamy) and ``dynunet3d``.

    Raises
    ------
    ConfigError
        If there is no network of this name.
    """
    if name in NETWORK_WIDTHS:
        return Network.preset(name)
    others: dict[str, NetworkSettings] = {
        "umapathy": UmapathyNetwork(),
        "multimix": MultiMixNetwork(),
        "dynunet": DynUNet2dNetwork(),
        "dense3d": Dense3dNetwork(),
        "dynunet3d": DynUNet3dNetwork(),
    }
    if name not in others:
        raise ConfigError(f"There is no network {name}; choose {', '.join(NETWORK_NAMES)}.")
    return others[name]


def dimensions(settings: NetworkSettings) -> Literal[2, 3]:
    """2 for a network of slices, 3 for one of volumes."""
    return settings.dimensions


def stride(settings: NetworkSettings) -> int:
    """Number of which all sides of an image must be multiples, for the parts used alone.

    The whole network takes any size, see
    :class:`~napari_sslseg.core.networks.parts.EncoderDecoder`.
    """
    return settings.stride


def check_dimensions(settings: NetworkSettings, wanted: Literal[2, 3]) -> None:
    """Refuse a network of volumes where slices are cut, and the other way round.

    Raises
    ------
    ConfigError
        One sentence that names networks that fit.
    """
    if settings.dimensions != wanted:
        images = {2: "slices", 3: "volumes"}
        choices = {2: "unet2d, umapathy, multimix or dynunet2d", 3: "dense3d or dynunet3d"}
        raise ConfigError(
            f"The network {settings.kind} takes {images[settings.dimensions]}, not "
            f"{images[wanted]}; choose {choices[wanted]}."
        )


def check_size(settings: NetworkSettings, size: Sequence[int]) -> None:
    """Check that encoder and decoder take images of this size as it is.

    Raises
    ------
    ConfigError
        One sentence that names the smallest size that fits.
    """
    check_dimensions(settings, 2 if len(size) == 2 else 3)
    fitting = fitting_size(size, settings.stride)
    if fitting != tuple(size):
        raise ConfigError(
            f"The network {settings.kind} needs sides that are multiples of {settings.stride} "
            f"and one of at least {2 * settings.stride}, not {_times(size)}; choose "
            f"{_times(fitting)}."
        )


def fitting_size(size: Sequence[int], stride: int) -> tuple[int, ...]:
    """Smallest size that holds ``size`` and that a network of this stride takes.

    Its sides are multiples of the stride, and one of them at least twice the stride: at a single
    place of the coarsest features there is nothing over which to normalise.
    """
    sides = [-(-side // stride) * stride for side in size]
    if max(sides) == stride:
        sides[-1] = 2 * stride
    return tuple(sides)


def _times(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
