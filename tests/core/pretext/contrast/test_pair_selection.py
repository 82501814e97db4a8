"""Selection of positive and negative examples."""

import numpy as np
import pytest

from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.pretext.contrast.pair_selection import ExampleSelector
from napari_sslseg.core.samples.middle_slices import middle_slices

N, SCANS = 240, 7


def slices(seed=0):
    """Return slices in random order, with arbitrary numbers, of scans of different lengths."""
    rng = np.random.default_rng(seed)
    numbers = rng.permutation(1000)[:N]
    scan = np.sort(rng.integers(0, SCANS, N)) * 10
    presence = rng.random(N) < 0.3
    return numbers, scan, presence


def draws(selection, count, seed=0, shuffled=False):
    numbers, scan, presence = slices()
    if shuffled:
        order = np.random.default_rng(5).permutation(N)
        numbers, scan, presence = numbers[order], scan[order], presence[order]
    selector = ExampleSelector(selection, numbers, scan, presence)
    rng = np.random.default_rng(seed)
    anchors = rng.integers(0, len(selector.anchors), count)
    found = selector.draw(anchors, rng)
    table = {number: (s, p) for number, s, p in zip(numbers, scan, presence, strict=True)}
    facts = [
        np.array([table[number] for number in part])
        for part in (found.anchors, found.positives, found.negatives)
    ]
    return found, facts


@pytest.mark.parametrize("selection", ["scan", "organ", "scan+organ"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_no_example_of_the_wrong_kind_in_a_hundred_thousand(selection, shuffled):
    found, (anchor, positive, negative) = draws(selection, 100_000, shuffled=shuffled)
    assert (found.anchors != found.positives).all()
    assert (found.anchors != found.negatives).all()
    if selection in ("scan", "scan+organ"):
        assert (anchor[:, 0] == positive[:, 0]).all()
        assert (anchor[:, 0] != negative[:, 0]).all()
    if selection in ("organ", "scan+organ"):
        assert (anchor[:, 1] == positive[:, 1]).all()
        assert (anchor[:, 1] != negative[:, 1]).all()


@pytest.mark.parametrize("selection", ["scan", "organ", "scan+organ"])
def test_every_candidate_is_drawn_about_as_often(selection):
    numbers, scan, presence = slices()
    selector = ExampleSelector(selection, numbers, scan, presence)
    rng = np.random.default_rng(1)
    one = np.zeros(60_000, int)  # always the same anchor
    found = selector.draw(one, rng)
    at = int(np.flatnonzero(numbers == found.anchors[0])[0])
    same_scan, same_organ = scan == scan[at], presence == presence[at]
    itself = np.arange(N) == at
    positives = {
        "scan": same_scan & ~itself,
        "organ": same_organ & ~itself,
        "scan+organ": same_scan & same_organ & ~itself,
    }[selection]
    negatives = {"scan": ~same_scan, "organ": ~same_organ, "scan+organ": ~same_scan & ~same_organ}
    for drawn, wanted in (
        (found.positives, numbers[positives]),
        (found.negatives, numbers[negatives[selection]]),
    ):
        values, counts = np.unique(drawn, return_counts=True)
        assert set(values) == set(wanted)
        mean = len(one) / len(wanted)
        assert abs(counts - mean).max() < 6 * mean**0.5


def test_the_same_seed_draws_the_same_examples():
    first, second = draws("organ", 500, seed=3)[0], draws("organ", 500, seed=3)[0]
    np.testing.assert_array_equal(first.indices(), second.indices())
    assert not np.array_equal(first.indices(), draws("organ", 500, seed=4)[0].indices())


def test_an_epoch_has_every_anchor_once():
    numbers, scan, _ = slices()
    selector = ExampleSelector("scan", numbers, scan)
    batches = selector.batches(24)(np.random.default_rng(0))
    epoch = np.concatenate([next(batches)[:24] for _ in range(N // 24)])
    assert sorted(epoch) == sorted(numbers)
    assert len(next(batches)) == 72


def test_examples_change_from_epoch_to_epoch():
    numbers, scan, _ = slices()
    batches = ExampleSelector("scan", numbers, scan).batches(N)(np.random.default_rng(0))
    first, second = next(batches), next(batches)
    a = dict(zip(first[:N], first[N : 2 * N], strict=True))
    b = dict(zip(second[:N], second[N : 2 * N], strict=True))
    assert sum(a[k] == b[k] for k in a) < N / 4


def test_slices_without_an_example_are_not_anchors():
    numbers = np.arange(5)
    scan = np.array([0, 0, 0, 1, 1])
    presence = np.array([True, False, False, False, True])
    # With both criteria, slices 0, 3 and 4 have no other slice of their scan with the organ.
    selector = ExampleSelector("scan+organ", numbers, scan, presence)
    assert sorted(selector._slices[selector.anchors]) == [1, 2]


@pytest.mark.parametrize(
    ("selection", "scan", "presence", "reason"),
    [
        ("scan", [0, 0, 0], None, "one scan"),
        ("scan+organ", [0, 0, 0], [True, False, True], "one scan"),
        ("organ", [0, 1, 2], [True, True, True], "every slice"),
        ("organ", [0, 1, 2], [False, False, False], "no slice"),
        ("scan+organ", [0, 0, 1], [True, True, True], "every slice"),
        ("organ", [0, 1], None, "tag the slices"),
        ("scan", [0, 1, 2], None, "positive"),
        ("scan+organ", [0, 0, 1], [True, False, True], "positive"),
    ],
)
def test_selections_without_examples_are_refused_with_a_reason(selection, scan, presence, reason):
    tags = None if presence is None else np.array(presence)
    with pytest.raises(DataError, match=reason):
        ExampleSelector(selection, np.arange(len(scan)), np.array(scan), tags)


@pytest.mark.parametrize(
    ("n", "first", "last"),
    [(101, 35, 64), (100, 35, 63), (21, 7, 12), (1, 0, 0), (2, 1, 1), (3, 1, 1)],
)
def test_the_middle_of_a_scan(n, first, last):
    """⌈(n − 1)/2 · 0.7⌉ to ⌊(n − 1)/2 · 1.3⌋ − 1, at least one slice."""
    found = list(middle_slices(n))
    assert found[0] == first
    assert found[-1] == last


def test_a_middle_fraction_of_1_leaves_out_at_most_the_last_slice():
    assert list(middle_slices(11, 1.0)) == list(range(10))
    assert list(middle_slices(0)) == []
