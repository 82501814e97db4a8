import math

import pytest
import torch

from napari_sslseg.core.augment import apply_augmentation, sample_augmentation
from napari_sslseg.core.config import Augmentation

NOTHING = dict.fromkeys(("translation", "rotation", "crop", "elastic", "intensity", "noise"), 0)


def only(**options):
    return Augmentation(**(NOTHING | options))


def draw(n, settings, seed=0):
    return sample_augmentation(n, settings, torch.Generator().manual_seed(seed))


def blob(height=64, width=64, row=40, column=20, n=4):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = (((rows - row) ** 2 + (columns - column) ** 2) < 64).long().expand(n, -1, -1)
    return labels[:, None].float() * 5 + 1, labels


def test_nothing_asked_nothing_changed():
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
    # Right of the blob lies a smaller one; no draw may turn the order of the two round.
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


def test_at_the_border_labels_go_on_as_the_images_do():
    images, labels = torch.full((16, 1, 64, 64), 6.0), torch.ones(16, 64, 64, dtype=torch.long)
    moved, classes = apply_augmentation(images, labels, draw(16, only(translation=0.4, crop=0.5)))
    assert (moved > 5.9).all()
    assert (classes == 1).all()


def test_intensity_changes_images_alone():
    images, labels = blob()
    changed, classes = apply_augmentation(images, labels, draw(4, only(intensity=0.3, noise=0.1)))
    assert torch.equal(classes, labels)
    assert (changed - images).abs().mean() > 0.01


def test_the_same_draw_gives_the_same_batch_and_inputs_stay():
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
