"""A network with a second branch that restores the image, for the fine-tuning alone.

Dhere & Sivaswamy: the encoder also feeds a decoder that restores the image, which keeps it from
overfitting. The branch is thrown away afterwards: the weights that are saved are those of the
network.
"""

from typing import Any

from torch import Tensor, nn

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.dense3d import DenseUNet3d, ReconstructionDecoder
from napari_sslseg.core.networks.parts import repeat_to_fit
from napari_sslseg.core.settings.networks import Dense3dNetwork, NetworkSettings


def check_reconstruction(settings: NetworkSettings, weight: float) -> None:
    """Refuse a reconstruction beside a network that has none.

    Raises
    ------
    ConfigError
        One sentence that says what to do.
    """
    if weight and not isinstance(settings, Dense3dNetwork):
        raise ConfigError(
            f"The network {settings.kind} has no reconstruction branch; set reconstruction_weight "
            "to 0, or choose dense3d."
        )


class WithReconstruction(nn.Module):
    """A network and the branch beside it, on one encoder.

    Parameters
    ----------
    network : DenseUNet3d
        From images to scores.
    settings : Dense3dNetwork
        Its settings.
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
        """Scores and restored images while training; scores alone otherwise.

        Parameters
        ----------
        images : Tensor, shape (N, C, D, H, W)
            Of any size; the last slices, rows and columns are repeated as the network does.
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
    """Put the branch beside a network if its weight is above 0; else leave the network alone."""
    check_reconstruction(settings, weight)
    if isinstance(network, DenseUNet3d) and isinstance(settings, Dense3dNetwork) and weight:
        return WithReconstruction(network, settings, in_channels)
    return network
