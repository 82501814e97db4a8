"""Regions of local contrast: positions, distances, and correspondence of both views."""

import math

import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.contrast.regions import (
    GRID,
    NEIGHBOURS,
    Regions,
    grid_regions,
    random_regions,
    required_overlap,
    sample_features,
)
from napari_sslseg.core.pretext.contrast.views import (
    ViewParameters,
    apply_view,
    common_part,
    sample_pair,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(n=1, corner=(0.0, 0.0), extent=(1.0, 1.0)):
    """Return a view that changes no value."""
    return ViewParameters(
        torch.tensor([corner]).repeat(n, 1),
        torch.tensor([extent]).repeat(n, 1),
        torch.ones(n),
        torch.zeros(n),
    )


def drawn(n=500, places=(16, 20), count=13, negatives=5, least_area=1.0, seed=0):
    """Return views and random regions of ``n`` slices."""
    draw = generator(seed)
    common = required_overlap(places, "random", count)
    views = sample_pair(n, draw, required_overlap=common, least_area=least_area)
    part = common_part(*views)
    return views, random_regions(*part, places, count=count, negatives=negatives, generator=draw)


def coordinate_images(n, height, width):
    """Return slices whose two channels are the row and the column of each pixel, from 0 to 1."""
    row = (torch.arange(height) + 0.5) / height
    column = (torch.arange(width) + 0.5) / width
    return torch.stack(torch.meshgrid(row, column, indexing="ij")).expand(n, -1, -1, -1)


# --- the grid


def test_the_grid_by_hand():
    """On 15 × 15 places the 13 regions begin at multiples of three, like a chessboard."""
    whole = plain()
    regions = grid_regions(whole.corner, whole.extent, (15, 15))
    begin = (regions.corner[0] * 15).round(decimals=4)
    assert begin.tolist() == [[3 * row, 3 * column] for row, column in GRID]
    assert regions.negatives[0].tolist() == [list(row) for row in NEIGHBOURS]


def test_neighbours_are_the_five_nearest_others():
    for region, chosen in enumerate(NEIGHBOURS):
        distance = [math.dist(GRID[region], other) for other in GRID]
        others = sorted(distance[:region] + distance[region + 1 :])
        assert region not in chosen
        assert len(set(chosen)) == 5
        assert sorted(distance[k] for k in chosen) == others[:5]


def test_the_table_of_neighbours_is_symmetric_under_rotation():
    turned = [GRID.index((column, 4 - row)) for row, column in GRID]
    for region, chosen in enumerate(NEIGHBOURS):
        if GRID[region] == (2, 2):
            continue  # No choice of five neighbours is symmetric.
        assert {turned[k] for k in chosen} == set(NEIGHBOURS[turned[region]])


@pytest.mark.parametrize("places", [(15, 15), (16, 29), (64, 33)])
def test_the_grid_reaches_the_borders_on_whole_places_without_overlap(places):
    whole = plain(2)
    regions = grid_regions(whole.corner, whole.extent, places)
    begin = regions.corner * torch.tensor(places)
    torch.testing.assert_close(begin, begin.round(), atol=1e-4, rtol=0)
    assert begin[0].amin(0).tolist() == [0, 0]
    torch.testing.assert_close(begin[0].amax(0), torch.tensor(places) - 3.0)
    assert_apart(regions)


# --- random regions


def assert_apart(regions):
    """Check that no two regions of a slice share more than a border."""
    begin = regions.corner / regions.place
    distance = (begin[:, :, None] - begin[:, None]).abs().amax(-1)
    distance.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    assert distance.min() >= 3 - 1e-3


@pytest.mark.parametrize("least_area", [1.0, 0.3])
@pytest.mark.parametrize("places", [(12, 12), (16, 20), (9, 40), (64, 48), (15.5, 13.25)])
def test_random_regions_never_overlap_and_lie_within_both_views(places, least_area):
    views, regions = drawn(n=2000, places=places, least_area=least_area)
    assert regions.corner.shape == (2000, 13, 2)
    assert_apart(regions)
    half = 0.5 * regions.place
    for view in views:
        points = regions.points(view)
        # Not only the centre of a place but the whole place is within the view.
        margin = (half / view.extent)[:, None, None]
        assert (points - margin >= -1e-5).all()
        assert (points + margin <= 1 + 1e-5).all()


def test_negatives_are_distinct_other_regions():
    _, regions = drawn(n=300, count=9, negatives=8)
    itself = torch.arange(9)[:, None]
    assert (regions.negatives != itself).all()
    others = torch.tensor([[k for k in range(9) if k != r] for r in range(9)])
    assert (regions.negatives.sort(dim=2).values == others).all()


def test_draws_reach_every_place_and_every_negative():
    _, regions = drawn(n=4000, places=(16, 20), count=4, negatives=1)
    begin = (regions.corner * torch.tensor([16, 20])).round().long().flatten(0, 1)
    assert {tuple(place) for place in begin.tolist()} == {
        (row, column) for row in range(14) for column in range(18)
    }
    assert len(torch.unique(regions.negatives[:, 0])) == 3


def test_without_crops_regions_lie_on_whole_places():
    _, regions = drawn(places=(12, 13))
    begin = regions.corner * torch.tensor([12, 13])
    torch.testing.assert_close(begin, begin.round(), atol=1e-4, rtol=0)


def test_the_same_seed_draws_the_same():
    (_, one), (_, two), (_, other) = (drawn(n=4, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.corner, two.corner)
    assert torch.equal(one.negatives, two.negatives)
    assert not torch.equal(one.corner, other.corner)


# --- required overlap


def test_the_required_overlap_by_hand():
    # 13 regions in 4 rows of 4 need 12 places along each side of 20.
    assert required_overlap((20, 20), "random", 13) == pytest.approx(0.6, abs=2e-4)
    # One row is enough for wide slices: 39 of 100 places along it, 3 of 3 across.
    assert required_overlap((3, 100), "random", 13) == 1
    # The grid needs 15 places along each side.
    assert required_overlap((30, 60), "grid") == pytest.approx(0.5, abs=2e-4)


@pytest.mark.parametrize(
    ("places", "layout"), [((8, 8), "random"), ((14, 64), "grid"), ((2, 100), "random")]
)
def test_too_few_places_are_refused(places, layout):
    with pytest.raises(ConfigError, match=r"do not fit .* places"):
        required_overlap(places, layout, 13)


def test_pairs_of_views_share_the_required_part():
    first, second = sample_pair(5000, generator(), required_overlap=0.6, least_area=0.3)
    corner, extent = common_part(first, second)
    assert extent.min() >= 0.6 - 1e-5
    assert extent.min() < 0.62
    for view in (first, second):
        assert view.extent.min() >= 0.6 - 1e-5
        assert view.corner.min() >= 0
        assert (view.corner + view.extent).max() <= 1 + 1e-6
        assert (corner >= view.corner - 1e-6).all()
        assert (corner + extent <= view.corner + view.extent + 1e-6).all()


def test_the_common_part_of_uncropped_views_is_everything():
    first, second = sample_pair(9, generator(), required_overlap=0.7, least_area=1.0)
    corner, extent = common_part(first, second)
    assert (corner == 0).all()
    assert (extent == 1).all()
    assert not torch.equal(first.contrast, second.contrast)


# --- correspondence


def test_points_and_boxes_by_hand():
    """A region at rows 3…6 and columns 6…9 of 12 × 12, in a crop of the lower right half."""
    regions = Regions(
        torch.tensor([[[3 / 12, 6 / 12]]]), torch.full((2,), 1 / 12), torch.zeros(1, 1, 0).long()
    )
    whole = regions.points(plain())[0, 0] * 12
    assert whole[0].tolist() == pytest.approx([3.5, 6.5])
    assert whole[1].tolist() == pytest.approx([3.5, 7.5])
    assert whole[8].tolist() == pytest.approx([5.5, 8.5])
    crop = plain(corner=(0.25, 0.5), extent=(0.5, 0.5))
    assert (regions.points(crop)[0, 0, 0] * 12).tolist() == pytest.approx([1.0, 1.0])
    assert regions.boxes(crop, (24, 48))[0, 0].tolist() == pytest.approx([0, 0, 12, 24])


@pytest.mark.parametrize("layout", ["random", "grid"])
@pytest.mark.parametrize("size", [(64, 48), (48, 96)])
def test_both_views_show_the_same_place_of_the_slice(layout, size):
    """Pixel values are coordinates, also in views and at points between pixels."""
    n, draw = 64, generator(3)
    common = required_overlap(size, layout, 13)
    first, second = sample_pair(n, draw, required_overlap=common, least_area=0.3, intensity=0.0)
    part = common_part(first, second)
    if layout == "grid":
        regions = grid_regions(*part, size)
    else:
        regions = random_regions(*part, size, count=13, negatives=5, generator=draw)
    assert (first.extent - second.extent).abs().max() > 0.2
    images = coordinate_images(n, *size)
    seen = [
        sample_features(apply_view(images, view), regions.points(view)) for view in (first, second)
    ]
    # Pixels at the border of a slice extend half a pixel beyond their centre.
    where = regions.points(plain(n))
    inside = ((where > 1 / min(size)) & (where < 1 - 1 / min(size))).all(-1)
    assert inside.float().mean() > 0.8
    torch.testing.assert_close(seen[0][inside], seen[1][inside], atol=1e-4, rtol=0)
    torch.testing.assert_close(seen[0][inside], where[inside], atol=1e-4, rtol=0)


def test_features_at_whole_places_are_not_interpolated():
    features = torch.randn(2, 5, 12, 16, generator=generator())
    regions = Regions(
        torch.tensor([[4 / 12, 7 / 16]]).repeat(2, 1, 1),
        1 / torch.tensor([12.0, 16.0]),
        torch.zeros(2, 1, 0).long(),
    )
    found = sample_features(features, regions.points(plain(2)))
    expected = features[:, :, 4:7, 7:10].flatten(2).transpose(1, 2)[:, None]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_half_precision_features_are_sampled_in_single_precision():
    features = torch.randn(1, 2, 8, 8).bfloat16()
    points = torch.rand(1, 3, 9, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sample_features(features, points)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sample_features(features.float(), points))
