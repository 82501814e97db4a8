"""Test-time augmentation: a slice seen several times, a little turned and scaled each time.

What the network says of each view is moved back to where the slice was, and averaged. What it says
only from one point of view weighs less then, as with the mirrored views of nnU-Net (Isensee et al.
2021); but nothing is mirrored here, since organs that differ by side must keep their side.
"""

from math import cos, radians, sin
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

VIEWS = ((0.0, 1.0), (10.0, 1.0), (-10.0, 1.0), (0.0, 0.88), (0.0, 1 / 0.88))
"""Angle in degrees and scale of each view; one looks at the slice as it is."""


def averaged_shares(shares: "Callable[[Tensor], Tensor]", images: "Tensor") -> "Tensor":
    """Class probabilities, averaged over the views.

    Parameters
    ----------
    shares : callable
        From images to probabilities, shape (N, K, …), which sum up to 1 over K.
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Volumes are turned and scaled in their axial slices.

    Returns
    -------
    Tensor, shape (N, K, …)
        They sum up to 1 as well.
    """
    total = None
    for angle, scale in VIEWS:
        if (angle, scale) == VIEWS[0]:
            found = shares(images)
        else:
            found = moved(shares(moved(images, angle, scale)), -angle, 1 / scale)
        total = found if total is None else total + found
    assert total is not None
    return total / len(VIEWS)


def moved(images: "Tensor", angle: float, scale: float) -> "Tensor":
    """Images turned around their middle and scaled; at the border the edge goes on.

    Parameters
    ----------
    images : Tensor, shape (N, C, …, H, W)
    angle : float
        In degrees.
    scale : float
        Below 1 looks at a smaller part, so that things grow.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    along, across = scale * cos(radians(angle)), scale * sin(radians(angle))
    # Turn in units of pixels, not of sides, so that a rotation does not shear an oblong slice.
    matrix = torch.tensor(
        [[along, -across * height / width, 0], [across * width / height, along, 0]],
        dtype=torch.float32,
        device=images.device,
    )
    planes = images.reshape(len(images), -1, height, width)
    grid = functional.affine_grid(
        matrix.expand(len(images), 2, 3), list(planes.shape), align_corners=False
    ).to(images.dtype)
    found = functional.grid_sample(planes, grid, padding_mode="border", align_corners=False)
    return found.reshape(images.shape)
