import pytest
import torch

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.pretext.corruptions.boxes import Boxes
from napari_sslseg.core.pretext.corruptions.fusion import FusionParameters, SliceFusion


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_fusing_by_hand():
    fusion = SliceFusion((16, 16), levels=4)
    parameters = FusionParameters(
        partners=torch.tensor([1, 0]),
        # On the first image a box of level 1 covers part of a box of level 4.
        boxes=Boxes(
            torch.tensor([[[0, 0], [0, 1]], [[0, 0], [0, 0]]]),
            torch.tensor([[[1, 2], [1, 2]], [[0, 0], [0, 0]]]),
        ),
        levels=torch.tensor([[1, 4], [2, 2]]),
    )
    images = torch.cat([torch.full((1, 2, 16, 16), 8.0), torch.full((1, 2, 16, 16), -8.0)])
    assert fusion.level_map(parameters)[0, 0, :4].tolist() == [1, 1, 4, 0]
    out = fusion.apply(images, parameters)
    assert out[0, 0, 0, :4].tolist() == [4, 4, -8, 8]
    assert torch.equal(out[0, 0], out[0, 1])
    assert torch.equal(out[1], images[1])


def test_partners_are_a_permutation_without_fixed_points():
    fusion = SliceFusion((16, 16))
    draws = generator()
    seen = set()
    for n in [2, 3, 16] * 200:
        partners = fusion.sample(n, draws).partners
        assert (partners != torch.arange(n)).all()
        assert torch.equal(partners.sort().values, torch.arange(n))
        seen.add(tuple(partners.tolist()))
    assert {(1, 2, 0), (2, 0, 1)} <= seen


def test_a_batch_of_one_is_refused():
    with pytest.raises(ConfigError, match="at least two slices"):
        SliceFusion((16, 16)).sample(1, generator())


def test_volumes_mix_in_boxes():
    fusion = SliceFusion((16, 32, 24), shortest=4, boxes=(1, 2))
    drawn = fusion.sample(300, generator())
    sides = drawn.boxes.sides.flatten(0, 1)
    sides = sides[sides[:, 0] > 0]
    assert sides.amin(0).tolist() == [4, 4, 4]
    assert sides.amax(0).tolist() == [10, 20, 15]  # 0.625 of each side
    levels = fusion.level_map(drawn)
    assert levels.shape == (300, 16, 32, 24)
    for image in range(20):
        (top, *_), boxes = drawn.levels[image].tolist(), drawn.boxes
        corner, side = boxes.corners[image, 0].tolist(), boxes.sides[image, 0].tolist()
        inside = tuple(slice(c, c + s) for c, s in zip(corner, side, strict=True))
        assert (levels[(image, *inside)] == top).all()  # the first box is on top
    with pytest.raises(ConfigError, match="at least two volumes"):
        fusion.sample(1, generator())
    with pytest.raises(ConfigError, match=r"8 × 32 × 32 voxels.*at most 5 voxels"):
        SliceFusion((8, 32, 32))


def test_boxes_and_levels_are_those_of_the_paper():
    fusion = SliceFusion((128, 128))
    drawn = fusion.sample(2000, generator())
    counts = (drawn.boxes.sides[:, :, 0] > 0).sum(dim=1)
    assert (counts.min(), counts.max()) == (10, 40)
    sides = drawn.boxes.sides[drawn.boxes.sides > 0]
    assert (sides.min(), sides.max()) == (8, 80)
    assert drawn.levels.unique().tolist() == [0, 1, 2, 3, 4]
    levels = fusion.level_map(drawn)
    shares = levels.flatten().bincount(minlength=5) / levels.numel()
    assert shares.min() > 0.1  # no level is rare


@pytest.mark.parametrize("size", [(64, 48), (24, 20, 32)])
def test_level_zero_is_the_slice_and_the_highest_its_partner(size):
    fusion = SliceFusion(size, levels=2)
    images = torch.rand(4, 3, *size)
    kept = images.clone()
    parameters = fusion.sample(4, generator())
    out = fusion.apply(images, parameters)
    assert torch.equal(images, kept)
    levels = fusion.level_map(parameters)[:, None].expand_as(images)
    partner = images[parameters.partners]
    assert torch.equal(out[levels == 0], images[levels == 0])
    torch.testing.assert_close(out[levels == 2], partner[levels == 2])
    torch.testing.assert_close(out[levels == 1], (images + partner)[levels == 1] / 2)
    assert len(levels[:, 0].unique(dim=0)) == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shortest": 11}, "at most 10 pixels"),
        ({"boxes": (5, 63)}, "numbers from 1 to 62"),
        ({"boxes": (5, 4)}, "the smaller first"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        SliceFusion((16, 32), **options)
