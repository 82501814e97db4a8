"""Test-time augmentation: average the predictions for rotated and scaled views of an image.

The class probabilities of each view are transformed back to the grid of the image and averaged, as
with the mirrored views of nnU-Net (Isensee et al. 2021). Views are not mirrored here, since paired
organs must keep their side.
"""

from math import cos, radians, sin
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

VIEWS = ((0.0, 1.0), (10.0, 1.0), (-10.0, 1.0), (0.0, 0.88), (0.0, 1 / 0.88))
"""Angle in degrees and scale of each view; the first one is the image itself."""


def average_over_views(predict: "Callable[[Tensor], Tensor]", images: "Tensor") -> "Tensor":
    """Class probabilities, averaged over the views.

    Parameters
    ----------
    predict : callable
        From images to class probabilities, shape (N, K, …), which sum to 1 over K.
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
        Volumes are rotated and scaled within axial slices.

    Returns
    -------
    Tensor, shape (N, K, …)
        Probabilities; they sum to 1 over K.
    """
    total = None
    for angle, scale in VIEWS:
        if (angle, scale) == VIEWS[0]:
            found = predict(images)
        else:
            found = transform(predict(transform(images, angle, scale)), -angle, 1 / scale)
        total = found if total is None else total + found
    assert total is not None
    return total / len(VIEWS)


def transform(images: "Tensor", angle: float, scale: float) -> "Tensor":
    """Rotate images around their centre and scale them; the border is replicated.

    Parameters
    ----------
    images : Tensor, shape (N, C, …, H, W)
    angle : float
        Angle in degrees.
    scale : float
        Scale of the sampled region: below 1 it is smaller, and structures become larger.
    """
    import torch
    from torch.nn import functional

    height, width = images.shape[-2:]
    along, across = scale * cos(radians(angle)), scale * sin(radians(angle))
    # Rotate in units of pixels, not of sides, so that oblong slices are not sheared.
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
