"""Contrastive losses against values computed by hand, limits and invariants."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from napari_sslseg.core.pretext.contrast.losses import (
    cosine_similarity,
    distance_spread,
    embedding_spread,
    local_contrast,
    nt_xent,
    pair_distance,
    partition_contrast,
    polycl,
    siamese,
)

A = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [0.0, -1.0]])


def random_views(n=6, d=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


# --- NT-Xent


def test_nt_xent_by_hand():
    """Two images: similarities of a1 are 0 (a2), 1 (b1), 0 (b2); of a2: 0, 0, −1; …"""
    tau = 0.5
    e = math.exp
    easy = -math.log(e(1 / tau) / (e(1 / tau) + 2))
    hard = -math.log(e(-1 / tau) / (e(-1 / tau) + 2))
    assert nt_xent(A, B, tau).item() == pytest.approx((2 * easy + 2 * hard) / 4)


def test_nt_xent_by_the_definition():
    first, second = random_views()
    both = normalize(torch.cat([first, second]), dim=1)
    terms = []
    for a in range(12):
        p = (a + 6) % 12
        below = sum(math.exp(float(both[a] @ both[k]) / 0.1) for k in range(12) if k != a)
        terms.append(-float(both[a] @ both[p]) / 0.1 + math.log(below))
    assert nt_xent(first, second).item() == pytest.approx(sum(terms) / 12, rel=1e-5)


def test_nt_xent_of_equal_embeddings_is_chance():
    same = torch.ones(8, 3)
    assert nt_xent(same, same).item() == pytest.approx(math.log(15), rel=1e-6)


def test_nt_xent_is_invariant_to_scale_order_and_swapped_views():
    first, second = random_views()
    loss = nt_xent(first, second)
    order = torch.randperm(6)
    for other in (
        nt_xent(3 * first, 0.1 * second),
        nt_xent(second, first),
        nt_xent(first[order], second[order]),
    ):
        torch.testing.assert_close(other, loss)


@pytest.mark.parametrize("temperature", [1e-3, 0.01, 100.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_nt_xent_is_finite_at_any_temperature_and_precision(temperature, dtype):
    first, second = (view.to(dtype).requires_grad_() for view in random_views())
    loss = nt_xent(first, second, temperature)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(first.grad).all()


def test_autocast_changes_no_loss():
    first, second = random_views(64, 128)
    table = torch.tensor([[1], [0]])
    regions = first.reshape(4, 2, -1), second.reshape(4, 2, -1)
    losses = (
        lambda: nt_xent(first, second, 0.05),
        lambda: local_contrast(*regions, table, 0.05),
        lambda: polycl(first, second, second.roll(1, 0), 0.05),
        lambda: siamese(first, second, torch.arange(64) % 2 == 0),
    )
    for loss in losses:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = loss()
        torch.testing.assert_close(inside, loss())


def test_images_of_one_partition_are_not_negatives():
    first, second = random_views(4)
    partition = torch.tensor([0, 1, 0, 2])
    same = partition[:, None] == partition[None]
    both = normalize(torch.cat([first, second]), dim=1).double()
    terms = []
    for a in range(8):
        p = (a + 4) % 8
        negatives = [k for k in range(8) if partition[k % 4] != partition[a % 4]]
        below = sum(math.exp(float(both[a] @ both[k]) / 0.1) for k in [p, *negatives])
        terms.append(-float(both[a] @ both[p]) / 0.1 + math.log(below))
    assert nt_xent(first, second, same=same).item() == pytest.approx(sum(terms) / 8, rel=1e-5)


def test_images_that_are_not_negatives_give_each_other_no_gradient():
    first, second = random_views(2)
    first.requires_grad_()
    # If all others are excluded only the positive is left, and the loss is 0.
    loss = nt_xent(first, second, same=torch.ones(2, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert (first.grad == 0).all()


# --- positives across volumes


def test_partition_contrast_by_the_definition():
    first, second = random_views(5)
    partition, volume = torch.tensor([0, 1, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 1])
    both = normalize(torch.cat([first, second]), dim=1).double()
    terms = []
    for a in range(10):
        negatives = [k for k in range(10) if partition[k % 5] != partition[a % 5]]
        below = sum(math.exp(float(both[a] @ both[k]) / 0.1) for k in negatives)
        for p in range(10):
            view = p % 5 == a % 5 and p != a
            across = partition[p % 5] == partition[a % 5] and volume[p % 5] != volume[a % 5]
            if view or across:
                s = float(both[a] @ both[p]) / 0.1
                terms.append(-s + math.log(math.exp(s) + below))
    loss = partition_contrast(first, second, partition, volume)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_partition_contrast_of_single_slices_equals_nt_xent():
    first, second = random_views()
    alone = torch.arange(6)
    torch.testing.assert_close(
        partition_contrast(first, second, alone, alone), nt_xent(first, second)
    )


# --- local


def test_local_contrast_by_the_definition():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 2, 3, 4, generator=generator)
    table = torch.tensor([[1, 2], [0, 2], [1, 0]])
    a, b = normalize(first, dim=-1).double(), normalize(second, dim=-1).double()
    terms = []
    for anchor, other in ((a, b), (b, a)):
        for n in range(2):
            for r in range(3):
                s = float(anchor[n, r] @ other[n, r]) / 0.1
                below = math.exp(s) + sum(
                    math.exp(float(anchor[n, r] @ where[n, k]) / 0.1)
                    for k in table[r].tolist()
                    for where in (anchor, other)
                )
                terms.append(math.log(below) - s)
    loss = local_contrast(first, second, table)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_local_contrast_ignores_regions_that_are_not_negatives():
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 1, 4, 3, generator=generator)
    first.requires_grad_()
    # Region 3 is not a negative of any region and has only region 0 as a negative, so it does
    # not affect regions 1 and 2.
    table = torch.tensor([[1], [2], [0], [0]])
    local_contrast(first, second, table).backward()
    before = first.grad.clone()
    first.grad = None
    moved = second.clone()
    moved[:, 3] += 1.0
    local_contrast(first, moved, table).backward()
    torch.testing.assert_close(first.grad[:, 1:3], before[:, 1:3])
    assert not torch.allclose(first.grad[:, 3], before[:, 3])


# --- PolyCL


def test_polycl_by_hand():
    anchor = torch.tensor([[1.0, 0.0]])
    near, far = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    tau = 1 / 20
    expected = math.log(1 + math.exp((0 - 1) / tau))
    assert polycl(anchor, near, far, tau).item() == pytest.approx(expected, rel=1e-4)
    assert polycl(anchor, far, far, tau).item() == pytest.approx(math.log(2))
    assert polycl(anchor, far, near, tau).item() == pytest.approx(20, rel=1e-6)


@pytest.mark.parametrize("temperature", [1e-4, 1e4])
def test_polycl_is_finite(temperature):
    anchor, positive = (view.requires_grad_() for view in random_views())
    loss = polycl(anchor, positive, -anchor.detach(), temperature)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(anchor.grad).all()


# --- siamese


def test_siamese_by_hand():
    first = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    second = torch.tensor([[3.0, 4.0], [0.0, 0.6], [3.0, 4.0]])
    same = torch.tensor([True, False, False])
    # d = 5 for the same side; 0.6 within the margin of 1 and 5 beyond it for opposite sides.
    assert siamese(first, second, same).item() == pytest.approx((25 + 0.4**2 + 0) / 3)


def test_siamese_computes_the_distance_of_each_pair():
    """A norm over the whole batch would mix the pairs."""
    first, second = random_views()
    same = torch.tensor([True, False] * 3)
    one_by_one = [
        siamese(a[None], b[None], s[None]) for a, b, s in zip(first, second, same, strict=True)
    ]
    torch.testing.assert_close(siamese(first, second, same), torch.stack(one_by_one).mean())


def test_siamese_has_no_gradient_beyond_the_margin_and_a_finite_one_at_zero():
    first = torch.tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    second = torch.tensor([[9.0, 0.0], [0.0, 0.0]])
    siamese(first, second, torch.tensor([False, False])).backward()
    assert (first.grad[0] == 0).all()
    assert torch.isfinite(first.grad).all()


def test_distances_take_any_shape():
    first, second = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    torch.testing.assert_close(pair_distance(first, second), torch.full((2,), 12**0.5))


# --- similarity


def test_spread_of_embeddings():
    generator = torch.Generator().manual_seed(0)
    assert embedding_spread(torch.randn(4000, 64, generator=generator)) == pytest.approx(
        1, abs=0.02
    )
    assert embedding_spread(torch.ones(10, 64)) == 0
    assert embedding_spread(5 * torch.eye(3)).item() == pytest.approx((2 / 9) ** 0.5 * 3**0.5)


@pytest.mark.parametrize("loss", [nt_xent, lambda a, b, t=0.1: polycl(a, b, b, t)])
def test_invalid_input_is_refused(loss):
    with pytest.raises(ValueError, match="one shape"):
        loss(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="temperature"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), 0.0)


def test_the_spread_is_1_if_two_sides_are_the_margin_apart():
    sides = torch.tensor([[0.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.6, 0.8]])
    assert distance_spread(sides).item() == pytest.approx(1)
    assert distance_spread(sides + 100, margin=4).item() == pytest.approx(0.25, rel=1e-4)
    assert distance_spread(sides, margin=0.1).item() == 1
    assert distance_spread(torch.ones(5, 2, 3, 4)).item() == 0


def test_cosine_similarities_of_all_pairs():
    first = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]])
    second = torch.tensor([[[0.0, 2.0], [5.0, 0.0], [-1.0, -1.0]]])
    half = 0.5**0.5
    expected = torch.tensor([[[0, 1, -half], [half, half, -1]]])
    torch.testing.assert_close(cosine_similarity(first, second), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(cosine_similarity(first, second), expected)
