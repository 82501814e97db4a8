"""Losses where voxels are unknown, or classes are not labelled in a sample, by hand."""

from math import log
from typing import get_args

import numpy as np
import pytest
import torch

from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.segmentation.loss import (
    DICE_FORMS,
    SIGMOID,
    SegmentationLoss,
    merge_hidden,
    score_channels,
)
from napari_sslseg.core.settings.stages import LossKind

KINDS = get_args(LossKind)
SHAPES = [(3, 5, 7), (3, 3, 5, 7)]


def example(kind, shape=(3, 5, 7), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes + 1, shape)
    scores = rng.normal(0, 2, (shape[0], score_channels(kind, classes), *shape[1:]))
    return scores, labels


def nothing_hidden(labels, classes=3):
    return torch.zeros(len(labels), 1 + classes, dtype=torch.bool)


def loss_of(kind, scores, labels, hidden):
    return SegmentationLoss(kind)(
        torch.as_tensor(scores), torch.as_tensor(labels), torch.as_tensor(hidden)
    )


def by_hand(kind, scores, labels, hidden):
    """The loss, voxel by voxel and sample by sample, as the documentation states it."""
    n, channels = hidden.shape
    first = 0 if kind == "dice-multilabel" else 1
    own_terms, dice_sums = [], {}
    for sample in range(n):
        gone = set(np.flatnonzero(hidden[sample]))
        for voxel in np.ndindex(labels.shape[1:]):
            label = labels[(sample, *voxel)]
            if label == UNKNOWN:
                continue
            s = scores[(sample, slice(None), *voxel)]
            if kind in SIGMOID:
                p = dict(enumerate(1 / (1 + np.exp(-s)), start=1))
            else:
                shares = np.exp(s) / np.exp(s).sum()
                p = {c: shares[c] for c in range(channels) if c not in gone}
                p[0] += sum(shares[c] for c in gone)
                own_terms.append(-log(p[label]))
            for channel in range(first, channels):
                if channel in gone:
                    continue
                y = float(label == channel)
                if kind == "bce-to-dice":
                    own_terms.append(-log(p[channel] if y else 1 - p[channel]))
                place = channel if DICE_FORMS[kind].batch else (sample, channel)
                sums = dice_sums.setdefault(place, np.zeros(2))
                sums += p[channel] * y, p[channel] + y
    epsilon = DICE_FORMS[kind].epsilon
    dice = np.mean(
        [1 - (2 * both + epsilon) / (all_ + epsilon) for both, all_ in dice_sums.values()]
    )
    if kind == "dice-ce":
        return dice + np.mean(own_terms)
    if kind == "bce-to-dice":
        return 0.6 * np.mean(own_terms) + 0.4 * dice
    return dice


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_loss_by_hand(kind, shape):
    scores, labels = example(kind, shape)
    hidden = np.zeros((3, 4), bool)
    hidden[0, 2] = hidden[1, 1] = hidden[1, 3] = True
    for sample, classes in enumerate(hidden):
        labels[sample][np.isin(labels[sample], np.flatnonzero(classes))] = 0
    labels[np.random.default_rng(1).random(shape) < 0.3] = UNKNOWN
    found = loss_of(kind, scores, labels, hidden)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand(kind, scores, labels, hidden), rel=1e-5)


def test_the_background_has_the_probability_of_hidden_classes():
    scores = torch.tensor([0.5, 0.3, 0.2]).log().view(1, 3, 1)
    background = torch.zeros(1, 1, dtype=torch.int64)
    second = torch.tensor([[False, False, True]])
    # Cross entropy of 0.5 + 0.2, and the Dice of class 1 alone: p = 0.3 without any truth.
    expected = -log(0.7) + 1 - 1e-5 / (0.3 + 1e-5)
    assert loss_of("dice-ce", scores, background, second).item() == pytest.approx(expected)
    merged = merge_hidden(scores, second).softmax(1).flatten()
    torch.testing.assert_close(merged, torch.tensor([0.7, 0.3, 0.0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_with_everything_known_it_is_the_usual_loss(kind, shape):
    scores, labels = map(torch.as_tensor, example(kind, shape))
    usual = SegmentationLoss(kind)(scores, labels)
    torch.testing.assert_close(loss_of(kind, scores, labels, nothing_hidden(labels)), usual)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_voxels_count_as_if_they_were_cut_off(kind):
    scores, labels = map(torch.as_tensor, example(kind))
    cut = SegmentationLoss(kind)(scores[:, :, :, :4], labels[:, :, :4])
    labels[:, :, 4:] = UNKNOWN
    torch.testing.assert_close(loss_of(kind, scores, labels, nothing_hidden(labels)), cut)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_voxels_have_no_gradient(kind):
    scores, labels = map(torch.as_tensor, example(kind))
    labels[:, 2] = UNKNOWN
    scores.requires_grad_()
    loss_of(kind, scores, labels, nothing_hidden(labels)).backward()
    assert not scores.grad[:, :, 2].any()
    assert (scores.grad[:, :, :2] != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_classes_are_not_taught_as_background(kind):
    """Where a class is hidden, no gradient lowers it; where all are labelled, one does."""
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[:, 0] = 1
    hidden = nothing_hidden(labels, 2)

    def gradient(classes):
        scores = torch.zeros(1, score_channels(kind, 2), 4, 4)
        scores[:, -1, 2:] = 1  # Class 2 is somewhere in the background.
        scores.requires_grad_()
        loss_of(kind, scores, labels, classes).backward()
        return scores.grad[:, -1, 2:]

    assert gradient(hidden).max() > 0
    hidden[0, 2] = True
    assert gradient(hidden).max() <= 0
    if kind in SIGMOID:
        assert not gradient(hidden).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hide", [False, True])
def test_a_batch_without_any_known_voxel_has_a_loss_of_zero(kind, hide):
    scores, labels = map(torch.as_tensor, example(kind))
    hidden = nothing_hidden(labels)
    hidden[:, 1:] = hide
    scores.requires_grad_()
    loss = loss_of(kind, scores, torch.full_like(labels, UNKNOWN), hidden)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(scores.grad, torch.zeros_like(scores))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_scores_of_half_precision_stay_finite(kind, dtype):
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[:, :8] = UNKNOWN
    hidden = nothing_hidden(labels, 2)
    hidden[0, 2] = True
    scores = torch.full((2, score_channels(kind, 2), 64, 64), 6e4, dtype=dtype)
    scores[:, 0] = -6e4
    scores.requires_grad_()
    loss = loss_of(kind, scores, labels, hidden)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()
