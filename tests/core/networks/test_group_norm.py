import pytest
import torch
from torch import nn

from napari_sslseg.core.networks.group_norm import GroupNorm, fast_layout


@pytest.mark.parametrize(("channels", "groups", "size"), [(8, 8, (6, 5)), (24, 4, (9, 16))])
def test_output_and_gradients_equal_those_of_pytorch(channels, groups, size):
    torch.manual_seed(0)
    ours, theirs = GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    # Far from zero, where rounding errors are largest.
    images = 3 + torch.randn(3, channels, *size)
    weights = torch.randn(3, channels, *size)
    results = []
    for norm, dtype in ((ours, torch.float32), (theirs.double(), torch.float64)):
        x = fast_layout(images.to(dtype)).detach().requires_grad_()
        (norm(x) * weights.to(dtype)).sum().backward()
        results.append((norm(x), x.grad, norm.weight.grad, norm.bias.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-5)


def test_a_constant_image_gives_finite_gradients():
    norm = GroupNorm(2, 4)
    x = fast_layout(torch.full((2, 4, 8, 8), 7.0)).requires_grad_()
    norm(x).square().sum().backward()
    assert x.grad.isfinite().all()


def test_other_layouts_and_dtypes_use_the_function_of_pytorch():
    norm = GroupNorm(2, 4)
    for x in (torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 8, 8)):
        torch.testing.assert_close(norm(x), nn.GroupNorm(2, 4)(x))
    half = torch.randn(2, 4, 8, 8).bfloat16()
    assert fast_layout(half) is half
