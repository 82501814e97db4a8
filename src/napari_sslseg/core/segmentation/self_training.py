"""Self-training: use unlabelled slices in addition to labelled ones.

At first the network is trained on labelled slices only. Then it becomes its own teacher: the moving
average of its weights labels all other slices. Pixels with a low probability and small connected
components are ignored. From then on each batch contains as many of these slices as of labelled
ones, with stronger augmentation: self-training with a noisy student (Lee 2013; Xie et al., CVPR
2020), with boxes of other slices in half of them (CutMix: French et al., BMVC 2020). In the next
round the average has improved, and labels the slices again.

A teacher that changes in every step (mean teacher, FixMatch) needs no rounds. But it starts from
its own labels before it has learnt much, and does not see a whole scan, in which small components
can be found.
"""

from typing import TYPE_CHECKING

from napari_sslseg.core.segmentation.loss import SIGMOID, class_probabilities
from napari_sslseg.core.settings.self_training import SelfTraining

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.settings.augmentation import Augmentation
    from napari_sslseg.core.settings.stages import LossKind

EPSILON = 1e-5
LEAST_PROBABILITY = 1e-6


def round_starts(settings: SelfTraining, steps: int) -> tuple[int, ...]:
    """Numbers of steps after which each round begins, in ascending order.

    Parameters
    ----------
    settings : SelfTraining
        When the first round begins, and how many rounds there are.
    steps : int
        Length of the training; a round begins after at least one step.
    """
    first = settings.begin * steps
    each = (steps - first) / settings.rounds
    found = {max(1, round(first + number * each)) for number in range(settings.rounds)}
    return tuple(sorted(step for step in found if step < steps))


def confident_labels(
    teacher: "nn.Module", images: "Tensor", kind: "LossKind", threshold: float
) -> "Tensor":
    """Labels of a teacher, where its probability is high enough.

    Parameters
    ----------
    teacher : nn.Module
        Network in evaluation mode.
    images : Tensor, shape (N, C, …)
        Images without augmentation.
    kind : LossKind
        The loss that the teacher was trained with.
    threshold : float
        Smallest probability of a label, 0…1.

    Returns
    -------
    Tensor, shape (N, …), int64
        Index of the class; where the probability is lower, one more than the last index.
    """
    import torch

    with torch.no_grad():
        probabilities = class_probabilities(teacher(images).float(), kind)
        highest, index = probabilities.max(1)
        return torch.where(highest >= threshold, index, probabilities.shape[1])


def strong_views(
    images: "Tensor",
    targets: "Tensor",
    augmentation: "Augmentation",
    settings: SelfTraining,
    generator: "torch.Generator",
) -> "tuple[Tensor, Tensor]":
    """Augment images strongly, and their labels in the same way.

    Parameters
    ----------
    images : Tensor, shape (N, C, …)
    targets : Tensor, shape (N, …), int64
        Labels of the teacher.
    augmentation : Augmentation
        That of labelled images, used if ``settings`` has none of its own.
    settings : SelfTraining
        Augmentation, and fraction of the images that get a box of another one.
    generator : torch.Generator
        Source of randomness, on the CPU.
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


def pseudo_label_loss(scores: "Tensor", targets: "Tensor", kind: "LossKind") -> "Tensor":
    """Cross entropy plus Dice over the pixels that the teacher labelled.

    The cross entropy is summed over those pixels and divided by the number of all pixels, so that
    few labels have little weight. Dice is computed over those pixels of the whole batch, and
    averaged over the classes without the background.

    Parameters
    ----------
    scores : Tensor, shape (N, channels, …)
    targets : Tensor, shape (N, …), int64
        Labels as in :func:`confident_labels`.
    kind : LossKind
        Name of the loss, which determines the channels of the scores.

    Returns
    -------
    Tensor, scalar, float32
    """
    from torch.nn import functional

    scores = scores.float()
    if kind in SIGMOID:
        logs = class_probabilities(scores, kind).clamp_min(LEAST_PROBABILITY).log()
    else:
        logs = scores.log_softmax(1)
    count = logs.shape[1]
    labelled = (targets < count)[:, None]
    entropy = functional.nll_loss(logs, targets, ignore_index=count, reduction="sum")
    truth = functional.one_hot(targets, count + 1).movedim(-1, 1)[:, 1:count].to(logs.dtype)
    probabilities = logs.exp()[:, 1:] * labelled
    axes = (0, *range(2, logs.ndim))
    both, total = (probabilities * truth).sum(axes), (probabilities + truth).sum(axes)
    dice = 1 - (2 * both + EPSILON) / (total + EPSILON)
    return entropy / targets.numel() + dice.mean()
