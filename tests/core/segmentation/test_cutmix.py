"""CutMix: boxes of one image in another one."""

import pytest
import torch

from napari_sslseg.core.segmentation.cutmix import CutMixParameters, apply_cutmix, sample_cutmix


def drawn(n, size, share=1.0, seed=0):
    return sample_cutmix(n, size, share, torch.Generator().manual_seed(seed))


def test_a_box_takes_the_pixels_and_labels_of_its_partner():
    images = torch.zeros(2, 1, 4, 5)
    images[1] = 7
    labels = torch.zeros(2, 4, 5, dtype=torch.int64)
    labels[1] = 3
    given = CutMixParameters(
        partners=torch.tensor([1, 0]),
        first=torch.tensor([[1, 2], [0, 0]]),
        last=torch.tensor([[3, 5], [0, 0]]),
    )
    mixed, mixed_labels = apply_cutmix(images, labels, given)
    expected = torch.tensor(
        [[0, 0, 0, 0, 0], [0, 0, 7, 7, 7], [0, 0, 7, 7, 7], [0, 0, 0, 0, 0]], dtype=torch.float32
    )
    assert torch.equal(mixed[0, 0], expected)
    assert torch.equal(mixed_labels[0], torch.where(expected > 0, 3, 0))
    assert torch.equal(mixed[1], images[1])
    assert torch.equal(mixed_labels[1], labels[1])
    assert not images[0].any()


def test_boxes_of_volumes_extend_through_all_slices():
    images = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 1, 3, 8, 8)
    mixed, mixed_labels = apply_cutmix(images, images[:, 0].long(), drawn(2, (3, 8, 8), seed=1))
    assert (mixed == mixed[:, :, :1]).all()
    assert torch.equal(mixed_labels, mixed[:, 0].long())


@pytest.mark.parametrize("size", [(48, 64), (96, 96), (8, 40, 40)])
def test_boxes_lie_inside_with_the_sampled_areas(size):
    found = drawn(4000, size)
    height, width = size[-2:]
    sides = found.last - found.first
    assert (found.first >= 0).all()
    assert (sides >= 1).all()
    assert (found.last <= torch.tensor([height, width])).all()
    areas = sides.prod(1) / (height * width)
    # Rounded to whole pixels, and limited to the size of the image.
    assert 0.005 < areas.min() < 0.04
    assert 0.36 < areas.max() < 0.45
    assert areas.mean() == pytest.approx(0.21, abs=0.02)
    oblong = (sides[:, 0] / height) / (sides[:, 1] / width)
    assert oblong.log().mean() == pytest.approx(0, abs=0.05)
    assert 2.5 < oblong.max() < 6
    for axis in range(2):  # Each border is reached.
        assert found.first[:, axis].min() == 0
        assert found.last[:, axis].max() == size[axis - 2]


def test_the_fraction_of_images_with_a_box():
    sides = (lambda found: found.last - found.first)(drawn(4000, (32, 32), 0.3))
    assert (sides.any(1)).float().mean() == pytest.approx(0.3, abs=0.03)
    assert not (drawn(100, (32, 32), 0.0).last).any()


def test_the_same_state_gives_the_same_boxes():
    one, two = drawn(50, (32, 32)), drawn(50, (32, 32))
    assert torch.equal(one.first, two.first)
    assert torch.equal(one.partners, two.partners)
    assert sorted(one.partners.tolist()) == list(range(50))
    assert not torch.equal(one.first, drawn(50, (32, 32), seed=1).first)
