"""Loss, validation and preview of the training on annotated samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.compute.distributed import all_gather_objects, assign_to_processes
from napari_sslseg.core.common.example_pictures import SlicePrediction
from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.samples.build import Store
from napari_sslseg.core.segmentation.loss import (
    SegmentationLoss,
    class_probabilities,
    normalized_entropy,
)
from napari_sslseg.core.segmentation.pseudo_labels import PseudoLabels
from napari_sslseg.core.segmentation.self_training import pseudo_label_loss, strong_views
from napari_sslseg.core.settings.preprocessing import Preprocessing
from napari_sslseg.core.settings.stages import FinetuneSettings
from napari_sslseg.core.training.watch import Watch, WatchedSlice

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_sslseg.core.training.weight_average import AveragedNetwork


def batch_loss(
    store: Store,
    compare: SegmentationLoss,
    settings: FinetuneSettings,
    device: "torch.device",
    teacher: "AveragedNetwork | None" = None,
    *,
    halves: bool = False,
) -> "Callable[[nn.Module, np.ndarray, torch.Generator], Tensor]":
    """Make the loss of a batch: augment it, pass it through the network, compare with the labels.

    Parameters
    ----------
    store : Store
        The samples.
    compare : SegmentationLoss
        Loss of scores and labels.
    settings : FinetuneSettings
        Augmentation, weight of the reconstruction, and self-training.
    device : torch.device
        Device of the network.
    teacher : AveragedNetwork, optional
        Labels the unlabelled samples of a batch; they are ignored until its first round.
    halves : bool
        Whether the second half of each batch is of unlabelled samples.

    Returns
    -------
    callable
        ``(model, indices, generator) -> scalar Tensor``.
    """
    import torch
    from torch.nn import functional

    from napari_sslseg.core.segmentation.augment import apply_augmentation, sample_augmentation

    weight, self_training = settings.reconstruction_weight, settings.self_training
    pseudo_labels = None
    if self_training is not None and teacher is not None:
        pseudo_labels = PseudoLabels(store, teacher, settings, device)
    # The same in all processes, since they compute a loss together.
    partial = bool(store.partial.any())

    def annotated(indices: np.ndarray, generator: "torch.Generator") -> "tuple[Tensor, Tensor]":
        images = store.batch(indices).to(device, non_blocking=True)
        labels = store.label_batch(indices).to(device, non_blocking=True)
        dimensions = len(store.size)
        changes = sample_augmentation(len(indices), settings.augmentation, generator, dimensions)
        return apply_augmentation(images, labels, changes)

    def loss(model: "nn.Module", indices: np.ndarray, generator: "torch.Generator") -> "Tensor":
        n_annotated = len(indices) // 2 if halves else len(indices)
        own, others = indices[:n_annotated], indices[n_annotated:]
        images, labels = annotated(own, generator)
        targets = None
        if pseudo_labels is not None and teacher is not None and teacher.round:
            assert self_training is not None
            targets = pseudo_labels(others).to(device, non_blocking=True)
            views, targets = strong_views(
                store.batch(others).to(device, non_blocking=True),
                targets,
                settings.augmentation,
                self_training,
                generator,
            )
            images = torch.cat([images, views])
        scores, restored = model(images) if weight else (model(images), None)
        hidden = None
        if partial:
            hidden = torch.from_numpy(store.hidden_classes(own)).to(device, non_blocking=True)
        total = compare(scores[:n_annotated], labels, hidden)
        if restored is not None:
            error = functional.mse_loss(restored.float(), images.float())
            total = (1 - weight) * total + weight * error
        if targets is not None and self_training is not None:
            extra = pseudo_label_loss(scores[n_annotated:], targets, settings.loss)
            total = total + self_training.weight * extra
        return total

    return loss


@dataclass(frozen=True, eq=False)
class ValidationPart:
    """Samples to validate on.

    Attributes
    ----------
    store : Store
        Store of the samples.
    indices : ndarray
        Their indices in the store.
    inside : tuple of slice
        Pixels of a sample that are of the scan; the others are padding.
    """

    store: Store
    indices: np.ndarray
    inside: tuple[slice, ...] = ()

    def batches(self, settings: FinetuneSettings) -> "list[ValidationPart]":
        """Divide the samples into batches that need no more memory than one of the training."""
        size = settings.training.batch_size
        trained = settings.preprocessing.size if settings.preprocessing else None
        if isinstance(trained, tuple):
            size = max(1, min(size, size * prod(trained) // prod(self.store.size)))
        starts = range(0, len(self.indices), size)
        return [replace(self, indices=self.indices[start : start + size]) for start in starts]


def dice_validation(
    parts: Sequence[ValidationPart], settings: FinetuneSettings, device: "torch.device"
) -> "Callable[[nn.Module], dict[str, float]] | None":
    """Make the validation: Dice of each class over all validation samples, and their mean.

    Unknown voxels and the padding around a scan are left out, and so are samples in which a class
    is not labelled. A batch has at most about as many pixels as one of the training.

    Parameters
    ----------
    parts : sequence of ValidationPart
        Samples to validate on.
    settings : FinetuneSettings
        Classes, loss and batch size.
    device : torch.device
        Device of the network.

    Returns
    -------
    callable or None
        ``model -> scores`` by name; None without validation samples.
    """
    assert settings.classes is not None
    batches = [batch for part in parts for batch in part.batches(settings)]
    if not batches:
        return None
    classes = settings.classes

    def validate(model: "nn.Module") -> dict[str, float]:
        import torch

        overlap = torch.zeros(len(classes), dtype=torch.int64)
        total = torch.zeros(len(classes), dtype=torch.int64)
        for batch, own in assign_to_processes(batches):
            if not own:
                continue
            store, part, inside = batch.store, batch.indices, (slice(None), *batch.inside)
            scores = model(store.batch(part).to(device)).float()
            predicted = class_probabilities(scores, settings.loss).argmax(1).cpu()[inside]
            truth = store.label_batch(part)[inside]
            known = known_voxels(store, part, truth) if store.partial[part].any() else None
            for number in range(len(classes)):
                a, b = predicted == number + 1, truth == number + 1
                if known is not None:
                    a &= known[:, number]
                overlap[number] += (a & b).sum()
                total[number] += a.sum() + b.sum()
        overlap, total = (torch.stack(all_gather_objects(t)).sum(0) for t in (overlap, total))
        dice = torch.where(total > 0, 2 * overlap / total.clamp(min=1), torch.nan)
        scored = {value: float(d) for value, d in zip(classes, dice, strict=True) if d == d}
        mean = sum(scored.values()) / len(scored) if scored else 0.0
        return {"dice": mean} | {f"dice_{value}": score for value, score in scored.items()}

    return validate


def known_voxels(store: Store, indices: np.ndarray, truth: "Tensor") -> "Tensor":
    """Voxels of samples whose class is known, for each class, shape (N, classes, …), bool."""
    import torch

    labelled = torch.from_numpy(~store.hidden_classes(indices)[:, 1:])
    return labelled.view(*labelled.shape, *[1] * (truth.ndim - 1)) & (truth != UNKNOWN)[:, None]


def slice_prediction(
    watch: Watch | None, store: Store, settings: FinetuneSettings, device: "torch.device"
) -> "Callable[[nn.Module], SlicePrediction | None] | None":
    """Make the preview: the prediction for the watched slice.

    Returns
    -------
    callable or None
        ``model -> SlicePrediction``; None without a watch, and for networks of volumes.
    """
    preprocessing, classes = settings.preprocessing, settings.classes
    if watch is None or not isinstance(preprocessing, Preprocessing) or classes is None:
        return None
    watched = WatchedSlice(store, preprocessing)

    def show(model: "nn.Module") -> SlicePrediction | None:
        wanted = watch.wanted
        if wanted is None:
            return None
        image, placement = watched.get(*wanted)
        on_canvas = class_probabilities(model(image.to(device)).float(), settings.loss)
        probabilities = placement.take(on_canvas)[0].cpu()
        values = np.array([0, *classes])[probabilities.argmax(0).numpy()]
        volume, index = wanted
        uncertainty = normalized_entropy(probabilities).numpy()
        return SlicePrediction(volume.name, preprocessing.plane, index, values, uncertainty)

    return show
