"""From the settings of a network to the network. Importing this loads no PyTorch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.network_config import (
    Dense3dNetwork,
    DynUNet2dNetwork,
    DynUNet3dNetwork,
    MultiMixNetwork,
    Network,
    NetworkSettings,
    UmapathyNetwork,
)

if TYPE_CHECKING:
    from napari_sslseg.core.networks.parts import EncoderDecoder


def make_network(
    settings: NetworkSettings, in_channels: int, out_channels: int, *, output_kernel: int = 1
) -> "EncoderDecoder":
    """Build a network with fresh weights.

    Parameters
    ----------
    settings : NetworkSettings
        Which network, and how wide.
    in_channels, out_channels : int
        Channels of the images and of the output.
    output_kernel : {1, 3}
        Kernel of the last layer: 1 to segment, 3 to restore images (Dominic et al. 2023).

    Returns
    -------
    EncoderDecoder
        A :class:`~napari_sslseg.core.networks.base.SegmentationNetwork`.

    Examples
    --------
    >>> import torch
    >>> from napari_sslseg.core.network_config import named_network
    >>> network = make_network(named_network("multimix"), 1, 3)
    >>> network(torch.zeros(2, 1, 64, 48)).shape
    torch.Size([2, 3, 64, 48])
    """
    match settings:
        case Network():
            from napari_sslseg.core.networks.unet2d import UNet2d

            return UNet2d(in_channels, out_channels, settings, output_kernel)
        case UmapathyNetwork():
            from napari_sslseg.core.networks.umapathy import UmapathyUNet

            return UmapathyUNet(in_channels, out_channels, settings, output_kernel)
        case MultiMixNetwork():
            from napari_sslseg.core.networks.multimix import MultiMixUNet

            return MultiMixUNet(in_channels, out_channels, settings, output_kernel)
        case Dense3dNetwork():
            from napari_sslseg.core.networks.dense3d import DenseUNet3d

            return DenseUNet3d(in_channels, out_channels, settings, output_kernel)
        case DynUNet2dNetwork() | DynUNet3dNetwork():
            from napari_sslseg.core.networks.dynunet import DynUNet

            return DynUNet(in_channels, out_channels, settings, output_kernel)


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
