"""Construction of networks from their settings. Importing this loads no PyTorch."""

from typing import TYPE_CHECKING

from napari_sslseg.core.common.implementation import resolve
from napari_sslseg.core.settings.networks import NetworkSettings

if TYPE_CHECKING:
    from napari_sslseg.core.networks.parts import EncoderDecoder


def make_network(
    settings: NetworkSettings, in_channels: int, out_channels: int, *, output_kernel: int = 1
) -> "EncoderDecoder":
    """Build a network with fresh weights.

    Parameters
    ----------
    settings : NetworkSettings
        Settings of the network.
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
    >>> from napari_sslseg.core.settings.networks import named_network
    >>> network = make_network(named_network("multimix"), 1, 3)
    >>> network(torch.zeros(2, 1, 64, 48)).shape
    torch.Size([2, 3, 64, 48])
    """
    make = resolve(type(settings).implementation)
    return make(in_channels, out_channels, settings, output_kernel)
