import math

import pytest
import torch

from napari_sslseg.core.pretext.restoration.losses import (
    l2_norm,
    masked_l1,
    masked_l2,
    restoration_l2,
    restoration_mse,
)


@pytest.fixture
def output():
    # Two images, two channels, 1 × 2 pixels; squared sums 9, 25 and 1, 0.
    return torch.tensor([[[[3.0, 0.0]], [[3.0, 4.0]]], [[[0.0, -1.0]], [[0.0, 0.0]]]])


def test_restoration_l2_by_hand(output):
    loss = restoration_l2(output, torch.zeros_like(output))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(((9 + 1) / 2 + (25 + 0) / 2) / 2)


def test_l2_norm_by_hand(output):
    assert l2_norm(output, torch.zeros_like(output)).item() == pytest.approx((3 + 5 + 1 + 0) / 4)


def test_both_losses_measure_the_difference_from_the_target(output):
    assert restoration_l2(output, output) == 0
    assert l2_norm(output + 2, output).item() == pytest.approx(math.sqrt(8))


def test_restoration_l2_sums_over_pixels_and_averages_over_images():
    ones = torch.ones(3, 2, 5, 7)
    assert restoration_l2(ones, 0 * ones) == 35
    assert restoration_l2(ones[:1], 0 * ones[:1]) == 35


def test_losses_of_volumes_cover_all_voxels():
    # One image, two channels, 2 × 1 × 2 voxels; squared sums 9 + 16 and 1.
    output = torch.tensor([[[[[3.0, 0.0]], [[0.0, 4.0]]], [[[0.0, 0.0]], [[1.0, 0.0]]]]])
    zero = torch.zeros_like(output)
    assert restoration_l2(output, zero) == (25 + 1) / 2
    assert l2_norm(output, zero) == (5 + 1) / 2
    assert restoration_mse(output, zero) == 26 / 8
    mask = torch.tensor([[[[[True, False]], [[True, False]]]]])
    assert masked_l1(output, zero, mask) == (3 + 1) / 4
    assert masked_l2(output, zero, mask) == (9 + 1) / 4


@pytest.mark.parametrize("size", [(8, 8), (4, 8, 6)])
def test_the_gradient_reaches_every_pixel(size):
    output = torch.randn(2, 3, *size, requires_grad=True)
    target = torch.randn(2, 3, *size)
    restoration_l2(output, target).backward()
    assert output.grad is not None
    assert (output.grad != 0).all()
    torch.testing.assert_close(output.grad, 2 * (output - target).detach() / (2 * 3))


def test_half_precision_does_not_overflow():
    ones = torch.ones(1, 1, 512, 512, dtype=torch.float16)
    loss = restoration_l2(2 * ones, 0 * ones)
    assert loss.dtype == torch.float32
    assert loss == 4 * 512 * 512
    assert l2_norm(2 * ones, 0 * ones) == 2 * 512


def test_double_precision_is_kept():
    assert restoration_l2(*torch.zeros(2, 1, 1, 2, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("loss", [restoration_l2, l2_norm, restoration_mse])
def test_shapes_are_not_broadcast(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))


# --- averages over all pixels -----------------------------------------------------------------


def test_restoration_mse_by_hand(output):
    assert restoration_mse(output, torch.zeros_like(output)) == (9 + 9 + 16 + 1) / 8
    half = torch.full((1, 1, 512, 512), 300.0, dtype=torch.float16)
    assert restoration_mse(half, 0 * half) == 90_000


# --- only masked pixels -----------------------------------------------------------------------


@pytest.fixture
def mask():
    # Masked: the second pixel of the first image, and both pixels of the second.
    return torch.tensor([[[[False, True]]], [[[True, True]]]])


@pytest.mark.parametrize(
    ("loss", "errors"), [(masked_l1, 0 + 4 + (0 + 1) + 0), (masked_l2, 0 + 16 + (0 + 1) + 0)]
)
def test_masked_losses_by_hand(output, mask, loss, errors):
    # Three masked pixels in two channels.
    assert loss(output, torch.zeros_like(output), mask) == pytest.approx(errors / 6)


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
@pytest.mark.parametrize("loss", [masked_l1, masked_l2])
def test_the_gradient_is_exactly_zero_outside_the_mask(loss, size):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(4, 3, *size, generator=generator, requires_grad=True)
    target = torch.randn(4, 3, *size, generator=generator)
    mask = torch.rand(4, 1, *size, generator=generator) < 0.1
    loss(output, target, mask).backward()
    assert output.grad is not None
    where = mask.expand_as(output)
    assert (output.grad[~where] == 0).all()
    assert (output.grad[where] != 0).all()
    difference = (output - target).detach()[where]
    slope = difference.sign() if loss is masked_l1 else 2 * difference
    torch.testing.assert_close(output.grad[where], slope / where.sum())


@pytest.mark.parametrize("loss", [masked_l1, masked_l2])
def test_pixels_outside_the_mask_do_not_change_the_loss(output, mask, loss):
    expected = loss(output, 0 * output, mask)
    other = output.where(mask, torch.inf)
    assert loss(other, torch.zeros_like(output), mask) == expected


@pytest.mark.parametrize("loss", [masked_l1, masked_l2])
def test_masked_losses_do_not_depend_on_the_size(loss):
    small, large = torch.full((1, 1, 4, 4), 2.0), torch.full((3, 2, 64, 64), 2.0)
    for images in (small, large, large.half()):
        mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
        mask[:, :, ::2] = True
        assert loss(images, 0 * images, mask) == loss(small, 0 * small, small > 0)


def test_a_mask_for_another_size_is_refused(output):
    with pytest.raises(ValueError, match="does not fit"):
        masked_l1(output, output, torch.ones(2, 2, 1, 2, dtype=torch.bool))
