import dataclasses
import itertools
import re
import time
from math import prod

import numpy as np
import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.corruptions.patch_placement import (
    largest_patch,
    poisson_disc_patches,
    uniform_patches,
)
from napari_sslseg.core.pretext.corruptions.patch_swap import (
    PatchErase,
    PatchSwap,
    SwapParameters,
    _move_pixels,
)

SAMPLINGS = ["poisson-disc", "uniform"]
SIZES = [(128, 128), (192, 192), (256, 256), (160, 256), (224, 176)]
SIDES = [8, 16, 32, 64]
FITTING = [
    (size, side, sampling)
    for size, side, sampling in itertools.product(SIZES, SIDES, SAMPLINGS)
    # For sides of 64, two discs fit only in opposite corners of 128 × 128.
    if (size, side, sampling) != ((128, 128), 64, "poisson-disc")
]
VOLUMES = [((48, 64, 48), 8), ((32, 24, 24), 8), ((12, 50, 38), 5), ((40, 40, 40), 16)]
FITTING_CUBES = [(*volume, sampling) for volume in VOLUMES for sampling in SAMPLINGS]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(n, size, channels=1):
    """Return images of unique values, which identify the origin of each pixel."""
    ones = [1] * len(size)
    pixels = torch.arange(prod(size), dtype=torch.float32).view(1, 1, *size)
    return pixels.repeat(n, channels, *ones) + 0.25 * torch.arange(channels).view(1, -1, *ones)


def fixed(swap, symmetries, masks=0):
    """Return parameters with one mask in its own order for every image, and given rotations."""
    n = len(symmetries)
    return SwapParameters(
        masks=torch.full((n,), masks),
        symmetries=torch.tensor(symmetries),
        order=torch.arange(swap.n_patches).repeat(n, 1),
    )


# --- swapping ---------------------------------------------------------------------------------


def hand_made(monkeypatch, size, side, corners):
    """Return a swap whose only mask has the given corners, paired in order."""
    table = np.array(corners, dtype=np.int64).T
    monkeypatch.setattr(
        "napari_sslseg.core.pretext.corruptions.patch_swap.poisson_disc_patches",
        lambda *arguments: table,
    )
    return PatchSwap(size, side, "poisson-disc", 0.1, n_masks=1)


def test_two_patches_are_swapped(monkeypatch):
    swap = hand_made(monkeypatch, (8, 8), 2, [(0, 1), (5, 4)])
    image = numbered(1, (8, 8))
    out = swap.apply(image, fixed(swap, [0]))[0, 0]
    expected = image[0, 0].clone()
    expected[0:2, 1:3] = image[0, 0, 5:7, 4:6]
    expected[5:7, 4:6] = image[0, 0, 0:2, 1:3]
    assert torch.equal(out, expected)
    assert out[0, 1] == 5 * 8 + 4  # by hand
    assert out[6, 5] == 1 * 8 + 2


def test_order_pairs_the_patches(monkeypatch):
    swap = hand_made(monkeypatch, (8, 8), 1, [(0, 0), (0, 4), (4, 0), (4, 4)])
    parameters = dataclasses.replace(fixed(swap, [0]), order=torch.tensor([[3, 0, 1, 2]]))
    out = swap.apply(numbered(1, (8, 8)), parameters)[0, 0]
    assert [out[0, 0], out[4, 4], out[0, 4], out[4, 0]] == [36, 0, 32, 4]


def test_two_cubes_are_swapped(monkeypatch):
    swap = hand_made(monkeypatch, (6, 8, 8), 2, [(0, 1, 2), (3, 5, 6)])
    image = numbered(1, (6, 8, 8))
    out = swap.apply(image, fixed(swap, [0]))[0, 0]
    expected = image[0, 0].clone()
    expected[0:2, 1:3, 2:4] = image[0, 0, 3:5, 5:7, 6:8]
    expected[3:5, 5:7, 6:8] = image[0, 0, 0:2, 1:3, 2:4]
    assert torch.equal(out, expected)
    assert out[1, 1, 3] == (4 * 8 + 5) * 8 + 7  # by hand


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_masks_are_rotated_counter_clockwise(sampling):
    swap = PatchSwap((32, 32), 5, sampling, n_masks=1)
    masks = swap.mask(fixed(swap, [0, 1, 2, 3]))[:, 0]
    for quarter in range(4):
        assert torch.equal(masks[quarter], masks[0].rot90(quarter))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_rotated_masks_do_not_rotate_contents(sampling):
    """A rotated swap equals rotating back, swapping and rotating."""
    swap = PatchSwap((24, 24), 5, sampling, n_masks=1)
    image = torch.rand(1, 1, 24, 24)
    for quarter in range(4):
        turned = swap.apply(image.rot90(-quarter, (2, 3)), fixed(swap, [0])).rot90(quarter, (2, 3))
        assert torch.equal(swap.apply(image, fixed(swap, [quarter])), turned)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_rectangles_have_half_turn_and_flips(sampling):
    swap = PatchSwap((24, 40), 5, sampling, n_masks=1)
    mask, turned, upside_down, mirrored = swap.mask(fixed(swap, [0, 1, 2, 3]))[:, 0]
    assert torch.equal(turned, mask.rot90(2))
    assert torch.equal(upside_down, mask.flip(0))
    assert torch.equal(mirrored, mask.flip(1))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(11, 24, 24), (11, 14, 24)])
def test_symmetries_of_volumes(size, sampling):
    """A rotated swap equals rotating back, swapping and rotating."""
    swap = PatchSwap(size, 5, sampling, n_masks=1)
    image = torch.rand(1, 2, *size)
    if size[1] == size[2]:
        turns = [
            (lambda v, k=k: v.rot90(k, (3, 4)), lambda v, k=k: v.rot90(-k, (3, 4)))
            for k in range(4)
        ]
    else:
        turns = [(lambda v, a=a: v.flip(a),) * 2 for a in ((), (3, 4), (3,), (4,))]
    for symmetry in range(8):
        there, back = turns[symmetry % 4]
        flipped = (2,) if symmetry >= 4 else ()
        parameters = fixed(swap, [symmetry])
        turned = there(swap.apply(back(image.flip(flipped)), fixed(swap, [0]))).flip(flipped)
        assert torch.equal(swap.apply(image, parameters), turned)
        mask = there(swap.mask(fixed(swap, [0]))).flip(flipped)
        assert torch.equal(swap.mask(parameters), mask)


@pytest.mark.parametrize(("size", "side", "sampling"), FITTING + FITTING_CUBES)
def test_pixels_are_permuted_over_at_least_a_quarter(size, side, sampling):
    swap = PatchSwap(size, side, sampling, n_masks=4)
    images = numbered(6, size, channels=2)
    kept = images.clone()
    parameters = swap.sample(6, generator())
    out = swap.apply(images, parameters)
    assert torch.equal(images, kept)
    assert torch.equal(out.flatten(2).sort().values, images.flatten(2))
    moved = out != images
    assert torch.equal(moved[:, :1], moved[:, 1:])  # the same places in all channels
    assert torch.equal(out[:, 0] + 0.25, out[:, 1])  # and the same sources
    assert torch.equal(moved[:, :1], swap.mask(parameters))
    share = moved[:, 0].flatten(1).float().mean(dim=1)
    assert share.min() >= 0.25
    # At most one pair of patches more than needed.
    assert share.max() < 0.25 + 2 * side ** len(size) / prod(size)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("size", "side"), [((96, 80), 12), ((32, 40, 24), 6)])
def test_every_mask_corrupts_the_area(size, side, sampling):
    swap = PatchSwap(size, side, sampling)
    everything = SwapParameters(
        masks=torch.arange(100),
        symmetries=torch.zeros(100, dtype=torch.int64),
        order=torch.arange(swap.n_patches).repeat(100, 1),
    )
    masks = swap.mask(everything).flatten(1)
    assert masks.float().mean(dim=1).min() >= 0.25
    assert len(masks.unique(dim=0)) == 100


@pytest.mark.parametrize("size", [(64, 64), (24, 40, 32)])
def test_poisson_disc_swaps_are_their_own_inverse(size):
    swap = PatchSwap(size, 8)
    images = torch.rand(3, 1, *size)
    parameters = swap.sample(3, generator())
    assert torch.equal(swap.apply(swap.apply(images, parameters), parameters), images)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    ("size", "layout"),
    [((48, 48), torch.channels_last), ((24, 24, 24), torch.channels_last_3d)],
)
def test_memory_layout_and_dtype_do_not_change_the_result(size, layout, sampling):
    swap = PatchSwap(size, 6, sampling, n_masks=5)
    images = torch.rand(2, 3, *size)
    parameters = swap.sample(2, generator())
    expected = swap.apply(images, parameters)
    channels_last = images.to(memory_format=layout)
    assert torch.equal(swap.apply(channels_last, parameters), expected)
    assert torch.equal(swap.apply(images.half(), parameters), expected.half())
    one_for_all = images[:1].expand(2, *images.shape[1:])
    again = swap.apply(one_for_all.clone(), parameters)
    assert torch.equal(swap.apply(one_for_all, parameters), again)


def test_swapping_blocks_equals_moving_pixels():
    """Patches are swapped on the CPU; other devices move single pixels."""
    for size in [(48, 48), (40, 56), (21, 32, 24)]:
        swap = PatchSwap(size, 7, n_masks=9)
        images = torch.rand(22, 3, *size)[2:]  # not at the start of its storage
        parameters = swap.sample(20, generator())
        moves = swap._moves(parameters, images.device)
        assert torch.equal(swap.apply(images, parameters), _move_pixels(images, *moves))


def test_wrong_batches_are_refused():
    swap = PatchSwap((32, 32), 4, n_masks=2)
    parameters = swap.sample(2, generator())
    with pytest.raises(ValueError, match="2 images"):
        swap.apply(torch.zeros(3, 1, 32, 32), parameters)
    with pytest.raises(ValueError, match="must be"):
        swap.apply(torch.zeros(2, 1, 32, 40), parameters)
    with pytest.raises(ValueError, match="must be"):
        swap.apply(torch.zeros(2, 1, 4, 32, 32), parameters)
    with pytest.raises(ValueError, match="two sides or three"):
        PatchSwap((32,), 4)


# --- erasing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(48, 64), (30, 24, 20)])
def test_erased_patches_equal_the_swapped_ones(size, sampling):
    """The same seeds give the same places in both tasks."""
    swap, erase = (kind(size, 6, sampling, n_masks=8) for kind in (PatchSwap, PatchErase))
    parameters = swap.sample(20, generator())
    erased, swapped = erase.mask(parameters), swap.mask(parameters)
    assert (erased | ~swapped).all()
    if sampling == "poisson-disc":
        assert torch.equal(erased, swapped)
    assert erased.flatten(1).float().mean(dim=1).min() >= 0.25


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(48, 64), (30, 24, 20)])
def test_erased_pixels_are_zero_and_the_others_stay(size, sampling):
    erase = PatchErase(size, 6, sampling, n_masks=8)
    images = 1 + torch.rand(5, 3, *size)
    kept = images.clone()
    parameters = erase.sample(5, generator())
    out = erase.apply(images, parameters)
    assert torch.equal(images, kept)
    mask = erase.mask(parameters).expand_as(out)
    assert (out[mask] == 0).all()
    assert torch.equal(out[~mask], images[~mask])


def test_overlapping_patches_are_erased_whole():
    """This includes pixels that two swaps would return to their position."""
    erase = PatchErase((12, 12), 4, "uniform", 0.9, n_masks=30)
    swap = PatchSwap((12, 12), 4, "uniform", 0.9, n_masks=30)
    rng = np.random.default_rng(0)
    everything = SwapParameters(
        torch.arange(30), torch.zeros(30, dtype=torch.int64), torch.empty(30, 0)
    )
    masks = erase.mask(everything)[:, 0]
    for mask in masks:
        expected = torch.zeros(12, 12, dtype=torch.bool)
        for row, column in uniform_patches((12, 12), 4, 0.9, rng).T.tolist():
            expected[row : row + 4, column : column + 4] = True
        assert torch.equal(mask, expected)
    assert (masks.sum() > swap.mask(everything).sum()).item()


def test_erasing_refuses_wrong_batches():
    erase = PatchErase((32, 32), 4, n_masks=2)
    with pytest.raises(ValueError, match="2 images"):
        erase.apply(torch.zeros(3, 1, 32, 32), erase.sample(2, generator()))


# --- randomness -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("size", [(64, 64), (32, 32, 24)])
def test_the_same_seeds_give_the_same_corruption(size, sampling):
    images = torch.rand(5, 1, *size)

    def corrupt(seed, draw):
        swap = PatchSwap(size, 8, sampling, n_masks=10, seed=seed)
        return swap.apply(images, swap.sample(5, generator(draw)))

    assert torch.equal(corrupt(0, 0), corrupt(0, 0))
    assert not torch.equal(corrupt(0, 0), corrupt(0, 1))
    assert not torch.equal(corrupt(0, 0), corrupt(1, 0))


def test_draws_reach_all_masks_symmetries_and_pairings():
    swap = PatchSwap((64, 64), 16, n_masks=7)
    drawn = swap.sample(4000, generator())
    assert swap.n_patches == 4
    assert drawn.masks.bincount().min() > 450
    assert drawn.symmetries.bincount(minlength=4).min() > 900
    partner_of_first = torch.tensor(
        [order[order.index(0) ^ 1] for order in drawn.order.tolist()]
    ).bincount(minlength=4)
    assert partner_of_first[0] == 0
    assert partner_of_first[1:].min() > 1200


def test_uniform_pairs_belong_to_the_mask():
    swap = PatchSwap((64, 64), 16, "uniform", n_masks=1)
    parameters = swap.sample(40, generator())
    out = swap.apply(numbered(40, (64, 64)), parameters)
    assert len(out[parameters.symmetries == 0].unique(dim=0)) == 1
    assert len(out.unique(dim=0)) == 4


# --- placement --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "side"), [(size, side) for size, side, how in FITTING if how == "poisson-disc"]
)
def test_poisson_discs_keep_their_distance(size, side):
    rng = np.random.default_rng(1)
    for _ in range(3):
        corners = poisson_disc_patches(size, side, 0.25, rng)
        assert corners.shape[1] % 2 == 0
        assert corners.shape[1] * side**2 >= 0.25 * size[0] * size[1]
        assert (corners >= 0).all()
        assert (corners.max(axis=1) <= np.array(size) - side).all()
        apart = corners[:, :, None] - corners[:, None, :]
        others = ~np.eye(corners.shape[1], dtype=bool)
        assert (apart**2).sum(axis=0)[others].min() >= 2 * side**2
        assert np.abs(apart).max(axis=0)[others].min() >= side  # so none overlap


@pytest.mark.parametrize(("size", "side"), VOLUMES)
def test_cubes_are_disjoint_and_cover_a_quarter(size, side):
    rng = np.random.default_rng(1)
    for _ in range(3):
        corners = poisson_disc_patches(size, side, 0.25, rng)
        count = corners.shape[1]
        assert corners.shape == (3, count)
        # The smallest even number that covers a quarter.
        assert (count - 2) * side**3 < 0.25 * prod(size) <= count * side**3
        assert count % 2 == 0
        assert (corners >= 0).all()
        assert (corners.max(axis=1) <= np.array(size) - side).all()
        # Centres at least K apart along at least one axis.
        apart = np.abs(corners[:, :, None] - corners[:, None, :]).max(axis=0)
        assert apart[~np.eye(count, dtype=bool)].min() >= side


def test_cubes_reach_every_place_of_the_lattice():
    rng = np.random.default_rng(0)
    corners = np.hstack([poisson_disc_patches((9, 8, 7), 3, 0.25, rng) for _ in range(400)])
    for axis, places in enumerate((7, 6, 5)):
        assert np.bincount(corners[axis], minlength=places).min() > 150


def test_cubes_fill_a_larger_fraction_on_request():
    """Random addition of cubes jams at 0.42 of the volume, so 0.3 is always reached."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        corners = poisson_disc_patches((64, 64, 64), 8, 0.3, rng)
        assert corners.shape[1] * 8**3 >= 0.3 * 64**3


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("size", "side"), [((48, 64, 48), 8), ((96, 96, 96), 16)])
def test_a_hundred_masks_of_volumes_are_drawn_quickly(size, side, sampling):
    start = time.process_time()
    PatchSwap(size, side, sampling)
    assert time.process_time() - start < 2


def test_poisson_disc_places_are_uniform_for_the_first_patch():
    rng = np.random.default_rng(0)
    first = np.array([poisson_disc_patches((6, 6), 2, 0.05, rng)[:, 0] for _ in range(2500)])
    counts = np.bincount(first[:, 0] * 5 + first[:, 1], minlength=25)
    assert counts.min() > 60  # 100 each on average
    assert counts.max() < 140


def test_uniform_pairs_are_disjoint_and_reach_every_border():
    rng = np.random.default_rng(0)
    corners = np.hstack([uniform_patches((40, 24), 5, 0.25, rng) for _ in range(200)])
    pairs = corners.T.reshape(-1, 2, 2)
    assert np.abs(pairs[:, 0] - pairs[:, 1]).max(axis=1).min() >= 5
    assert set(corners[0]) == set(range(36))
    assert set(corners[1]) == set(range(20))


def test_uniform_pairs_may_overlap_other_pairs():
    rng = np.random.default_rng(0)
    corners = uniform_patches((32, 32), 8, 0.9, rng)
    assert corners.shape[1] * 64 > 32 * 32


@pytest.mark.parametrize("area", [0.01, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(
    ("size", "side"),
    [((7, 7), 3), ((8, 16), 8), ((9, 16), 8), ((3, 9), 1), ((7, 6, 5), 3), ((4, 4, 8), 4)],
)
def test_uniform_reaches_any_area_on_small_slices(size, side, area):
    swap = PatchSwap(size, side, "uniform", area, n_masks=20)
    parameters = swap.sample(20, generator())
    images = numbered(20, size)
    out = swap.apply(images, parameters)
    assert (out != images).flatten(1).float().mean(dim=1).min() >= area
    assert torch.equal(out.flatten(1).sort().values, images.flatten(1))


# --- largest patches --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "largest"),
    [
        ((64, 48), 32),
        ((128, 128), 64),
        ((40, 256), 40),
        ((3, 3), 1),
        ((48, 64, 48), 32),
        ((8, 64, 64), 8),
    ],
)
def test_the_largest_uniform_patch_leaves_room_for_its_partner(size, largest):
    assert largest_patch(size, "uniform") == largest


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(
    "size",
    [
        (64, 48),
        (51, 35),
        (128, 128),
        (192, 192),
        (16, 16),
        (256, 40),
        (48, 64, 48),
        (17, 30, 23),
        (8, 64, 64),
    ],
)
def test_the_error_names_the_largest_patch_that_then_works(size, sampling):
    with pytest.raises(ConfigError) as error:
        PatchSwap(size, max(size), sampling)
    named = int(re.search(r"choose a patch size of (\d+) (pixels|voxels)\.$", str(error.value))[1])
    assert named == largest_patch(size, sampling)
    images = "slices" if len(size) == 2 else "volumes"
    assert f"{images} of {' × '.join(map(str, size))}" in str(error.value)
    swap = PatchSwap(size, named, sampling)
    assert swap.mask(swap.sample(50, generator())).flatten(1).float().mean(dim=1).min() >= 0.25
    if named < min(size):
        with pytest.raises(ConfigError, match=f" {named} (pixels|voxels)"):
            PatchSwap(size, named + 1, sampling)


def test_the_limit_of_two_discs():
    """Two discs fit only if the diagonal between opposite corners is K√2 or longer."""
    for size in [(64, 48), (128, 128), (30, 90)]:
        side = largest_patch(size, "poisson-disc")
        assert (size[0] - side) ** 2 + (size[1] - side) ** 2 >= 2 * side**2


def test_patches_of_32_do_not_fit_64_by_48_by_poisson_disc():
    with pytest.raises(ConfigError, match="27 pixels"):
        PatchSwap((64, 48), 32, "poisson-disc")
    PatchSwap((64, 48), 32, "uniform")


@pytest.mark.parametrize("size", [(1, 1), (1, 2)])
def test_slices_too_small_for_two_discs(size):
    assert largest_patch((1, 1), "poisson-disc") == largest_patch((1, 1), "uniform") == 0
    with pytest.raises(ConfigError, match="use larger slices"):
        PatchSwap(size, 5, "poisson-disc")
    with pytest.raises(ConfigError, match="use larger volumes"):
        PatchSwap((1, 1, 1), 5, "poisson-disc")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"patch_size": 0}, "at least 1 pixel"),
        ({"sampling": "grid"}, "no patch sampling grid"),
        ({"min_area": 0.31}, "at most 0.3"),
        ({"min_area": 0.0}, "more than 0"),
        ({"min_area": 0.95, "sampling": "uniform"}, "at most 0.9"),
        ({"n_masks": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused_with_possible_values(options, says):
    with pytest.raises(ConfigError, match=says):
        PatchSwap((64, 64), **{"patch_size": 8, **options})
