import dataclasses
from math import prod

import pytest
import torch

from napari_sslseg.core.pretext.corruptions.genesis import Genesis, apply_curves, bezier_curves

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(size, **rates):
    """Return a corruption that applies one distortion to every image."""
    off = {"curve_rate": 0, "shuffle_rate": 0, "paint_rate": 0}
    return Genesis(size, **off | rates)


def numbered(n, size, channels=1):
    ones = [1] * len(size)
    pixels = torch.arange(prod(size), dtype=torch.float32).view(1, 1, *size)
    return pixels.repeat(n, channels, *ones) + 100_000 * torch.arange(channels).view(1, -1, *ones)


# --- intensity curves -------------------------------------------------------------------------


def test_control_points_on_the_diagonal_change_nothing():
    controls = torch.tensor([[[1 / 3, 1 / 3], [2 / 3, 2 / 3]], [[0.0, 0.0], [1.0, 1.0]]])
    straight = torch.linspace(0, 1, 257).expand(2, -1)
    torch.testing.assert_close(bezier_curves(controls), straight, atol=1e-6, rtol=0)


def test_a_curve_by_hand():
    # x(t) = t, so y(x) = 3 x (1 − x)² + x³ for control points of heights 1 and 0.
    curve = bezier_curves(torch.tensor([[[1 / 3, 1.0], [2 / 3, 0.0]]]))[0]
    x = torch.linspace(0, 1, 257)
    torch.testing.assert_close(curve, 3 * x * (1 - x) ** 2 + x**3, atol=1e-5, rtol=0)


@pytest.mark.parametrize("corner", [(0.0, 1.0), (1.0, 0.0)])
def test_the_steepest_curves_are_finite(corner):
    """Control points in the corners of the square, where the slope is infinite."""
    curve = bezier_curves(torch.tensor([[corner, corner]]))[0]
    assert curve.isfinite().all()
    assert (curve[0], curve[-1]) == (0, 1)


def test_curves_are_monotone_from_zero_to_one():
    curves = bezier_curves(torch.rand(5000, 2, 2, generator=generator()))
    assert (curves.diff(dim=1) >= 0).all()
    assert (curves[:, 0] == 0).all()
    assert (curves[:, -1] == 1).all()


@pytest.mark.parametrize("size", [(32, 32), (8, 16, 8)])
def test_curves_keep_order_bounds_and_flat_images(size):
    genesis = only(size, curve_rate=1)
    images = torch.randn(40, 2, *size, generator=generator())
    images[0, 1] = 3.5
    kept = images.clone()
    parameters = genesis.sample(40, generator(1))
    out = genesis.apply(images, parameters)
    assert torch.equal(images, kept)
    assert (out[0, 1] == 3.5).all()
    rising = parameters.curves[:, -1] == 1
    assert 8 < rising.sum() < 32
    for image, bent, up in zip(images[1:], out[1:], rising[1:], strict=True):
        for channel in range(2):
            order = image[channel].flatten().argsort()
            steps = bent[channel].flatten()[order].diff()
            assert (steps if up else -steps).min() >= -1e-5
            torch.testing.assert_close(bent[channel].aminmax(), image[channel].aminmax())


def test_curves_are_interpolated():
    images = torch.tensor([[[[0.0, 1.0, 3.0, 4.0]]]])
    low, high = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 4.0)
    curve = torch.tensor([[0.0, 0.75, 1.0]])
    assert apply_curves(images, curve, low, high).flatten().tolist() == [0, 1.5, 3.5, 4]


# --- local shuffling --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 64), (64, 64), (100, 36), (20, 34, 42)])
def test_pixels_are_shuffled_within_their_windows(size):
    genesis = only(size, shuffle_rate=1)
    parameters = genesis.sample(30, generator())
    images = numbered(30, size, channels=2)
    out = genesis.apply(images, parameters)
    assert torch.equal(out[:, 0] + 100_000, out[:, 1])
    assert torch.equal(out.flatten(2).sort().values, images.flatten(2))
    source = out[:, 0].long()
    grid = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    for image, (window, offset) in enumerate(
        zip(parameters.windows.tolist(), parameters.offsets.tolist(), strict=True)
    ):
        origins = torch.unravel_index(source[image], size)
        for axis, (here, there) in enumerate(zip(grid, origins, strict=True)):
            place = (here - offset[axis]).div(window[axis], rounding_mode="floor")
            from_place = (there - offset[axis]).div(window[axis], rounding_mode="floor")
            assert torch.equal(place, from_place)
            whole = (place >= 0) & ((place + 1) * window[axis] + offset[axis] <= size[axis])
            assert (source[image] == images[image, 0])[~whole].all()
        # Most pixels of complete windows move, in different ways in different windows.
        assert (source[image] != images[image, 0]).float().mean() > 0.3


def test_windows_are_at_most_a_tenth_of_the_slice_and_reach_it():
    genesis = only((64, 100), shuffle_rate=1)
    windows = genesis.sample(3000, generator()).windows
    assert windows.amin(0).tolist() == [2, 2]
    assert windows.amax(0).tolist() == [6, 10]


def test_windows_of_volumes_are_boxes_of_three_sides():
    genesis = only((30, 64, 100), shuffle_rate=1)
    drawn = genesis.sample(3000, generator())
    assert drawn.windows.amin(0).tolist() == [2, 2, 2]
    assert drawn.windows.amax(0).tolist() == [3, 6, 10]
    # Voxels move between slices.
    parameters = genesis.sample(4, generator())
    slices = genesis.shuffled_pixels(parameters, CPU) // (64 * 100)
    moved = slices != torch.arange(30)[:, None, None]
    assert moved.float().mean() > 0.3


def test_windows_of_one_image_are_shuffled_differently():
    genesis = only((64, 64), shuffle_rate=1)
    parameters = genesis.sample(1, generator())
    parameters = dataclasses.replace(
        parameters, windows=torch.tensor([[6, 6]]), offsets=torch.tensor([[0, 0]])
    )
    source = genesis.shuffled_pixels(parameters, CPU)[0]
    shifts = (source - torch.arange(64 * 64).view(64, 64))[:60, :60]
    windows = shifts.unfold(0, 6, 6).unfold(1, 6, 6).flatten(2).flatten(0, 1)
    assert len(windows.unique(dim=0)) > 30  # of 36 possible rotations of the cycle
    # Over many draws, every pixel of a window comes from every other one equally often.
    many = genesis.shuffled_pixels(
        dataclasses.replace(
            genesis.sample(3000, generator()),
            shuffled=torch.ones(3000, dtype=torch.bool),
            windows=torch.full((3000, 2), 2),
            offsets=torch.zeros(3000, 2, dtype=torch.int64),
        ),
        CPU,
    )
    for pixel in (0, 1, 64, 65):
        came_from = many.flatten(1)[:, pixel]
        for source_pixel in (0, 1, 64, 65):
            assert 650 < (came_from == source_pixel).sum() < 850


# --- painting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_area", [0.1, 0.25, 0.6])
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (32, 32), (24, 32, 20)])
@pytest.mark.parametrize("outside_rate", [0, 1])
def test_no_more_than_the_largest_area_is_painted(size, max_area, outside_rate):
    genesis = only(size, paint_rate=1, outside_rate=outside_rate, max_area=max_area)
    parameters = genesis.sample(400, generator())
    mask = genesis.mask(parameters)
    share = mask.flatten(1).float().mean(dim=1)
    assert share.max() <= max_area
    assert share.mean() > 0.05 * max_area
    middle = mask[(slice(None), 0, *(side // 2 for side in size))].float().mean()
    edge = mask[:, 0, 0].float().mean()
    # Pixels outside are at the border.
    assert (edge > middle) == bool(outside_rate)


@pytest.mark.parametrize("size", [(48, 48), (12, 16, 12)])
def test_paint_is_one_intensity_between_the_extremes_and_the_rest_stays(size):
    genesis = only(size, paint_rate=1, outside_rate=0.5)
    images = torch.randn(20, 2, *size, generator=generator())
    kept = images.clone()
    parameters = genesis.sample(20, generator(1))
    out = genesis.apply(images, parameters)
    assert torch.equal(images, kept)
    mask = genesis.mask(parameters)
    assert torch.equal(out[~mask.expand_as(out)], images[~mask.expand_as(out)])
    for image, (painted, paint) in enumerate(zip(mask[:, 0], parameters.paint, strict=True)):
        for channel in range(2):
            values = out[image, channel][painted].unique()
            low, high = images[image, channel].aminmax()
            assert values.tolist() == pytest.approx([(low + paint * (high - low)).item()])


def test_probabilities_of_zero_change_nothing():
    genesis = only((32, 32))
    images = torch.randn(5, 2, 32, 32)
    parameters = genesis.sample(5, generator())
    assert torch.equal(genesis.apply(images, parameters), images)
    assert not genesis.mask(parameters).any()


def test_each_distortion_has_its_probability():
    genesis = Genesis((32, 32))
    drawn = genesis.sample(4000, generator())
    painted = (drawn.boxes.sides > 0).any(dim=2).any(dim=1)
    assert drawn.curved.float().mean() == pytest.approx(0.9, abs=0.02)
    assert drawn.shuffled.float().mean() == pytest.approx(0.5, abs=0.03)
    assert painted.float().mean() == pytest.approx(0.9, abs=0.02)
    assert drawn.outside[painted].float().mean() == pytest.approx(0.8, abs=0.03)
    assert not drawn.outside[~painted].any()
    both = (drawn.curved & drawn.shuffled).float().mean()
    assert both == pytest.approx(0.45, abs=0.03)  # independent of each other
