"""Regions of slices that local contrast compares: drawn on the CPU, then found in both views.

A region is a square of 3 × 3 places, a place being what one element of a feature map stands for.
Regions lie in the part of the slice that both views show. Where the views show the whole slice,
regions lie on whole places; where they are crops, a region lies between places, and its 9 points
are found in each view by the crop's own transform.
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
"""How regions are laid: anywhere without overlap, or at the 13 fixed places."""

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
"""Rows and columns of the 13 regions, in quarters of the way from the first place to the last."""

# The five nearest others. Where several are as near, the next one clockwise; so the table stays
# the same if the grid is turned by a quarter, but for the fifth of the centre.
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
"""For each of the 13 regions the five that are its negatives."""

GRID_PLACES = 4 * SIDE + SIDE
"""Along each side, so that the 13 regions do not overlap."""

# Views have this share more in common than regions need, so that rounding takes none away.
LEEWAY = 1e-4


@dataclass(frozen=True, eq=False)
class Regions:
    """R regions on each of N slices, on the CPU.

    Parameters
    ----------
    corner : Tensor, shape (N, R, 2)
        Upper left corner (row, column), in shares of the slice's sides.
    place : Tensor, shape (2,)
        Height and width of a place, in shares of the slice's sides.
    negatives : Tensor, shape (N, R, K), integer
        For each region the K others that are its negatives.
    """

    corner: Tensor
    place: Tensor
    negatives: Tensor

    def points(self, view: ViewParameters) -> Tensor:
        """Where the 9 places of each region lie in a view, shape (N, R, 9, 2).

        Centres of the places, row by row, in shares of the view's sides.
        """
        steps = torch.arange(SIDE) + 0.5
        offsets = torch.cartesian_prod(steps, steps) * self.place
        points = self.corner[:, :, None] + offsets
        return map_points(points.flatten(1, 2), view).view_as(points)

    def boxes(self, view: ViewParameters, size: tuple[int, int]) -> Tensor:
        """Top, left, height and width in pixels of a view of this size, shape (N, R, 4)."""
        sides = torch.tensor(size, dtype=self.corner.dtype)
        extent = SIDE * self.place * sides / view.extent
        corner = map_points(self.corner, view) * sides
        return torch.cat([corner, extent[:, None].expand_as(corner)], dim=2)


def least_common(places: tuple[float, float], layout: Layout, count: int = len(GRID)) -> float:
    """Least share of each side that must lie within both views for all regions to fit.

    Parameters
    ----------
    places : tuple of float
        Places along each side of the slice.
    layout : {"random", "grid"}
        How regions are laid.
    count : int
        Number of regions.

    Raises
    ------
    ConfigError
        If they do not fit even the whole slice.
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
    """Lay the 13 regions of Chaitanya et al. 2020 over a part of each slice.

    Their regions lie on a grid of 3 × 3 and at the four points between; which five of the others
    are negatives of each is chosen here: the nearest, see :data:`NEIGHBOURS`.

    Parameters
    ----------
    corner, extent : Tensor, shape (N, 2)
        The part, as :func:`~napari_sslseg.core.pretext.contrast.views.common_part` gives it.
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

    Each slice gets a grid of cells as large as a region, which begins at a random place; regions
    are random cells of it. So there are always as many as asked for, without rejection.

    Parameters
    ----------
    corner, extent, places
        As for :func:`grid_regions`; the part must hold what :func:`least_common` says.
    count : int
        Regions of each slice.
    negatives : int
        Negatives of each region, fewer than regions.
    generator : Generator
        On the CPU; the same state draws the same regions.
    """
    n = len(corner)
    sides = torch.tensor(places)
    room = extent * sides
    fitting = (room / SIDE).floor()
    # The grid begins anywhere within a cell, unless that would leave too few whole cells.
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
    # Scores reach from 0 to 1, so a cell that is not there comes last.
    score = torch.rand(n, rows * columns, generator=generator).masked_fill(~there, -1)
    chosen = score.topk(count).indices
    way = begin[:, None] + SIDE * torch.stack([row[chosen], column[chosen]], dim=2)

    preference = torch.rand(n, count, count, generator=generator)
    preference.diagonal(dim1=1, dim2=2).fill_(-1)
    others = preference.topk(negatives).indices
    return Regions(corner[:, None] + way / sides, 1 / sides, others)


def features_at(features: Tensor, points: Tensor) -> Tensor:
    """Features at points between places, interpolated linearly.

    Parameters
    ----------
    features : Tensor, shape (N, C, h, w)
        Feature maps.
    points : Tensor, shape (N, R, P, 2)
        Row and column, in shares of the map's sides; the first place reaches from 0 to 1/h.

    Returns
    -------
    Tensor, shape (N, R, P, C)
        In single precision or better, as the interpolation needs.
    """
    kind = torch.promote_types(features.dtype, torch.float32)
    # grid_sample counts from −1 to 1 and x before y.
    grid = 2 * points.flip(-1).to(features.device, kind) - 1
    found = functional.grid_sample(
        features.to(kind), grid, padding_mode="border", align_corners=False
    )
    return found.permute(0, 2, 3, 1)


def _whole(extent: Tensor) -> Tensor:
    """Slices of which the part is all, shape (N, 1)."""
    return (extent == 1).all(1, keepdim=True)
