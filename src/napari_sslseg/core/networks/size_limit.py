"""Size of a network without memory for its weights. Importing this loads no PyTorch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.settings.networks import NetworkSettings

if TYPE_CHECKING:
    from torch import nn

MOST_PARAMETERS = 500_000_000
"""Largest number of parameters: 2 GB of weights, five times those of nnU-Net's largest networks."""

Shapes = dict[str, tuple[tuple[int, ...], bool]]
"""Shape of each tensor of a network by name, and whether it is a floating-point tensor."""


def tensor_shapes(model: "nn.Module") -> Shapes:
    """Return the shapes of the tensors of a network on any device."""
    return {
        name: (tuple(tensor.shape), tensor.is_floating_point())
        for name, tensor in model.state_dict().items()
    }


def planned_network(
    settings: NetworkSettings, in_channels: int, out_channels: int, *, output_kernel: int = 1
) -> "nn.Module":
    """Build a network without memory for its weights.

    Takes milliseconds for any size, because tensors on PyTorch's meta device have only shapes.

    Raises
    ------
    ConfigError
        If it has more parameters than :data:`MOST_PARAMETERS`.

    Examples
    --------
    >>> from napari_sslseg.core.settings.networks import Network
    >>> plan = planned_network(Network(widths=(8, 16)), 1, 2)
    >>> tensor_shapes(plan)["output.weight"]
    ((2, 8, 1, 1), True)
    >>> planned_network(Network(widths=(2048,) * 5), 1, 2)
    Traceback (most recent call last):
    napari_sslseg.core.common.errors.ConfigError: The network unet2d would have 793 million \
parameters, but 500 million are the most; take narrower levels.
    """
    return planned(
        lambda: make_network(settings, in_channels, out_channels, output_kernel=output_kernel),
        settings.kind,
    )


def planned(build: "Callable[[], nn.Module]", name: str) -> "nn.Module":
    """Call ``build`` without memory for weights, see :func:`planned_network`."""
    import torch

    with torch.device("meta"):
        model = build()
    millions = round(sum(weight.numel() for weight in model.parameters()) / 1e6)
    if millions > MOST_PARAMETERS / 1e6:
        raise ConfigError(
            f"The network {name} would have {millions:,} million parameters, but "
            f"{MOST_PARAMETERS / 1e6:.0f} million are the most; take narrower levels."
        )
    return model
