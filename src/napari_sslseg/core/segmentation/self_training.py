"""Learning from slices that nobody labelled, beside those that somebody did.

The network learns from labelled slices alone at first. Then it becomes its own teacher: the moving
average of its weights labels all other slices, what it is unsure of and small loose pieces do not
count, and from then on each batch holds as many of these slices as of labelled ones, changed more
strongly: self-training with a noisy student (Lee 2013; Xie et al., CVPR 2020), with boxes of other
slices in half of them (CutMix: French et al., BMVC 2020). The average has learnt more by the next
round, and labels them anew.

A teacher that changes with every step (mean teacher, FixMatch) saves the rounds. But it starts from
what it says itself, before it knows much, and cannot look at a whole scan to see what is loose.
"""

from typing import TYPE_CHECKING

from napari_sslseg.core.segmentation.loss import SIGMOID, class_shares
from napari_sslseg.core.settings.self_training import SelfTraining

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.settings.augmentation import Augmentation
    from napari_sslseg.core.settings.stages import LossKind

EPSILON = 1e-5
LEAST_SHARE = 1e-6


def round_starts(settings: SelfTraining, steps: int) -> tuple[int, ...]:
    """Number of steps after which each round begins, ascending.

    Parameters
    ----------
    settings : SelfTraining
        When the first begins, and how many there are.
    steps : int
        Length of the training; each round begins after at least one of them.
    """
    first = settings.begin * steps
    each = (steps - first) / settings.rounds
    found = {max(1, round(first + number * each)) for number in range(settings.rounds)}
    return tuple(sorted(step for step in found if step < steps))


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
    settings: SelfTraining,
    generator: "torch.Generator",
) -> "tuple[Tensor, Tensor]":
    """Change images strongly, and what was said of them alike.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
    targets : Tensor, shape (N, …), int64
    augmentation : Augmentation
        As for labelled images; the settings may have another one.
    settings : SelfTraining
        With the share of images that get a box of another one.
    generator : torch.Generator
        What is drawn from.
    """
    from napari_sslseg.core.common.sizes import as_size
    from napari_sslseg.core.segmentation.augment import apply_augmentation, sample_augmentation
    from napari_sslseg.core.segmentation.cutmix import apply_cutmix, sample_cutmix

    size = as_size(images.shape[2:])
    changes = settings.augmentation or augmentation
    draw = sample_augmentation(len(images), changes, generator, len(size))
    images, targets = apply_augmentation(images, targets, draw)
    boxes = sample_cutmix(len(images), size, settings.cutmix, generator)
    return apply_cutmix(images, targets, boxes)


def told_loss(scores: "Tensor", targets: "Tensor", kind: "LossKind") -> "Tensor":
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
