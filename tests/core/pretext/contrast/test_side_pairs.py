"""Pairs of organ crops: correct kinds, balanced, and of two subjects."""

from itertools import islice

import numpy as np
import pytest

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.pretext.contrast.side_pairs import (
    LEFT,
    RIGHT,
    UNKNOWN,
    SidePairs,
    balanced_mask,
)


def crops_of(n_subjects, first=0):
    """Left and right crops of subjects, left first; numbers from ``first`` on."""
    side = np.tile([LEFT, RIGHT], n_subjects)
    return np.arange(first, first + 2 * n_subjects), side, np.arange(n_subjects).repeat(2)


def batches(pairs, size, n, seed=0):
    return list(islice(pairs.batches(size)(np.random.default_rng(seed)), n))


def test_no_pair_of_the_wrong_kind_in_100000_draws():
    crops, side, subject = crops_of(13)
    side[5] = UNKNOWN
    pairs = SidePairs(crops, side, subject)
    rng = np.random.default_rng(0)
    same = rng.random(100_000) < 0.5
    first, second = pairs.draw(rng.integers(len(pairs.firsts), size=100_000), same, rng).reshape(
        2, -1
    )
    assert ((side[first] == side[second]) == same).all()
    assert (subject[first] != subject[second]).all()
    assert UNKNOWN not in side[first]
    assert UNKNOWN not in side[second]
    # All ordered pairs of two subjects are drawn equally often.
    counts = np.zeros((26, 26), int)
    np.add.at(counts, (first, second), 1)
    possible = counts[counts > 0]
    assert len(possible) == 25 * 24 - 2 * 12  # 12 subjects have both sides
    assert possible.min() > 0.7 * possible.mean()


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_every_batch_has_equally_many_pairs_of_each_kind(size):
    crops, side, subject = crops_of(6)
    found = batches(SidePairs(crops, side, subject), size, 400)
    counts = []
    for batch in found:
        first, second = batch.reshape(2, size)
        counts.append(int((side[first] == side[second]).sum()))
    assert set(counts) <= {size // 2, size - size // 2}
    assert sum(counts) == 200 * size


def test_every_crop_is_the_first_of_a_pair_once_per_epoch():
    crops, side, subject = crops_of(7, first=100)
    found = batches(SidePairs(crops, side, subject), 4, 7)
    firsts = np.concatenate([batch[:4] for batch in found])
    assert sorted(firsts[:14]) == list(crops)
    assert sorted(firsts[14:]) == list(crops)
    assert not np.array_equal(firsts[:14], firsts[14:])


def test_the_seed_determines_the_pairs():
    pairs = SidePairs(*crops_of(6))
    one, same, other = (np.concatenate(batches(pairs, 5, 6, seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_two_scans_of_one_subject_are_not_paired():
    """Left and right crops of two scans of one subject, and of another subject."""
    side = np.array([LEFT, RIGHT] * 3)
    subject = np.array(["a"] * 4 + ["b"] * 2)
    found = np.concatenate(
        [b.reshape(2, 4) for b in batches(SidePairs(np.arange(6), side, subject), 4, 50)], axis=1
    )
    assert (subject[found[0]] != subject[found[1]]).all()


def test_a_crop_without_partners_of_both_kinds_is_only_second():
    """Subject A has the only left organ, so there is no pair of two left ones."""
    side = np.array([LEFT, RIGHT, RIGHT, RIGHT])
    pairs = SidePairs(np.arange(4), side, np.array(["a", "a", "b", "c"]))
    found = np.concatenate([b.reshape(2, 4) for b in batches(pairs, 4, 50)], axis=1)
    assert set(found[0]) == {2, 3}
    assert set(found[1]) == {0, 1, 2, 3}


def test_mirrored_pairs_are_of_two_subjects():
    subject = np.array([0, 1, 2, 3, 3])
    pairs = SidePairs(np.arange(5), None, subject)
    found = np.concatenate([b.reshape(2, 3) for b in batches(pairs, 3, 100)], axis=1)
    assert (subject[found[0]] != subject[found[1]]).all()
    assert set(found[0]) == set(found[1]) == set(range(5))


def test_validation_pairs_have_each_first_crop_in_both_kinds():
    crops, side, subject = crops_of(5)
    pairs = SidePairs(crops, side, subject)
    rng = np.random.default_rng(0)
    firsts, same = pairs.validation_pairs(6, rng)
    assert firsts.shape == same.shape == (6,)
    assert np.array_equal(firsts[::2], firsts[1::2])
    assert same.tolist() == [True, False] * 3
    first, second = pairs.draw(firsts, same, rng).reshape(2, 6)
    assert ((side[first] == side[second]) == same).all()


def test_a_balanced_mask_by_hand():
    assert balanced_mask(4, more=True).sum() == balanced_mask(4, more=False).sum() == 2
    assert balanced_mask(5, more=True).sum() == 3
    assert balanced_mask(5, more=False).sum() == 2


@pytest.mark.parametrize(
    ("side", "subject", "reason"),
    [
        ([], [], "side of all crops"),
        ([UNKNOWN] * 3, [0, 1, 2], "side of all crops"),
        ([LEFT] * 3, [0, 1, 2], "left side.* right side"),
        ([RIGHT, UNKNOWN], [0, 1], "right side"),
        ([LEFT, RIGHT], [0, 0], "of one subject"),
        ([LEFT, RIGHT], [0, 1], "2 organ crops of 2 subjects"),
    ],
)
def test_errors_explain_missing_pairs(side, subject, reason):
    with pytest.raises(DataError, match=reason):
        SidePairs(np.arange(len(side)), np.array(side, int), np.array(subject, int))


def test_mirror_images_of_one_subject_are_refused():
    with pytest.raises(DataError, match="of one subject"):
        SidePairs(np.arange(3), None, np.zeros(3))
