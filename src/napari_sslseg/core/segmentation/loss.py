"""Losses of the fine-tuning, and class probabilities from the scores of a network.

There are two families. *softmax*: one channel for the background and one for each class, which
exclude each other. *sigmoid*: one channel for each class and none for the background; the channels
are independent. :func:`class_probabilities` works for both.

Everything here works on slices, (N, C, H, W), and on volumes, (N, C, D, H, W). Importing this
module loads no PyTorch.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.settings.stages import LossKind

if TYPE_CHECKING:
    from torch import Tensor

SIGMOID: frozenset[LossKind] = frozenset({"dice", "dice-per-sample", "bce-to-dice"})
"""Losses whose networks have no channel for the background."""

BATCH_WIDE: frozenset[LossKind] = frozenset({"dice-ce", "dice", "dice-multilabel"})
"""Losses with sums over the whole batch, which may be spread over several processes."""


class DiceForm(NamedTuple):
    """Form of the Dice of a loss: whether sums run over the batch, and ε."""

    batch: bool
    epsilon: float


DICE_FORMS: dict[LossKind, DiceForm] = {
    "dice-ce": DiceForm(batch=True, epsilon=1e-5),
    "dice": DiceForm(batch=True, epsilon=1e-7),
    "dice-per-sample": DiceForm(batch=False, epsilon=1),
    "dice-multilabel": DiceForm(batch=True, epsilon=1e-5),
    "bce-to-dice": DiceForm(batch=False, epsilon=1e-4),
}
"""Form of the Dice of each loss."""

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

    *Partial labels.* Voxels of an unknown class are left out of every sum and mean. Where only some
    classes are labelled in a sample, the others are somewhere in its background: for softmax
    losses the background has the sum of the probabilities of the background and of those classes
    (the marginal loss of Shi et al., Med. Image Anal. 2021; the target adaptive loss of Fang &
    Yan, IEEE TMI 2020), and for all losses those classes have no terms of their own in that
    sample. Means run over the terms that are left; if there is none, the loss is 0.

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

    def __call__(
        self, scores: "Tensor", labels: "Tensor", hidden: "Tensor | None" = None
    ) -> "Tensor":
        """Compute the loss.

        Parameters
        ----------
        scores : Tensor, shape (N, channels, …)
            Scores, with channels as in :func:`score_channels`.
        labels : Tensor, shape (N, …), int64
            0 for the background, then the classes.
        hidden : Tensor, shape (N, 1 + classes), bool, optional
            Classes that are not labelled in each sample. It must be given, with False everywhere
            if all classes are labelled, if ``labels`` may be 255 for voxels of an unknown class.

        Returns
        -------
        Tensor, scalar, float32
        """
        from torch.nn import functional

        from napari_sslseg.core.common.compute.collectives import all_gather_rows

        # Half precision is too coarse for sums over a batch and for an ε of 1e-7.
        scores = scores.float()
        if hidden is not None:
            # The means run over the known voxels of all processes.
            scores, labels, hidden = map(all_gather_rows, (scores, labels, hidden))
            return self._partial(scores, labels, hidden)
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

    def _partial(self, scores: "Tensor", labels: "Tensor", hidden: "Tensor") -> "Tensor":
        """Loss of samples of which not everything is labelled, see the class."""
        from torch.nn import functional

        channels = hidden.shape[1]
        known = (labels != UNKNOWN)[:, None]
        labels = labels.where(known[:, 0], 0)
        truth = functional.one_hot(labels, channels).movedim(-1, 1)
        first = 0 if self.kind == "dice-multilabel" else 1
        truth = truth[:, first:].to(scores.dtype)
        labelled = ~hidden[:, first:]
        if self.kind not in SIGMOID:
            logs = merge_hidden(scores, hidden).log_softmax(1)
            dice = self._known_dice(logs[:, first:].exp(), truth, known, labelled)
            if self.kind == "dice-multilabel":
                return dice
            own = logs.gather(1, labels[:, None])
            return dice - _mean_where(own, known)
        dice = self._known_dice(scores.sigmoid(), truth, known, labelled)
        if self.kind != "bce-to-dice":
            return dice
        weight = bce_weight(self.progress)
        bce = functional.binary_cross_entropy_with_logits(scores, truth, reduction="none")
        return weight * _mean_where(bce, known & _spread(labelled, bce)) + (1 - weight) * dice

    def _known_dice(
        self, probabilities: "Tensor", truth: "Tensor", known: "Tensor", labelled: "Tensor"
    ) -> "Tensor":
        """Dice over the known voxels (N, 1, …) of the labelled channels (N, C)."""
        form = DICE_FORMS[self.kind]
        counted = (known & _spread(labelled, truth)).to(truth.dtype)
        space = tuple(range(2, truth.ndim))
        axes = (0, *space) if form.batch else space
        probabilities, truth = probabilities * counted, truth * counted
        both = (probabilities * truth).sum(axes)
        total = probabilities.sum(axes) + truth.sum(axes)
        terms = 1 - (2 * both + form.epsilon) / (total + form.epsilon)
        return _mean_where(terms, counted.sum(axes) > 0)

    def begin_epoch(self, progress: float) -> None:
        """Set the progress of the training, 0…1."""
        self.progress = progress


def merge_hidden(scores: "Tensor", hidden: "Tensor") -> "Tensor":
    """Move the probability of hidden classes to the background, for softmax losses.

    The softmax of the result has the sum of the probabilities of the background and the hidden
    classes for the background, 0 for the hidden classes, and the same as before for the others.

    Parameters
    ----------
    scores : Tensor, shape (N, 1 + classes, …)
        Scores of a softmax.
    hidden : Tensor, shape (N, 1 + classes), bool
        Hidden classes of each sample; False for the background.

    Returns
    -------
    Tensor, shape (N, 1 + classes, …)
    """
    import torch

    apart = _spread(hidden, scores)
    inside = apart.clone()
    inside[:, 0] = True
    background = scores.masked_fill(~inside, -torch.inf).logsumexp(1, keepdim=True)
    # A finite number: in a sum, 0 times infinity would be NaN.
    others = scores.masked_fill(apart, torch.finfo(scores.dtype).min)
    return torch.cat([background, others[:, 1:]], dim=1)


def _spread(marks: "Tensor", like: "Tensor") -> "Tensor":
    """Add axes of length 1 to marks of channels (N, C), as many as voxels have."""
    return marks.view(*marks.shape, *[1] * (like.ndim - 2))


def _mean_where(values: "Tensor", counted: "Tensor") -> "Tensor":
    """Mean of the counted values; 0 if there is none. Others have no gradient."""
    return values.where(counted, 0).sum() / counted.expand_as(values).sum().clamp(min=1)


def _dice(kind: LossKind) -> Any:
    """MONAI's loss with the parameters of a kind."""
    from monai.losses import DiceCELoss, DiceLoss

    batch, epsilon = DICE_FORMS[kind]
    options: dict[str, Any] = {"batch": batch, "smooth_nr": epsilon, "smooth_dr": epsilon}
    if kind in SIGMOID:
        return DiceLoss(sigmoid=True, **options)
    options |= {"to_onehot_y": True, "softmax": True}
    if kind == "dice-multilabel":
        return DiceLoss(**options)
    # batch=True sums over the batch before the ratio (Dominic et al. 2023, eq. A2), so a slice
    # without a class counts neither as perfect nor as wrong.
    return DiceCELoss(include_background=False, **options)


def normalized_entropy(probabilities: "Tensor") -> "Tensor":
    """Entropy over the classes (axis 0) divided by its maximum, 0…1."""
    import torch

    entropy = -torch.special.xlogy(probabilities, probabilities).sum(0)
    return (entropy / np.log(probabilities.shape[0])).clamp(0, 1)
