import math

import pytest
import torch

from napari_sslseg.core.segmentation.augment import (
    apply_augmentation,
    sample_augmentation,
    sampling_grid,
)
from napari_sslseg.core.segmentation.intensity import apply_blur, apply_gamma
from napari_sslseg.core.settings.augmentation import Augmentation

NOTHING = dict.fromkeys(("translation", "rotation", "crop", "elastic", "intensity", "noise"), 0)


def only(**options):
    return Augmentation(**(NOTHING | options))


def draw(n, settings, seed=0):
    return sample_augmentation(n, settings, torch.Generator().manual_seed(seed))


def blob(height=64, width=64, row=40, column=20, n=4):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (((rows - row) ** 2 + (columns - column) ** 2) < 64).long().expand(n, -1, -1)
    return labels[:, None].float() * 5 + 1, labels


def test_zero_strengths_change_nothing():
    images, labels = blob()
    same, classes = apply_augmentation(images, labels, draw(4, only()))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)
    assert torch.equal(classes, labels)


def test_images_and_labels_move_together():
    settings = only(translation=0.2, rotation=40, crop=0.3, elastic=0.03)
    images, labels = blob(n=16)
    moved, classes = apply_augmentation(images, labels, draw(16, settings))
    assert not torch.equal(classes, labels)
    agree = ((moved[:, 0] > 3.5) == (classes == 1)).float().mean()
    assert agree > 0.995


@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_a_rotation_keeps_areas_and_distances(size):
    height, width = size
    images, labels = blob(height, width, height // 2, width // 2 - 8, n=32)
    _, classes = apply_augmentation(images, labels, draw(32, only(rotation=180)))
    area = classes.sum(dim=(1, 2)).float()
    assert (area / labels[0].sum() - 1).abs().max() < 0.06
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for one in classes:
        row, column = rows[one == 1].float().mean(), columns[one == 1].float().mean()
        radius = math.hypot(row - (height - 1) / 2, column - (width - 1) / 2)
        assert radius == pytest.approx(7.5, abs=0.7)


def test_a_translation_stays_within_its_bound():
    images, labels = blob(row=32, column=32, n=64)
    _, classes = apply_augmentation(images, labels, draw(64, only(translation=0.1)))
    rows = torch.arange(64.0)[:, None]
    centre = (classes * rows).sum(dim=(1, 2)) / classes.sum(dim=(1, 2))
    assert 3 < (centre - 32).abs().max() <= 0.1 * 64 + 1


def test_left_and_right_are_never_swapped():
    # A smaller blob is right of the larger one; no draw may swap their order.
    images, labels = blob(column=16, row=32, n=64)
    images, labels = images.clone(), labels.clone()
    labels[:, 30:34, 44:48] = 2
    settings = Augmentation()
    _, classes = apply_augmentation(images, labels, draw(64, settings))
    columns = torch.arange(64.0)
    for one in classes:
        if (one == 2).any() and (one == 1).any():
            first = (columns * (one == 1)).sum() / (one == 1).sum()
            second = (columns * (one == 2)).sum() / (one == 2).sum()
            assert first < second


def test_the_border_is_replicated_in_images_and_labels():
    images, labels = torch.full((16, 1, 64, 64), 6.0), torch.ones(16, 64, 64, dtype=torch.long)
    moved, classes = apply_augmentation(images, labels, draw(16, only(translation=0.4, crop=0.5)))
    assert (moved > 5.9).all()
    assert (classes == 1).all()


def test_intensity_changes_only_images():
    images, labels = blob()
    changed, classes = apply_augmentation(images, labels, draw(4, only(intensity=0.3, noise=0.1)))
    assert torch.equal(classes, labels)
    assert (changed - images).abs().mean() > 0.01


def test_the_same_parameters_give_the_same_batch():
    images, labels = blob()
    kept = images.clone()
    one = apply_augmentation(images, labels, draw(4, Augmentation(), 7))
    two = apply_augmentation(images, labels, draw(4, Augmentation(), 7))
    other = apply_augmentation(images, labels, draw(4, Augmentation(), 8))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    assert torch.equal(images, kept)


def test_half_precision_moves_no_pixel():
    """The loss, and with it the augmentation, is computed within autocast."""
    images, labels = blob()
    parameters = draw(4, Augmentation())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        moved, classes = apply_augmentation(images, labels, parameters)
    expected = apply_augmentation(images, labels, parameters)
    torch.testing.assert_close(moved, expected[0])
    assert torch.equal(classes, expected[1])


# --- volumes ----------------------------------------------------------------------------------


def ball(size=(20, 48, 40), centre=(9, 30, 12), n=8, radius=6):
    grid = torch.meshgrid(*(torch.arange(side) for side in size), indexing="ij")
    distance = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
    labels = (distance < radius**2).long().expand(n, -1, -1, -1)
    return labels[:, None].float() * 5 + 1, labels


def draw_volumes(n, settings, seed=0):
    return sample_augmentation(n, settings, torch.Generator().manual_seed(seed), dimensions=3)


def centres(classes):
    grid = torch.meshgrid(*(torch.arange(float(side)) for side in classes.shape[1:]), indexing="ij")
    area = classes.flatten(1).sum(dim=1)
    return torch.stack([(classes * g).flatten(1).sum(dim=1) / area for g in grid], dim=1)


def test_zero_strengths_do_not_change_volumes():
    images, labels = ball()
    same, classes = apply_augmentation(images, labels, draw_volumes(8, only()))
    torch.testing.assert_close(same, images, atol=1e-4, rtol=0)
    assert torch.equal(classes, labels)


def test_volumes_and_their_labels_move_together():
    settings = only(translation=0.2, rotation=40, crop=0.3, elastic=0.03)
    images, labels = ball()
    moved, classes = apply_augmentation(images, labels, draw_volumes(8, settings))
    assert moved.shape == images.shape
    assert classes.dtype == labels.dtype
    assert (classes != labels).any()
    assert ((moved[:, 0] > 3.5) == (classes == 1)).float().mean() > 0.995


def test_volumes_rotate_only_within_axial_slices():
    images, labels = ball(centre=(9, 30, 20), radius=5)
    _, classes = apply_augmentation(images, labels, draw_volumes(8, only(rotation=180)))
    found = centres(classes)
    assert (found[:, 0] - 9).abs().max() < 0.3
    middle = torch.tensor([23.5, 19.5])
    radius = (found[:, 1:] - middle).norm(dim=1)
    assert (radius - (torch.tensor([30.0, 20.0]) - middle).norm()).abs().max() < 0.7
    assert found[:, 1:].std(dim=0).min() > 1
    sizes = classes.flatten(1).sum(dim=1) / labels[0].sum()
    assert (sizes - 1).abs().max() < 0.1


def test_volumes_shift_along_all_axes_within_the_bound():
    images, labels = ball(size=(40, 40, 40), centre=(20, 20, 20), n=24, radius=5)
    _, classes = apply_augmentation(images, labels, draw_volumes(24, only(translation=0.1)))
    shift = (centres(classes) - 20).abs().amax(dim=0)
    assert (shift > 2).all()
    assert (shift <= 0.1 * 40 + 1).all()


def test_volumes_scale_equally_along_all_axes():
    images, labels = ball(size=(32, 32, 32), centre=(15.5, 15.5, 15.5), n=12, radius=8)
    _, classes = apply_augmentation(images, labels, draw_volumes(12, only(crop=0.4)))
    extents = torch.stack(
        [classes.amax(dim=[a for a in (1, 2, 3) if a != axis]).sum(dim=1) for axis in (1, 2, 3)], 1
    )
    assert (extents.amax(dim=1) - extents.amin(dim=1)).max() <= 1
    assert extents.amax() - extents.amin() > 4


def test_elastic_displacements_of_volumes_are_smooth_along_all_axes():
    parameters = draw_volumes(2, only(elastic=0.05))
    size = (24, 32, 28)
    still = sampling_grid(draw_volumes(2, only()), size)
    moved = sampling_grid(parameters, size) - still
    assert moved.shape == (2, *size, 3)
    assert moved.flatten(0, 3).std(dim=0).min() > 0.02
    for axis in (1, 2, 3):
        # Cubic curves are smooth: second differences are small compared with the first.
        first = moved.diff(dim=axis).abs().max()
        assert moved.diff(n=2, dim=axis).abs().max() < 0.5 * first
    # The corners are control points, in the order columns, rows, slices.
    corner = parameters.displacement[:, :, 0, -1, 0]
    torch.testing.assert_close(moved[:, 0, -1, 0], corner, atol=1e-5, rtol=0)


def test_intensities_of_volumes_follow_the_parameters():
    images, labels = ball(n=3)
    settings = Augmentation()
    one, two, other = (
        apply_augmentation(images, labels, draw_volumes(3, settings, seed)) for seed in (7, 7, 8)
    )
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    noisy, classes = apply_augmentation(
        images, labels, draw_volumes(3, only(intensity=0.3, noise=0.1))
    )
    assert torch.equal(classes, labels)
    assert (noisy - images).abs().mean() > 0.01


def test_gamma_keeps_minimum_and_maximum():
    image = torch.tensor([[2.0, 3.0, 4.0, 6.0]]).view(1, 1, 1, 4)
    images = image.repeat(3, 2, 1, 1)
    images[:, 1] *= -10  # Each channel has its own range.
    bent = apply_gamma(images, torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(bent[0], images[0])
    torch.testing.assert_close(bent[1, 0, 0], torch.tensor([2, 2.25, 3, 6]))
    torch.testing.assert_close(bent[2, 0, 0], torch.tensor([2, 4, 2 + 8**0.5, 6]))
    torch.testing.assert_close(bent[1, 1, 0, [0, 3]], images[1, 1, 0, [0, 3]])
    flat = torch.full((1, 1, 3, 3), 5.0)
    torch.testing.assert_close(apply_gamma(flat, torch.tensor([2.0])), flat)


@pytest.mark.parametrize("shape", [(2, 1, 41, 41), (2, 2, 3, 41, 41)])
def test_each_image_is_blurred_by_its_own_gaussian(shape):
    images = torch.zeros(shape)
    images[..., 20, 20] = 1
    blurred = apply_blur(images, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(blurred[0], images[0])
    spot = blurred[1].reshape(-1, 41, 41)
    torch.testing.assert_close(spot, spot[:1].expand_as(spot))
    assert spot[0].sum() == pytest.approx(1, abs=1e-4)
    rows = torch.arange(41.0) - 20
    assert float((spot[0].sum(1) * rows**2).sum()) ** 0.5 == pytest.approx(2, rel=0.02)
    assert float((spot[0].sum(0) * rows**2).sum()) ** 0.5 == pytest.approx(2, rel=0.02)
    even = torch.full((1, 1, 9, 9), 3.0)
    torch.testing.assert_close(apply_blur(even, torch.tensor([1.5])), even)


def test_gamma_and_blur_stay_within_their_bounds():
    generator = torch.Generator().manual_seed(0)
    asked = Augmentation(gamma=1.0, blur=1.5)
    draw = sample_augmentation(2000, asked, generator)
    assert draw.gamma.min() == pytest.approx(0.5, abs=0.01)
    assert draw.gamma.max() == pytest.approx(2, abs=0.02)
    assert draw.gamma.log().mean() == pytest.approx(0, abs=0.05)
    assert draw.blur.min() >= 0
    assert draw.blur.max() == pytest.approx(1.5, abs=0.01)
    usual = sample_augmentation(4, Augmentation(), torch.Generator().manual_seed(0))
    same = sample_augmentation(4, asked, torch.Generator().manual_seed(0))
    assert usual.gamma is None
    assert usual.blur is None
    assert torch.equal(usual.matrices, same.matrices)
    images, labels = torch.randn(4, 1, 24, 24), torch.zeros(4, 24, 24, dtype=torch.int64)
    labels[:, 8:16] = 1
    changed, labels_after = apply_augmentation(images, labels, same)
    plain, moved = apply_augmentation(images, labels, usual)
    assert torch.equal(labels_after, moved)
    assert not torch.allclose(changed, plain)
