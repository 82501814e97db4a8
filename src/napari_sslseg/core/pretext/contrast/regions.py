"""Regions of slices for local contrast: drawn on the CPU, then located in both views.

A region is a square of 3 × 3 places; a place is the block of pixels of one element of a feature
map. Regions lie in the part of the slice within both views. If the views are whole slices, regions
lie on whole places; if they are crops, a region lies between places, and its 9 points are mapped to
each view by the transform of the crop.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.contrast.views import ViewParameters, map_points

Layout = Literal["random", "grid"]
"""Layout of the regions: anywhere without overlap, or at 13 fixed positions."""

SIDE = 3
"""Places along the side of a region."""

# Corner, middle and end of each side, and the quarter points between them:
#
#      0   .   1   .   2
#      .   3   .   4   .
#      5   .   6   .   7
#      .   8   .   9   .
#     10   .  11   .  12
GRID = (
    *((0, 0), (0, 2), (0, 4)),
    *((1, 1), (1, 3)),
    *((2, 0), (2, 2), (2, 4)),
    *((3, 1), (3, 3)),
    *((4, 0), (4, 2), (4, 4)),
)
"""Rows and columns of the 13 regions, in quarters of the distance from first to last place."""

# The five nearest others. Of several at the same distance, the next one clockwise, so that the
# table is invariant under quarter turns of the grid, except for the fifth negative of the centre.
NEIGHBOURS = (
    (3, 1, 5, 6, 4),
    (3, 4, 0, 2, 6),
    (4, 1, 7, 6, 9),
    (0, 1, 5, 6, 4),
    (1, 2, 6, 7, 9),
    (3, 8, 0, 10, 6),
    (3, 4, 8, 9, 1),
    (4, 9, 2, 12, 6),
    (5, 6, 10, 11, 3),
    (6, 7, 11, 12, 8),
    (8, 5, 11, 6, 3),
    (8, 9, 10, 12, 6),
    (9, 7, 11, 6, 8),
)
"""Five negatives of each of the 13 regions."""

GRID_PLACES = 4 * SIDE + SIDE
"""Smallest number of places along a side at which the 13 regions do not overlap."""

LEEWAY = 1e-4
"""Added to the required overlap of views, because of rounding errors."""


@dataclass(frozen=True, eq=False)
class Regions:
    """R regions on each of N slices, on the CPU.

    Parameters
    ----------
    corner : Tensor, shape (N, R, 2)
        Upper left corner (row, column), as fractions of the sides of the slice.
    place : Tensor, shape (2,)
        Height and width of a place, as fractions of the sides of the slice.
    negatives : Tensor, shape (N, R, K), integer
        The K negatives of each region.
    """

    corner: Tensor
    place: Tensor
    negatives: Tensor

    def points(self, view: ViewParameters) -> Tensor:
        """Return the 9 places of each region in a view, shape (N, R, 9, 2).

        Centres of the places, row by row, as fractions of the sides of the view.
        """
        steps = torch.arange(SIDE) + 0.5
        offsets = torch.cartesian_prod(steps, steps) * self.place
        points = self.corner[:, :, None] + offsets
        return map_points(points.flatten(1, 2), view).view_as(points)

    def boxes(self, view: ViewParameters, size: tuple[int, int]) -> Tensor:
        """Return top, left, height and width in pixels of a view of this size, shape (N, R, 4)."""
        sides = torch.tensor(size, dtype=self.corner.dtype)
        extent = SIDE * self.place * sides / view.extent
        corner = map_points(self.corner, view) * sides
        return torch.cat([corner, extent[:, None].expand_as(corner)], dim=2)


def required_overlap(places: tuple[float, float], layout: Layout, count: int = len(GRID)) -> float:
    """Fraction of each side that must lie within both views for all regions to fit.

    Parameters
    ----------
    places : tuple of float
        Places along each side of the slice.
    layout : {"random", "grid"}
        Layout of the regions.
    count : int
        Number of regions.

    Raises
    ------
    ConfigError
        If they do not fit the whole slice.
    """
    height, width = places
    if layout == "grid":
        share = GRID_PLACES / min(places)
    else:
        share = min(
            max(SIDE * rows / height, SIDE * ceil(count / rows) / width)
            for rows in range(1, count + 1)
        )
    if share > 1:
        raise ConfigError(
            f"{count} regions of {SIDE} × {SIDE} do not fit features of {height:g} × {width:g} "
            "places; choose a later level of the decoder, fewer random regions or larger slices."
        )
    return min(1.0, share + LEEWAY)


def grid_regions(corner: Tensor, extent: Tensor, places: tuple[float, float]) -> Regions:
    """Place the 13 regions of Chaitanya et al. 2020 on a part of each slice.

    The regions lie on a grid of 3 × 3 and at the four points between. The negatives, which the
    paper does not give, are the five nearest regions, see :data:`NEIGHBOURS`.

    Parameters
    ----------
    corner, extent : Tensor, shape (N, 2)
        The part, from :func:`~napari_sslseg.core.pretext.contrast.views.common_part`.
    places : tuple of float
        Places along each side of the slice.
    """
    sides = torch.tensor(places)
    way = ((extent * sides - SIDE)[:, None] * torch.tensor(GRID)) / 4
    way = torch.where(_whole(extent)[:, None], way.floor(), way)
    negatives = torch.tensor(NEIGHBOURS).expand(len(corner), -1, -1)
    return Regions(corner[:, None] + way / sides, 1 / sides, negatives)


def random_regions(
    corner: Tensor,
    extent: Tensor,
    places: tuple[float, float],
    *,
    count: int,
    negatives: int,
    generator: torch.Generator,
) -> Regions:
    """Draw regions that do not overlap in a part of each slice, and negatives among them.

    Each slice gets a grid of cells of the size of a region, with a random start; regions are random
    cells of it. So their number is always reached, without rejection.

    Parameters
    ----------
    corner, extent, places
        As for :func:`grid_regions`; the part must be at least :func:`required_overlap`.
    count : int
        Number of regions of each slice.
    negatives : int
        Number of negatives of each region, fewer than the regions.
    generator : Generator
        Generator on the CPU; the same state draws the same regions.
    """
    n = len(corner)
    sides = torch.tensor(places)
    room = extent * sides
    fitting = (room / SIDE).floor()
    # The grid starts anywhere within a cell, unless too few whole cells would remain.
    ample = (fitting - 1).prod(1, keepdim=True) >= count
    slack = room - SIDE * fitting
    whole = _whole(extent)
    reach = torch.where(ample, float(SIDE), torch.where(whole, slack.floor() + 1, slack))
    begin = torch.rand(n, 2, generator=generator) * reach
    begin = torch.where(whole, begin.floor(), begin)

    cells = torch.where(ample, ((room - begin) / SIDE).floor(), fitting).long()
    rows, columns = cells.amax(0).tolist()
    index = torch.arange(rows * columns)
    row, column = index // columns, index % columns
    there = (row < cells[:, :1]) & (column < cells[:, 1:])
    # Scores are from 0 to 1, so cells outside come last.
    score = torch.rand(n, rows * columns, generator=generator).masked_fill(~there, -1)
    chosen = score.topk(count).indices
    way = begin[:, None] + SIDE * torch.stack([row[chosen], column[chosen]], dim=2)

    preference = torch.rand(n, count, count, generator=generator)
    preference.diagonal(dim1=1, dim2=2).fill_(-1)
    others = preference.topk(negatives).indices
    return Regions(corner[:, None] + way / sides, 1 / sides, others)


def sample_features(features: Tensor, points: Tensor) -> Tensor:
    """Features at points between places, interpolated linearly.

    Parameters
    ----------
    features : Tensor, shape (N, C, h, w)
        Feature maps.
    points : Tensor, shape (N, R, P, 2)
        Row and column, as fractions of the sides of the map; the first place is from 0 to 1/h.

    Returns
    -------
    Tensor, shape (N, R, P, C)
        In at least float32, for the interpolation.
    """
    kind = torch.promote_types(features.dtype, torch.float32)
    # grid_sample takes coordinates from −1 to 1, x before y.
    grid = 2 * points.flip(-1).to(features.device, kind) - 1
    found = functional.grid_sample(
        features.to(kind), grid, padding_mode="border", align_corners=False
    )
    return found.permute(0, 2, 3, 1)


def _whole(extent: Tensor) -> Tensor:
    """Whether the part is the whole slice, shape (N, 1)."""
    return (extent == 1).all(1, keepdim=True)
