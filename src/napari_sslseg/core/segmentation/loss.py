"""Losses of the fine-tuning, and class probabilities from the scores of a network.

There are two families. *softmax*: one channel for the background and one for each class, which
exclude each other. *sigmoid*: one channel for each class and none for the background; the channels
are independent. :func:`class_probabilities` works for both.

Everything here works on slices, (N, C, H, W), and on volumes, (N, C, D, H, W). Importing this
module loads no PyTorch.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.settings.stages import LossKind

if TYPE_CHECKING:
    from torch import Tensor

SIGMOID: frozenset[LossKind] = frozenset({"dice", "dice-per-sample", "bce-to-dice"})
"""Losses whose networks have no channel for the background."""

BATCH_WIDE: frozenset[LossKind] = frozenset({"dice-ce", "dice", "dice-multilabel"})
"""Losses with sums over the whole batch, which may be spread over several processes."""

# Weights of the cross entropy in the first and in the last epoch, Dhere & Sivaswamy.
FIRST_BCE, LAST_BCE = 0.6, 0.2


def score_channels(kind: LossKind, n_classes: int) -> int:
    """Return the number of output channels that a network needs for a loss."""
    return n_classes if kind in SIGMOID else 1 + n_classes


def class_probabilities(scores: "Tensor", kind: LossKind) -> "Tensor":
    """Turn the scores of a network into class probabilities that sum to 1 for each pixel.

    Parameters
    ----------
    scores : Tensor, shape (N, channels, …)
        Scores, with channels as in :func:`score_channels`.
    kind : LossKind
        The loss that the network was trained with.

    Returns
    -------
    Tensor, shape (N, 1 + classes, …)
        Background first. For softmax losses, the softmax of the scores. For sigmoid losses, the
        sigmoids p, with 1 − max p for the background, divided by their sum. The background then
        has the highest probability where no p is above 0.5, and the class with the largest p
        elsewhere.
    """
    import torch

    if kind not in SIGMOID:
        return scores.softmax(1)
    classes = scores.sigmoid()
    values = torch.cat([1 - classes.amax(1, keepdim=True), classes], dim=1)
    return values / values.sum(1, keepdim=True)


def bce_weight(progress: float) -> float:
    """Weight of the cross entropy in ``bce-to-dice``; the weight of Dice is 1 minus this.

    It is 0.6 at first, as printed by Dhere & Sivaswamy. They state only that it decreases as the
    weight of Dice increases; here it falls linearly to 0.2.

    Parameters
    ----------
    progress : float
        0 in the first epoch, 1 in the last.
    """
    return FIRST_BCE + (LAST_BCE - FIRST_BCE) * progress


class SegmentationLoss:
    r"""Loss between scores and labels.

    With p the softmax or sigmoid of the scores and y the labels as 0 or 1 by channel, Dice of one
    channel is :math:`1 - (2 \sum p y + \epsilon) / (\sum p + \sum y + \epsilon)`. The losses take
    its mean over channels; they differ in the channels, in what the sums run over, and in ε:

    =================  ========  ===========================  =================  ======
    loss               scores    channels                     sums run over      ε
    =================  ========  ===========================  =================  ======
    dice-ce            softmax   classes                      the whole batch    1e-5
    dice               sigmoid   classes                      the whole batch    1e-7
    dice-per-sample    sigmoid   classes                      each slice         1
    dice-multilabel    softmax   classes and the background   the whole batch    1e-5
    bce-to-dice        sigmoid   classes                      each slice         1e-4
    =================  ========  ===========================  =================  ======

    ``dice-ce`` adds the cross entropy of the softmax, so that a slice without a class still
    contributes. ``dice`` is equation A2 of Dominic et al. 2023. ``dice-per-sample`` is
    PolyCL's. ``dice-multilabel`` follows Umapathy et al. 2022, who print no formula.
    ``bce-to-dice`` is w · (binary cross entropy, averaged over everything) + (1 − w) · Dice with
    w from :func:`bce_weight`; Dhere & Sivaswamy weight the classes in it, but do not print the
    weights, which are 1 here.

    Parameters
    ----------
    kind : LossKind
        Name of the loss.

    Attributes
    ----------
    progress : float
        Progress of the training: 0 in the first epoch, 1 in the last. It is set with
        :meth:`begin_epoch`, and used by ``bce-to-dice``.
    """

    def __init__(self, kind: LossKind) -> None:
        self.kind = kind
        self.progress = 0.0
        self._dice = _dice(kind)

    def __call__(self, scores: "Tensor", labels: "Tensor") -> "Tensor":
        """Compute the loss.

        Parameters
        ----------
        scores : Tensor, shape (N, channels, …)
            Scores, with channels as in :func:`score_channels`.
        labels : Tensor, shape (N, …), int64
            0 for the background, then the classes.

        Returns
        -------
        Tensor, scalar, float32
        """
        from torch.nn import functional

        from napari_sslseg.core.common.compute.collectives import all_gather_rows

        # Half precision is too coarse for sums over a batch and for an ε of 1e-7.
        scores = scores.float()
        if self.kind in BATCH_WIDE:
            scores, labels = all_gather_rows(scores), all_gather_rows(labels)
        if self.kind not in SIGMOID:
            return self._dice(scores, labels[:, None])
        # One-hot with a channel for the background, which is dropped since it has no score.
        truth = functional.one_hot(labels, scores.shape[1] + 1).movedim(-1, 1)[:, 1:].float()
        dice = self._dice(scores, truth)
        if self.kind != "bce-to-dice":
            return dice
        weight = bce_weight(self.progress)
        bce = functional.binary_cross_entropy_with_logits(scores, truth)
        return weight * bce + (1 - weight) * dice

    def begin_epoch(self, progress: float) -> None:
        """Set the progress of the training, 0…1."""
        self.progress = progress


def _dice(kind: LossKind) -> Any:
    """MONAI's loss with the parameters of a kind."""
    from monai.losses import DiceCELoss, DiceLoss

    match kind:
        case "dice-ce":
            # batch=True sums over the batch before the ratio (Dominic et al. 2023, eq. A2), so a
            # slice without a class counts neither as perfect nor as wrong.
            return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        case "dice":
            return DiceLoss(batch=True, sigmoid=True, smooth_nr=1e-7, smooth_dr=1e-7)
        case "dice-per-sample":
            return DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)
        case "dice-multilabel":
            return DiceLoss(to_onehot_y=True, softmax=True, batch=True)
        case "bce-to-dice":
            return DiceLoss(sigmoid=True, smooth_nr=1e-4, smooth_dr=1e-4)


def normalized_entropy(probabilities: "Tensor") -> "Tensor":
    """Entropy over the classes (axis 0) divided by its maximum, 0…1."""
    import torch

    entropy = -torch.special.xlogy(probabilities, probabilities).sum(0)
    return (entropy / np.log(probabilities.shape[0])).clamp(0, 1)
