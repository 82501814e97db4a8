"""From the settings of a network to the network. Importing this loads no PyTorch."""

from typing import TYPE_CHECKING

from napari_sslseg.core.settings.networks import (
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
    >>> from napari_sslseg.core.settings.networks import named_network
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
