"""Two views of the same slices for contrastive learning: crop, contrast, brightness.

Sampled first, as small CPU tensors, then applied as a batch on the device.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class ViewParameters:
    """One view of each of N slices, on the CPU.

    Parameters
    ----------
    corner : Tensor, shape (N, 2)
        Upper left corner of the crop (row, column), as fractions of the sides of the slice.
    extent : Tensor, shape (N, 2)
        Height and width of the crop, as fractions of the sides of the slice.
    contrast : Tensor, shape (N,)
        Factor of the deviation from the mean of the slice.
    brightness : Tensor, shape (N,)
        Value to add, in standard deviations of the slice.
    """

    corner: Tensor
    extent: Tensor
    contrast: Tensor
    brightness: Tensor

    def __len__(self) -> int:
        return len(self.corner)


def sample_view(
    n: int,
    generator: torch.Generator,
    *,
    least_area: float = 0.3,
    intensity: float = 0.3,
) -> ViewParameters:
    """Draw a view of ``n`` slices.

    Parameters
    ----------
    n : int
        Number of slices.
    generator : Generator
        Generator on the CPU; the same state draws the same views.
    least_area : float
        Smallest area of a crop as a fraction of that of the slice; crops keep its shape. 1 means no
        crop.
    intensity : float
        Contrast is drawn from 1 ± this, brightness from ± this many standard deviations; 0.3 in
        Chaitanya et al. 2020, whose values are from 0 to 1.
    """
    area = least_area + (1 - least_area) * torch.rand(n, generator=generator)
    extent = area.sqrt()[:, None].expand(n, 2)
    corner = torch.rand(n, 2, generator=generator) * (1 - extent)
    change = (torch.rand(2, n, generator=generator) * 2 - 1) * intensity
    return ViewParameters(corner, extent, 1 + change[0], change[1])


def sample_pair(
    n: int,
    generator: torch.Generator,
    *,
    required_overlap: float,
    least_area: float = 0.3,
    intensity: float = 0.3,
) -> tuple[ViewParameters, ViewParameters]:
    """Draw two views of each of ``n`` slices that have a part in common.

    The first view is drawn as in :func:`sample_view`, the second from all crops that overlap enough
    with the first.

    Parameters
    ----------
    n, generator, intensity
        As for :func:`sample_view`.
    required_overlap : float
        Smallest fraction of each side of the slice that lies within both views.
    least_area : float
        As for :func:`sample_view`, but at least the area that the overlap needs.
    """
    options = {"least_area": max(least_area, required_overlap**2), "intensity": intensity}
    first = sample_view(n, generator, **options)
    second = sample_view(n, generator, **options)
    lowest = (first.corner + required_overlap - second.extent).clamp(min=0)
    highest = torch.minimum(first.corner + first.extent - required_overlap, 1 - second.extent)
    corner = lowest + torch.rand(n, 2, generator=generator) * (highest - lowest)
    return first, replace(second, corner=corner)


def common_part(first: ViewParameters, second: ViewParameters) -> tuple[Tensor, Tensor]:
    """Return corner and extent of the part of each slice within both views, shapes (N, 2).

    As fractions of the sides of the slice; an extent is negative if the views do not overlap.
    """
    corner = torch.maximum(first.corner, second.corner)
    end = torch.minimum(first.corner + first.extent, second.corner + second.extent)
    return corner, end - corner


def apply_view(images: Tensor, parameters: ViewParameters) -> Tensor:
    """Crop slices and resize the crops to the size of the slices, then change their intensity.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W)
        Not changed.
    parameters : ViewParameters
        For N slices.

    Returns
    -------
    Tensor, shape (N, C, H, W)
        On the device of ``images``; interpolated linearly.
    """
    device, kind = images.device, images.dtype
    # grid_sample takes coordinates from −1 to 1, x before y.
    extent = parameters.extent.flip(1)
    centre = 2 * (parameters.corner.flip(1) + extent / 2) - 1
    matrices = torch.zeros(len(parameters), 2, 3)
    matrices[:, 0, 0], matrices[:, 1, 1] = extent[:, 0], extent[:, 1]
    matrices[:, :, 2] = centre
    # In the half precision of autocast, positions would be wrong by pixels.
    with torch.autocast(device.type, enabled=False):
        grid = functional.affine_grid(
            matrices.to(device, kind), list(images.shape), align_corners=False
        )
    view = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    deviation, mean = torch.std_mean(images, dim=(2, 3), keepdim=True, correction=0)

    def column(values: Tensor) -> Tensor:
        return values.to(device, kind)[:, None, None, None]

    return (
        (view - mean) * column(parameters.contrast)
        + mean
        + column(parameters.brightness) * (deviation)
    )


def map_points(points: Tensor, parameters: ViewParameters) -> Tensor:
    """Map points of the slices to the view.

    Parameters
    ----------
    points : Tensor, shape (N, R, 2)
        Row and column, as fractions of the sides of the slice.
    parameters : ViewParameters
        The view.

    Returns
    -------
    Tensor, shape (N, R, 2)
        Row and column as fractions of the sides of the view; outside 0…1 if not within the crop.
    """
    return (points - parameters.corner[:, None]) / parameters.extent[:, None]
