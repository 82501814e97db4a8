"""Losses against values computed by hand, and class probabilities for each of them."""

from typing import get_args

import numpy as np
import pytest
import torch

from napari_sslseg.core.segmentation.loss import (
    SIGMOID,
    SegmentationLoss,
    bce_weight,
    class_probabilities,
    score_channels,
)
from napari_sslseg.core.settings.stages import LossKind

KINDS = get_args(LossKind)
SHAPES = [(2, 5, 7), (2, 3, 5, 7)]


def example(kind, shape, classes=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes + 1, shape)
    labels[1][labels[1] == 1] = 0  # The second image lacks a class.
    scores = rng.normal(0, 2, (shape[0], score_channels(kind, classes), *shape[1:]))
    return scores, labels


def one_hot(labels, channels):
    return np.stack([labels == value for value in range(channels)], axis=1).astype(float)


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


def dice(p, y, axes, epsilon):
    return 1 - (2 * (p * y).sum(axes) + epsilon) / (p.sum(axes) + y.sum(axes) + epsilon)


def by_hand(kind, scores, labels, weight=0.6):
    space = tuple(range(2, scores.ndim))
    batch = (0, *space)
    if kind in SIGMOID:
        p, y = sigmoid(scores), one_hot(labels, scores.shape[1] + 1)[:, 1:]
    else:
        p, y = softmax(scores), one_hot(labels, scores.shape[1])
    if kind == "dice-ce":
        entropy = -np.log((p * y).sum(1)).mean()
        return dice(p[:, 1:], y[:, 1:], batch, 1e-5).mean() + entropy
    if kind == "dice":
        return dice(p, y, batch, 1e-7).mean()
    if kind == "dice-per-sample":
        return dice(p, y, space, 1).mean()
    if kind == "dice-multilabel":
        return dice(p, y, batch, 1e-5).mean()
    bce = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    return weight * bce + (1 - weight) * dice(p, y, space, 1e-4).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("classes", [1, 2])
def test_every_loss_by_hand(kind, shape, classes):
    scores, labels = example(kind, shape, classes)
    found = SegmentationLoss(kind)(torch.tensor(scores), torch.tensor(labels))
    assert found.shape == ()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand(kind, scores, labels), rel=1e-5)


def test_dominics_dice_sums_over_the_batch_without_background():
    # One pixel is right in the first image and one is missed in the second: 2 · 1 / (1 + 2) for
    # class 1, whereas the mean over images would be (1 + 0) / 2.
    scores = torch.full((2, 1, 2, 2), -50.0)
    labels = torch.zeros(2, 2, 2, dtype=torch.int64)
    labels[:, 0, 0] = 1
    scores[0, 0, 0, 0] = 50
    assert SegmentationLoss("dice")(scores, labels).item() == pytest.approx(1 - 2 / 3)
    per_sample = SegmentationLoss("dice-per-sample")(scores, labels)
    assert per_sample.item() == pytest.approx((0 + (1 - 1 / 2)) / 2)


def test_the_weight_moves_from_cross_entropy_to_dice():
    assert [bce_weight(p) for p in (0, 0.5, 1)] == pytest.approx([0.6, 0.4, 0.2])
    # As a formula of the epoch e of E: 0.6 − 0.4 · e / (E − 1).
    epochs = 5
    assert [bce_weight(e / (epochs - 1)) for e in range(epochs)] == pytest.approx(
        [0.6 - 0.4 * e / (epochs - 1) for e in range(epochs)]
    )
    scores, labels = example("bce-to-dice", (2, 5, 7))
    loss = SegmentationLoss("bce-to-dice")
    loss.begin_epoch(0.5)
    found = loss(torch.tensor(scores), torch.tensor(labels)).item()
    assert found == pytest.approx(by_hand("bce-to-dice", scores, labels, 0.4), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_drops_the_epsilon(kind, dtype):
    labels = torch.zeros(2, 384, 384, dtype=torch.int64)
    scores = torch.full((2, score_channels(kind, 1), 384, 384), -3.0, dtype=dtype)
    assert torch.isfinite(SegmentationLoss(kind)(scores, labels))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_sum_to_one_with_the_background(kind, shape):
    scores, _ = example(kind, shape)
    shares = class_probabilities(torch.tensor(scores), kind)
    assert shares.shape == (shape[0], 3, *shape[1:])
    torch.testing.assert_close(shares.sum(1), torch.ones(shape, dtype=shares.dtype))


@pytest.mark.parametrize("kind", sorted(SIGMOID))
def test_sigmoid_scores_have_a_threshold_of_one_half(kind):
    scores, _ = example(kind, (2, 40, 40))
    p = sigmoid(scores)
    expected = np.where(p.max(1) > 0.5, 1 + p.argmax(1), 0)
    decided = class_probabilities(torch.tensor(scores), kind).argmax(1).numpy()
    assert set(np.unique(decided)) == {0, 1, 2}
    np.testing.assert_array_equal(decided, expected)


def test_a_single_class_keeps_its_probability():
    scores = torch.tensor([-1.0, 0.0, 2.0]).reshape(1, 1, 1, 3)
    shares = class_probabilities(scores, "dice")
    torch.testing.assert_close(shares[:, 1:], scores.sigmoid())
    assert shares.argmax(1).flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_descent_leads_to_the_labels(kind):
    torch.manual_seed(0)
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    labels[:, 2:5, 2:5], labels[:, 6:, :] = 1, 2
    scores = torch.zeros(2, score_channels(kind, 2), 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.5)
    loss = SegmentationLoss(kind)
    for _ in range(60):
        optimizer.zero_grad()
        loss(scores, labels).backward()
        optimizer.step()
    assert torch.equal(class_probabilities(scores, kind).argmax(1), labels)
