"""A network with a second branch that restores the image, for the fine-tuning only.

Dhere & Sivaswamy: a second decoder restores the image from the features of the encoder, which keeps
the encoder from overfitting. The branch is discarded afterwards: only the weights of the network
are saved.
"""

from typing import Any

from torch import Tensor, nn

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.dense3d import DenseUNet3d, ReconstructionDecoder
from napari_sslseg.core.networks.parts import repeat_to_fit
from napari_sslseg.core.settings.networks import Dense3dNetwork, NetworkSettings


def check_reconstruction(settings: NetworkSettings, weight: float) -> None:
    """Check that a network has a reconstruction branch if its weight is above 0.

    Raises
    ------
    ConfigError
        If not.
    """
    if weight and not isinstance(settings, Dense3dNetwork):
        raise ConfigError(
            f"The network {settings.kind} has no reconstruction branch; set reconstruction_weight "
            "to 0, or choose dense3d."
        )


class WithReconstruction(nn.Module):
    """A network and the reconstruction branch, with one encoder.

    Parameters
    ----------
    network : DenseUNet3d
        From images to scores.
    settings : Dense3dNetwork
        Settings of the network.
    in_channels : int
        Channels of the images.

    Examples
    --------
    >>> import torch
    >>> settings = Dense3dNetwork()
    >>> model = WithReconstruction(DenseUNet3d(1, 2, settings), settings, 1)
    >>> [tuple(part.shape) for part in model(torch.zeros(1, 1, 32, 32, 32))]
    [(1, 2, 32, 32, 32), (1, 1, 32, 32, 32)]
    >>> model.eval()(torch.zeros(1, 1, 32, 32, 32)).shape
    torch.Size([1, 2, 32, 32, 32])
    """

    def __init__(self, network: DenseUNet3d, settings: Dense3dNetwork, in_channels: int) -> None:
        super().__init__()
        self.network = network
        self.reconstruction = ReconstructionDecoder(
            settings, network.embedding_channels, in_channels
        )

    def forward(self, images: Tensor) -> Any:
        """Return scores and restored images in training mode, otherwise only scores.

        Parameters
        ----------
        images : Tensor, shape (N, C, D, H, W)
            Images of any size; the last slices, rows and columns are repeated as in the network.
        """
        if not self.training:
            return self.network(images)
        fitted = repeat_to_fit(images, self.network.stride)
        features = self.network.encoder(fitted)
        scores = self.network.output(self.network.decoder(features))
        inside = (..., *(slice(side) for side in images.shape[2:]))
        return scores[inside], self.reconstruction(features)[inside]


def with_branch(
    network: nn.Module, settings: NetworkSettings, in_channels: int, weight: float
) -> nn.Module:
    """Add the branch to a network if its weight is above 0; otherwise return the network."""
    check_reconstruction(settings, weight)
    if isinstance(network, DenseUNet3d) and isinstance(settings, Dense3dNetwork) and weight:
        return WithReconstruction(network, settings, in_channels)
    return network
