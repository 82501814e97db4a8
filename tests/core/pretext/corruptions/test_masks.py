import re
from math import prod

import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.corruptions.masks import GridMask, GridParameters, PixelNoise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --- single pixels ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "share"),
    [((64, 48), 0.1), ((30, 17), 0.25), ((16, 16), 0.99), ((9, 14, 11), 0.1)],
)
def test_the_fraction_of_pixels_is_exact_on_every_image(size, share):
    noise = PixelNoise(size, share)
    masks = noise.mask(noise.sample(9, generator()))
    assert masks.shape == (9, 1, *size)
    assert (masks.flatten(1).sum(dim=1) == round(share * prod(size))).all()
    assert len(masks.unique(dim=0)) == 9


def test_every_pixel_is_replaced_as_often_as_any_other():
    noise = PixelNoise((8, 8), 0.125)
    counts = noise.mask(noise.sample(20_000, generator())).sum(dim=0)
    # 2500 each on average, with a standard deviation of 47.
    assert counts.min() > 2300
    assert counts.max() < 2700


@pytest.mark.parametrize("size", [(64, 64), (16, 16, 16)])
def test_masked_pixels_are_noise_around_zero_and_the_others_stay(size):
    noise = PixelNoise(size, 0.5, sigma=0.01)
    images = 1 + torch.rand(8, 2, *size)
    kept = images.clone()
    parameters = noise.sample(8, generator())
    out = noise.apply(images, parameters)
    assert torch.equal(images, kept)
    mask = noise.mask(parameters).expand_as(images)
    assert torch.equal(out[~mask], images[~mask])
    assert out[mask].mean().abs() < 2e-4  # standard error 0.01 / √32768 = 6e-5
    assert abs(out[mask].std() - 0.01) < 2e-4
    # All channels have the same masked pixels but different noise.
    first, second = (out[:, c][mask[:, c]] for c in (0, 1))
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.05
    assert len(first.unique()) > 0.99 * len(first)


def test_no_noise_is_zero_exactly():
    noise = PixelNoise((8, 8), 0.5, sigma=0)
    parameters = noise.sample(2, generator())
    out = noise.apply(torch.ones(2, 1, 8, 8), parameters)
    assert torch.equal(out, (~noise.mask(parameters)).float())


def test_half_precision_masks_the_same_pixels():
    noise = PixelNoise((16, 16), 0.3)
    images, parameters = torch.rand(2, 1, 16, 16), noise.sample(2, generator())
    out = noise.apply(images.half(), parameters)
    assert out.dtype == torch.float16
    assert torch.equal(out, noise.apply(images, parameters).half())


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_fraction_of_no_or_all_pixels_is_refused(share):
    with pytest.raises(ConfigError, match="another fraction"):
        PixelNoise((16, 16), share)


# --- patches of a grid ------------------------------------------------------------------------


def test_hidden_patches_by_hand():
    grid = GridMask((4, 6), 2, share=0.5)
    hidden = torch.tensor([[[True, False, True], [False, True, False]]])
    out = grid.apply(torch.ones(1, 1, 4, 6), GridParameters(hidden))
    assert out[0, 0].tolist() == [
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
    ]


def test_hidden_cubes_by_hand():
    grid = GridMask((3, 4, 2), 2, share=0.5)
    assert grid.grid == (2, 2, 1)
    hidden = torch.tensor([[[[True], [False]], [[False], [True]]]])
    out = grid.apply(torch.ones(1, 1, 3, 4, 2), GridParameters(hidden))
    assert out[0, 0, :, :, 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]]
    assert torch.equal(out[..., 0], out[..., 1])


def test_the_last_patches_are_cut_off_by_the_border():
    grid = GridMask((5, 7), 3, share=0.5)
    assert grid.grid == (2, 3)
    hidden = torch.tensor([[[False, False, True], [True, False, False]]])
    mask = grid.mask(GridParameters(hidden))[0, 0]
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[:3, 6:] = True
    expected[3:, :3] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize(
    ("size", "side", "share"),
    [
        ((256, 256), 32, 0.75),
        ((64, 48), 8, 0.6),
        ((80, 208), 32, 0.75),
        ((16, 16), 8, 0.75),
        ((64, 64, 64), 16, 0.75),
        ((48, 64, 40), 16, 0.6),
    ],
)
def test_the_fraction_of_patches_is_exact_on_every_image(size, side, share):
    grid = GridMask(size, side, share)
    parameters = grid.sample(12, generator())
    patches = prod(-(-length // side) for length in size)
    assert (parameters.hidden.flatten(1).sum(dim=1) == round(share * patches)).all()
    images = 1 + torch.rand(12, 2, *size)
    kept = images.clone()
    out = grid.apply(images, parameters)
    assert torch.equal(images, kept)
    mask = grid.mask(parameters).expand_as(images)
    assert (out[mask] == 0).all()
    assert torch.equal(out[~mask], images[~mask])
    if all(length % side == 0 for length in size) and share == 0.75:
        assert (mask[:, 0].flatten(1).float().mean(dim=1) == 0.75).all()


def test_images_hide_different_patches_equally_often():
    grid = GridMask((32, 32), 8, 0.75)
    hidden = grid.sample(4000, generator()).hidden.float()
    assert len(hidden.unique(dim=0)) > 1000  # of 1820
    assert hidden.mean(dim=0).min() > 0.72
    assert hidden.mean(dim=0).max() < 0.78


@pytest.mark.parametrize(
    ("size", "side"), [((64, 48), 64), ((64, 48), 48), ((16, 16), 100), ((24, 24, 24), 30)]
)
def test_too_large_patches_are_refused_with_a_possible_size(size, side):
    with pytest.raises(ConfigError) as error:
        GridMask(size, side)
    named = int(re.search(r"choose a patch size of (\d+) (pixels|voxels)\.$", str(error.value))[1])
    grid = GridMask(size, named)
    assert 0 < grid.count < prod(grid.grid)
    with pytest.raises(ConfigError):
        GridMask(size, named + 1)


def test_a_fraction_that_no_grid_reaches_is_refused():
    with pytest.raises(ConfigError, match="another fraction"):
        GridMask((4, 4), 2, 0.99)


def test_errors_on_volumes_name_volumes_and_voxels():
    with pytest.raises(ConfigError, match="24 voxels on volumes of 24 × 20 × 24 voxels"):
        GridMask((24, 20, 24), 24)
    with pytest.raises(ConfigError, match="4 × 4 × 4 voxels"):
        PixelNoise((4, 4, 4), 0.001)


@pytest.mark.parametrize("corruption", [PixelNoise((16, 16)), GridMask((16, 16), 4)])
def test_wrong_batches_are_refused(corruption):
    parameters = corruption.sample(2, generator())
    with pytest.raises(ValueError, match="2 images"):
        corruption.apply(torch.zeros(3, 1, 16, 16), parameters)
    with pytest.raises(ValueError, match="must be"):
        corruption.apply(torch.zeros(2, 1, 16, 8), parameters)
