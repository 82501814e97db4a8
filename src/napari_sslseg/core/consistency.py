"""Learning from slices that nobody labelled, beside those that somebody did.

A teacher, the moving average of the network, says what an unlabelled slice shows. Where it is sure,
the network has to say the same of the slice after strong changes (FixMatch, Sohn et al., NeurIPS
2020; with a mean teacher, Tarvainen & Valpola, NeurIPS 2017; with CutMix, French et al., BMVC
2020). Where it is not, nothing is said. The weight of all this rises with time: at first the
teacher knows nothing.
"""

from math import exp
from typing import TYPE_CHECKING

from napari_sslseg.core.consistency_config import Consistency
from napari_sslseg.core.segmentation_loss import SIGMOID, class_shares

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.config import Augmentation, LossKind

EPSILON = 1e-5
LEAST_SHARE = 1e-6


def consistency_weight(settings: Consistency, progress: float) -> float:
    """Weight of the unlabelled slices in the loss: w · exp(−5 (1 − t)²), t rising from 0 to 1.

    Parameters
    ----------
    settings : Consistency
        With the largest weight, and over which share of the training it rises.
    progress : float
        How much of the training has passed, 0…1.
    """
    passed = min(1.0, progress / settings.ramp) if settings.ramp else 1.0
    return settings.weight * exp(-5 * (1 - passed) ** 2)


def told(teacher: "nn.Module", images: "Tensor", kind: "LossKind", threshold: float) -> "Tensor":
    """What a teacher is sure of.

    Parameters
    ----------
    teacher : nn.Module
        In evaluation mode.
    images : Tensor, shape (N, C, …)
        As they are.
    kind : LossKind
        The loss that the teacher's scores are for.
    threshold : float
        Least share of a class for the teacher to be sure of it, 0…1.

    Returns
    -------
    Tensor, shape (N, …), int64
        Index of the class; where the teacher is not sure, one more than the last index.
    """
    import torch

    with torch.no_grad():
        shares = class_shares(teacher(images).float(), kind)
        sure, index = shares.max(1)
        return torch.where(sure >= threshold, index, shares.shape[1])


def strong_views(
    images: "Tensor",
    targets: "Tensor",
    augmentation: "Augmentation",
    settings: Consistency,
    generator: "torch.Generator",
) -> "tuple[Tensor, Tensor]":
    """Change images strongly, and what was said of them alike.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
    targets : Tensor, shape (N, …), int64
    augmentation : Augmentation
        As for labelled images.
    settings : Consistency
        With the share of images that get a box of another one.
    generator : torch.Generator
        What is drawn from.
    """
    from napari_sslseg.core.augment import apply_augmentation, sample_augmentation
    from napari_sslseg.core.cutmix import apply_cutmix, sample_cutmix
    from napari_sslseg.core.sizes import as_size

    size = as_size(images.shape[2:])
    draw = sample_augmentation(len(images), augmentation, generator, len(size))
    images, targets = apply_augmentation(images, targets, draw)
    boxes = sample_cutmix(len(images), size, settings.cutmix, generator)
    return apply_cutmix(images, targets, boxes)


def consistency_loss(scores: "Tensor", targets: "Tensor", kind: "LossKind") -> "Tensor":
    """Cross entropy plus Dice where the teacher was sure.

    The cross entropy is summed over those pixels and divided by the number of all, so that little
    certainty weighs little; Dice is over the batch, averaged over the classes without the
    background, and sees those pixels alone.

    Parameters
    ----------
    scores : Tensor, shape (N, channels, …)
    targets : Tensor, shape (N, …), int64
        As :func:`told` gives them.
    kind : LossKind
        What the scores are for.

    Returns
    -------
    Tensor, scalar, float32
    """
    from torch.nn import functional

    scores = scores.float()
    if kind in SIGMOID:
        logs = class_shares(scores, kind).clamp_min(LEAST_SHARE).log()
    else:
        logs = scores.log_softmax(1)
    count = logs.shape[1]
    sure = (targets < count)[:, None]
    entropy = functional.nll_loss(logs, targets, ignore_index=count, reduction="sum")
    truth = functional.one_hot(targets, count + 1).movedim(-1, 1)[:, 1:count].to(logs.dtype)
    shares = logs.exp()[:, 1:] * sure
    axes = (0, *range(2, logs.ndim))
    both, total = (shares * truth).sum(axes), (shares + truth).sum(axes)
    dice = 1 - (2 * both + EPSILON) / (total + EPSILON)
    return entropy / targets.numel() + dice.mean()
