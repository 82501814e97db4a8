"""Losses of the fine-tuning, and what the scores of a network trained with each of them mean.

Two families. *softmax*: one channel for the background and one for each class, which exclude each
other. *sigmoid*: one channel for each class and none for the background, each a question of its
own. Whoever reads scores asks :func:`class_shares`, and so need not know which it is.

Everything here works on slices, (N, C, H, W), and on volumes, (N, C, D, H, W). Importing it loads
no PyTorch.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

from typing import TYPE_CHECKING, Any

from napari_sslseg.core.settings.stages import LossKind

if TYPE_CHECKING:
    from torch import Tensor

SIGMOID: frozenset[LossKind] = frozenset({"dice", "dice-per-sample", "bce-to-dice"})
"""Losses whose networks have no channel for the background."""

BATCH_WIDE: frozenset[LossKind] = frozenset({"dice-ce", "dice", "dice-multilabel"})
"""Losses with sums over the whole batch, also where several processes share it."""

# Shares of the cross entropy in the first epoch and in the last, Dhere & Sivaswamy.
FIRST_BCE, LAST_BCE = 0.6, 0.2


def score_channels(kind: LossKind, n_classes: int) -> int:
    """Give the number of channels that a network needs for this loss and number of classes."""
    return n_classes if kind in SIGMOID else 1 + n_classes


def class_shares(scores: "Tensor", kind: LossKind) -> "Tensor":
    """What a network says of each pixel, as shares that sum to 1; the largest one decides.

    Parameters
    ----------
    scores : Tensor, shape (N, channels, …)
        As :func:`score_channels` numbers them.
    kind : LossKind
        The loss that the network was trained with.

    Returns
    -------
    Tensor, shape (N, 1 + classes, …)
        Background first. The softmax of the scores; or their sigmoids p beside 1 − max p for the
        background, divided by their sum. The background then wins wherever no p is above 0.5, as
        if each channel were cut at that threshold, and the largest p wins elsewhere.
    """
    import torch

    if kind not in SIGMOID:
        return scores.softmax(1)
    shares = scores.sigmoid()
    shares = torch.cat([1 - shares.amax(1, keepdim=True), shares], dim=1)
    return shares / shares.sum(1, keepdim=True)


def bce_share(progress: float) -> float:
    """Weight of the cross entropy in ``bce-to-dice``; that of Dice is the rest.

    0.6 at first, as printed by Dhere & Sivaswamy. They say only that it decreases by as much as
    the weight of Dice increases; here it falls linearly to 0.2.

    Parameters
    ----------
    progress : float
        0 in the first epoch, 1 in the last.
    """
    return FIRST_BCE + (LAST_BCE - FIRST_BCE) * progress


class SegmentationLoss:
    r"""Compares scores with labels.

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
    teaches something. ``dice`` is equation A2 of Dominic et al. 2023. ``dice-per-sample`` is
    PolyCL's. ``dice-multilabel`` is that of Umapathy et al. 2022, who print no formula.
    ``bce-to-dice`` is w · (binary cross entropy, averaged over everything) + (1 − w) · Dice with
    w from :func:`bce_share`; Dhere & Sivaswamy weight the classes in it by numbers that they do
    not print, which are 1 here.

    Parameters
    ----------
    kind : LossKind
        Which of them.

    Attributes
    ----------
    progress : float
        How much of the training has passed: 0 in the first epoch, 1 in the last. Whoever trains
        keeps it up to date; only ``bce-to-dice`` asks.
    """

    def __init__(self, kind: LossKind) -> None:
        self.kind = kind
        self.progress = 0.0
        self._dice = _dice(kind)

    def __call__(self, scores: "Tensor", labels: "Tensor") -> "Tensor":
        """Compare.

        Parameters
        ----------
        scores : Tensor, shape (N, channels, …)
            As :func:`score_channels` numbers them.
        labels : Tensor, shape (N, …), int64
            0 for the background, then the classes.

        Returns
        -------
        Tensor, scalar, float32
        """
        from torch.nn import functional

        from napari_sslseg.core.common.compute.collectives import all_gather_rows

        # Sums over a batch of pixels, and an ε of 1e-7, are beyond half precision.
        scores = scores.float()
        if self.kind in BATCH_WIDE:
            scores, labels = all_gather_rows(scores), all_gather_rows(labels)
        if self.kind not in SIGMOID:
            return self._dice(scores, labels[:, None])
        # One channel more than there are classes: the background, which has no score.
        truth = functional.one_hot(labels, scores.shape[1] + 1).movedim(-1, 1)[:, 1:].float()
        dice = self._dice(scores, truth)
        if self.kind != "bce-to-dice":
            return dice
        weight = bce_share(self.progress)
        bce = functional.binary_cross_entropy_with_logits(scores, truth)
        return weight * bce + (1 - weight) * dice

    def begin_epoch(self, progress: float) -> None:
        """Take in how much of the training has passed."""
        self.progress = progress


def _dice(kind: LossKind) -> Any:
    """MONAI's loss with what this kind needs."""
    from monai.losses import DiceCELoss, DiceLoss

    match kind:
        case "dice-ce":
            # batch=True sums over the batch before the ratio (Dominic et al. 2023, eq. A2), so a
            # slice without a class neither counts as perfect nor as wrong.
            return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        case "dice":
            return DiceLoss(batch=True, sigmoid=True, smooth_nr=1e-7, smooth_dr=1e-7)
        case "dice-per-sample":
            return DiceLoss(sigmoid=True, smooth_nr=1, smooth_dr=1)
        case "dice-multilabel":
            return DiceLoss(to_onehot_y=True, softmax=True, batch=True)
        case "bce-to-dice":
            return DiceLoss(sigmoid=True, smooth_nr=1e-4, smooth_dr=1e-4)


def relative_entropy(shares: "Tensor") -> "Tensor":
    """Entropy over the classes (axis 0) divided by its maximum, in 0…1."""
    import torch

    entropy = -torch.special.xlogy(shares, shares).sum(0)
    return (entropy / np.log(shares.shape[0])).clamp(0, 1)
