"""Views of slices: crops and intensity changes."""

import pytest
import torch

from napari_sslseg.core.pretext.contrast.views import (
    ViewParameters,
    apply_view,
    map_points,
    sample_view,
)


def one_view(corner, extent, contrast=1.0, brightness=0.0):
    return ViewParameters(
        torch.tensor([corner]),
        torch.tensor([extent]),
        torch.tensor([contrast]),
        torch.tensor([brightness]),
    )


def test_a_view_without_changes_is_the_slice():
    images = torch.randn(2, 3, 16, 24)
    view = ViewParameters(torch.zeros(2, 2), torch.ones(2, 2), torch.ones(2), torch.zeros(2))
    torch.testing.assert_close(apply_view(images, view), images, atol=1e-5, rtol=1e-5)


def test_a_crop_shows_that_part_of_a_linear_slice():
    """In a slice of linear intensity each value determines its position."""
    height, width = 40, 60
    row = (torch.arange(height) + 0.5) / height
    column = (torch.arange(width) + 0.5) / width
    images = torch.stack(torch.meshgrid(row, column, indexing="ij"))[None]
    seen = apply_view(images, one_view((0.25, 0.5), (0.5, 0.4)))
    torch.testing.assert_close(seen[0, 0, :, 0], 0.25 + 0.5 * row, atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0, 1, 0], 0.5 + 0.4 * column, atol=1e-5, rtol=0)


def test_points_move_with_the_crop():
    view = one_view((0.25, 0.5), (0.5, 0.4))
    points = torch.tensor([[[0.25, 0.5], [0.5, 0.7], [0.0, 0.0]]])
    expected = torch.tensor([[[0.0, 0.0], [0.5, 0.5], [-0.5, -1.25]]])
    torch.testing.assert_close(map_points(points, view), expected)


def test_intensity_is_in_standard_deviations_of_each_channel():
    images = torch.randn(1, 2, 32, 32) * torch.tensor([1.0, 50.0])[:, None, None] + 7
    seen = apply_view(images, one_view((0.0, 0.0), (1.0, 1.0), 1.3, 0.2))
    deviation, mean = torch.std_mean(images, dim=(2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(
        seen, (images - mean) * 1.3 + mean + 0.2 * deviation, atol=1e-3, rtol=1e-4
    )


def test_parameters_stay_within_their_bounds_and_reach_them():
    view = sample_view(20_000, torch.Generator().manual_seed(0))
    area = view.extent.prod(1)
    assert area.min() >= 0.3 - 1e-6
    assert area.max() <= 1
    assert area.min() < 0.301
    assert area.max() > 0.999
    assert (view.corner >= 0).all()
    assert (view.corner + view.extent <= 1 + 1e-6).all()
    assert view.contrast.min() == pytest.approx(0.7, abs=1e-3)
    assert view.contrast.max() == pytest.approx(1.3, abs=1e-3)
    assert view.brightness.abs().max() == pytest.approx(0.3, abs=1e-3)


def test_the_same_seed_draws_the_same_views_which_differ_between_slices():
    first, again = (sample_view(5, torch.Generator().manual_seed(3)) for _ in range(2))
    for name in ("corner", "extent", "contrast", "brightness"):
        torch.testing.assert_close(getattr(first, name), getattr(again, name))
        assert len(torch.unique(getattr(first, name), dim=0)) == 5


def test_without_a_crop_pixels_keep_their_position():
    view = sample_view(4, torch.Generator().manual_seed(0), least_area=1.0)
    points = torch.rand(4, 9, 2)
    torch.testing.assert_close(map_points(points, view), points)


def test_half_precision_moves_no_pixel():
    """The loss, and with it the crop, is computed within autocast."""
    images = torch.randn(3, 1, 64, 64)
    view = sample_view(3, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = apply_view(images, view)
    torch.testing.assert_close(seen, apply_view(images, view))
