"""Settings of the networks, by kind. They are saved with each run.

Loads no PyTorch; :func:`napari_sslseg.core.networks.build.make_network` builds a network from them.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.implementation import Implementation
from napari_sslseg.core.common.settings_base import Settings
from napari_sslseg.core.common.sizes import WORDS
from napari_sslseg.core.common.text import did_you_mean
from napari_sslseg.core.settings.by_kind import by_kind, kind_of

NETWORK_WIDTHS: dict[str, tuple[int, ...]] = {
    "tiny": (8, 16, 32),
    "small": (16, 32, 64, 128),
    "paper": (32, 64, 128, 256, 512),
}

DEFAULT_NETWORK = "small"
"""Name of the network of a stage that names none."""

WIDTHS_TITLE = "Channels per level"
WIDTHS_DESCRIPTION = "Feature channels of each level, from full resolution down."
MOST_CHANNELS = 2048


LITE: Literal["efficientnet-lite0"] = "efficientnet-lite0"

EfficientEncoder = Literal[
    "efficientnet-lite0", "efficientnet-b0", "efficientnet-b1", "efficientnet-b2",
    "efficientnet-b3", "efficientnet-b4", "efficientnet-b5", "efficientnet-b6", "efficientnet-b7",
]  # fmt: skip
"""Encoders of :class:`EfficientNetwork`."""

EncoderStart = Literal["random", "imagenet"]
"""Weights of the encoder before any training."""


def _check_channels(widths: Sequence[int]) -> None:
    if any(not 1 <= width <= MOST_CHANNELS for width in widths):
        raise ValueError(f"channels must lie within 1…{MOST_CHANNELS}, not {widths}")


class BaseNetwork(Settings):
    """Base class of the settings of all networks.

    A subclass sets at least ``kind``, ``title``, ``implementation`` and ``stride``.
    """

    kind: str
    """Distinguishes the networks, a Literal with a default in each subclass."""

    title: ClassVar[str]
    """Plain words, with the paper or library."""

    implementation: ClassVar[Implementation]
    """The network, called with input channels, output channels, settings and the kernel of the
    output layer; see :class:`~napari_sslseg.core.networks.base.SegmentationNetwork`."""

    dimensions: ClassVar[Literal[2, 3]] = 2
    """2 for a network of slices, 3 for a network of volumes."""

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features covers."""
        raise NotImplementedError

    @property
    def pretrained(self) -> bool:
        """Whether the encoder has weights of another training before any of ours."""
        return False


class LevelledNetwork(BaseNetwork):
    """Settings of a U-Net: levels of given widths, each half the resolution of the one before."""

    widths: tuple[int, ...]

    @model_validator(mode="after")
    def _check_widths(self) -> "LevelledNetwork":
        if any(not 1 <= width <= MOST_CHANNELS for width in self.widths):
            raise ValueError(f"widths must lie within 1…{MOST_CHANNELS}, not {self.widths}")
        return self

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features covers."""
        return 2 ** (len(self.widths) - 1)


class Network(LevelledNetwork):
    """The 2D U-Net of Dominic et al. 2023, with configurable widths."""

    title: ClassVar[str] = "U-Net (Dominic)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.unet2d:UNet2d"
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
        description="Groups of GroupNorm; fewer in levels with too few channels.",
    )

    @classmethod
    def preset(cls, name: str) -> "Network":
        """``tiny`` (tests), ``small`` (default on a CPU) or ``paper``."""
        if name not in NETWORK_WIDTHS:
            raise ConfigError(
                f"There is no network {name}; choose one of {', '.join(NETWORK_WIDTHS)}."
            )
        return cls(widths=NETWORK_WIDTHS[name], groups=16 if name == "paper" else 8)


class UmapathyNetwork(LevelledNetwork):
    """The 2D U-Net of Umapathy et al. 2022, with BatchNorm.

    The paper says "2D U-Net-like"; the widths are those of Chaitanya et al. 2020, on which it
    builds.
    """

    title: ClassVar[str] = "U-Net (Umapathy)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.umapathy:UmapathyUNet"
    kind: Literal["umapathy"] = "umapathy"
    widths: tuple[int, ...] = Field(
        (16, 32, 64, 128, 128, 128),
        min_length=2,
        max_length=7,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )


class MultiMixNetwork(LevelledNetwork):
    """The 2D U-Net of PolyCL, taken from MultiMix: InstanceNorm, dropout, bilinear up-sampling."""

    title: ClassVar[str] = "MultiMix U-Net (PolyCL)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.multimix:MultiMixUNet"
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
        description="Fraction of the features that each level drops at random in training.",
    )


class Dense3dNetwork(BaseNetwork):
    """The 3D network of Dhere & Sivaswamy: densely connected encoder, small decoder."""

    title: ClassVar[str] = "Dense 3D network (Dhere)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.dense3d:DenseUNet3d"
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
        description="Channels of the features after the transition that follows each block but the "
        "last.",
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
        _check_channels(widths)
        return self

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features covers."""
        # The stem and the transition after each block but the last halve the resolution.
        return 2 ** len(self.layers)


class EfficientNetwork(BaseNetwork):
    """A 2D U-Net whose encoder is an EfficientNet (Tan & Le 2019), deep at little cost on a CPU."""

    title: ClassVar[str] = "U-Net on EfficientNet (MONAI)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.efficient:EfficientUNet"
    kind: Literal["efficientnet"] = "efficientnet"
    encoder: EfficientEncoder = Field(
        LITE,
        title="Encoder",
        description="EfficientNet-Lite0, or EfficientNet-B0 to B7, from small to large.",
    )
    start: EncoderStart = Field(
        "random",
        title="Start of the encoder",
        description="random; or imagenet: weights that were trained on photographs, for "
        "EfficientNet-Lite0. A training that starts from a run takes the weights of that run.",
    )
    decoder_widths: tuple[int, ...] = Field(
        (128, 64, 32, 16),
        min_length=4,
        max_length=4,
        title="Channels of the decoder",
        description="Channels of each level of the decoder, from the coarsest.",
    )

    @model_validator(mode="after")
    def _check(self) -> "EfficientNetwork":
        if self.start == "imagenet" and self.encoder != LITE:
            raise ValueError(
                f"weights of ImageNet are known for {LITE} only, not for {self.encoder}; import a "
                "file of its weights, or set start to random"
            )
        _check_channels(self.decoder_widths)
        return self

    @property
    def stride(self) -> int:
        """Side of the full-resolution block that one place of the coarsest features covers."""
        # EfficientNet halves the resolution five times, and the images are zoomed by two before.
        return 16

    @property
    def pretrained(self) -> bool:
        """Whether the encoder has weights of another training before any of ours."""
        return self.start == "imagenet"


class DynUNetNetwork(LevelledNetwork):
    """Settings that MONAI's DynUNet for slices and for volumes have in common."""

    residual: bool = Field(
        False,
        title="Residual blocks",
        description="Add the input of each encoder level to its output.",
    )


class DynUNet2dNetwork(DynUNetNetwork):
    """MONAI's DynUNet for slices: the U-Net of nnU-Net, without deep supervision."""

    title: ClassVar[str] = "DynUNet 2D (MONAI)"
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.dynunet:DynUNet"
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
    implementation: ClassVar[Implementation] = "napari_sslseg.core.networks.dynunet:DynUNet"
    dimensions: ClassVar[Literal[2, 3]] = 3
    kind: Literal["dynunet3d"] = "dynunet3d"
    widths: tuple[int, ...] = Field(
        (32, 64, 128, 256, 320),
        min_length=3,
        max_length=7,
        title=WIDTHS_TITLE,
        description=WIDTHS_DESCRIPTION,
    )


NETWORKS: dict[str, BaseNetwork] = {
    **{name: Network.preset(name) for name in NETWORK_WIDTHS},
    "umapathy": UmapathyNetwork(),
    "multimix": MultiMixNetwork(),
    "dynunet": DynUNet2dNetwork(),
    "efficientnet": EfficientNetwork(),
    "efficientnet-imagenet": EfficientNetwork(start="imagenet"),
    "dense3d": Dense3dNetwork(),
    "dynunet3d": DynUNet3dNetwork(),
}
"""All networks by name; see :func:`register_network`."""


def register_network(name: str, settings: BaseNetwork) -> None:
    """Add a network, so that it can be named, and runs with it can be opened.

    Parameters
    ----------
    name : str
        Its name on the command line.
    settings : BaseNetwork
        Its settings by default. Runs record their ``kind``, by which the class is found again.

    Raises
    ------
    ConfigError
        If another network has this name, or another class of settings this kind.
    """
    kind = kind_of(type(settings))
    taken = any(kind == known.kind and type(known) is not type(settings) for known in _networks())
    if taken or NETWORKS.get(name, settings) != settings:
        raise ConfigError(f"There is a network {name} ({kind}) already; choose another name.")
    NETWORKS[name] = settings


def _networks() -> list[BaseNetwork]:
    return list(NETWORKS.values())


def network_names(dimensions: Literal[2, 3] | None = None) -> str:
    """Return the names of the networks of slices (2) or volumes (3) as a list in words."""
    names = [name for name, known in NETWORKS.items() if dimensions in (None, known.dimensions)]
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def named_network(name: str) -> BaseNetwork:
    """Return the settings of a network by its name on the command line.

    Parameters
    ----------
    name : str
        A key of ``NETWORKS``. ``tiny``, ``small`` and ``paper`` are widths of the U-Net of Dominic
        et al.; ``umapathy`` and ``multimix`` (PolyCL) are the networks of the papers, ``dynunet``
        and ``efficientnet`` are MONAI's, ``efficientnet-imagenet`` starts from photographs;
        ``dense3d`` (Dhere & Sivaswamy) and ``dynunet3d`` are for volumes.

    Raises
    ------
    ConfigError
        If there is no network of this name; the message lists all names.
    """
    if name not in NETWORKS:
        hint = did_you_mean(name, NETWORKS)
        raise ConfigError(f"There is no network {name}; choose {network_names()}. {hint}".rstrip())
    return NETWORKS[name]


NetworkSettings = Annotated[
    BaseNetwork, *by_kind(BaseNetwork, lambda: map(type, _networks()), named_network)
]
"""Settings of any network, distinguished by ``kind``, or by their name such as "tiny"."""


def check_dimensions(settings: NetworkSettings, wanted: Literal[2, 3]) -> None:
    """Check that a network takes slices (2) or volumes (3).

    Raises
    ------
    ConfigError
        If not; the message names networks that do.
    """
    if settings.dimensions != wanted:
        raise ConfigError(
            f"The network {settings.kind} takes {WORDS[settings.dimensions].images}, not "
            f"{WORDS[wanted].images}; choose {network_names(wanted)}."
        )


def check_size(settings: NetworkSettings, size: Sequence[int]) -> None:
    """Check that encoder and decoder take images of this size without padding.

    Raises
    ------
    ConfigError
        If not; the message names the smallest size that fits.
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
    """Return the smallest size not below ``size`` that a network of this stride takes.

    Its sides are multiples of the stride, and one of them is at least twice the stride, because
    normalisation needs more than one place in the coarsest features.
    """
    sides = [-(-side // stride) * stride for side in size]
    if max(sides) == stride:
        sides[-1] = 2 * stride
    return tuple(sides)


def _times(size: Sequence[int]) -> str:
    return " × ".join(map(str, size))
