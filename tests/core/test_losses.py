import math

import pytest
import torch

from napari_sslseg.core.losses import l2_norm, restoration_l2


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


def test_both_compare_with_the_target(output):
    assert restoration_l2(output, output) == 0
    assert l2_norm(output + 2, output).item() == pytest.approx(math.sqrt(8))


def test_restoration_l2_sums_over_pixels_and_averages_over_images():
    ones = torch.ones(3, 2, 5, 7)
    assert restoration_l2(ones, 0 * ones) == 35
    assert restoration_l2(ones[:1], 0 * ones[:1]) == 35


def test_the_gradient_reaches_every_pixel():
    output = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = torch.randn(2, 3, 8, 8)
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


def test_double_precision_stays():
    assert restoration_l2(*torch.zeros(2, 1, 1, 2, 2, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("loss", [restoration_l2, l2_norm])
def test_shapes_are_not_broadcast(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
