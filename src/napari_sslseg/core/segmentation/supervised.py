"""Learning from annotated samples, step by step: the loss, the validation, and what is shown."""

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.compute.distributed import all_gather_objects, assign_to_processes
from napari_sslseg.core.common.pictures import SlicePrediction
from napari_sslseg.core.samples.build import Store
from napari_sslseg.core.segmentation.loss import SegmentationLoss, class_shares, relative_entropy
from napari_sslseg.core.segmentation.pseudo_labels import PseudoLabels
from napari_sslseg.core.segmentation.self_training import strong_views, told_loss
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
) -> Any:
    """Augment a batch, go forward, compare; with a branch, restore the images too.

    Samples without labels may be among those of a batch; they are left out until a round has begun
    in which a teacher says what they show.
    """
    import torch
    from torch.nn import functional

    from napari_sslseg.core.segmentation.augment import apply_augmentation, sample_augmentation

    weight, asked = settings.reconstruction_weight, settings.self_training
    labels_of = None
    if asked is not None and teacher is not None:
        labels_of = PseudoLabels(store, teacher, settings, device)

    def annotated(indices: np.ndarray, generator: "torch.Generator") -> "tuple[Tensor, Tensor]":
        images = store.batch(indices).to(device, non_blocking=True)
        labels = store.label_batch(indices).to(device, non_blocking=True)
        dimensions = len(store.size)
        draw = sample_augmentation(len(indices), settings.augmentation, generator, dimensions)
        return apply_augmentation(images, labels, draw)

    def loss(model: "nn.Module", indices: np.ndarray, generator: "torch.Generator") -> "Tensor":
        known = store.annotated[indices]
        images, labels = annotated(indices[known], generator)
        own, said = len(images), None
        if asked is not None and teacher is not None and labels_of is not None and teacher.round:
            said = labels_of(indices[~known]).to(device, non_blocking=True)
            seen = store.batch(indices[~known]).to(device, non_blocking=True)
            seen, said = strong_views(seen, said, settings.augmentation, asked, generator)
            images = torch.cat([images, seen])
        scores, restored = model(images) if weight else (model(images), None)
        found = compare(scores[:own], labels)
        if restored is not None:
            error = functional.mse_loss(restored.float(), images.float())
            found = (1 - weight) * found + weight * error
        if asked is not None and said is not None:
            found = found + asked.weight * told_loss(scores[own:], said, settings.loss)
        return found

    return loss


def dice_validation(
    store: Store, indices: np.ndarray, settings: FinetuneSettings, device: "torch.device"
) -> Any:
    """Dice per class over all validation slices together, and their mean; None without any."""
    assert settings.classes is not None
    if not len(indices):
        return None
    classes = settings.classes
    size = settings.training.batch_size

    def validate(model: "nn.Module") -> dict[str, float]:
        import torch

        inside = torch.zeros(len(classes), dtype=torch.int64)
        total = torch.zeros(len(classes), dtype=torch.int64)
        for start, own in assign_to_processes(range(0, len(indices), size)):
            if not own:
                continue
            part = indices[start : start + size]
            scores = model(store.batch(part).to(device)).float()
            predicted = class_shares(scores, settings.loss).argmax(1).cpu()
            truth = store.label_batch(part)
            for number in range(len(classes)):
                a, b = predicted == number + 1, truth == number + 1
                inside[number] += (a & b).sum()
                total[number] += a.sum() + b.sum()
        inside, total = (torch.stack(all_gather_objects(t)).sum(0) for t in (inside, total))
        dice = torch.where(total > 0, 2 * inside / total.clamp(min=1), torch.nan)
        scored = {value: float(d) for value, d in zip(classes, dice, strict=True) if d == d}
        mean = sum(scored.values()) / len(scored) if scored else 0.0
        return {"dice": mean} | {f"dice_{value}": score for value, score in scored.items()}

    return validate


def slice_prediction(
    watch: Watch | None, store: Store, settings: FinetuneSettings, device: "torch.device"
) -> Any:
    """Predict the slice that is watched; None if nothing can be, as in volumes."""
    found, classes = settings.preprocessing, settings.classes
    if watch is None or not isinstance(found, Preprocessing) or classes is None:
        return None
    watched = WatchedSlice(store, found)

    def show(model: "nn.Module") -> SlicePrediction | None:
        wanted = watch.wanted
        if wanted is None:
            return None
        image, place = watched.get(*wanted)
        parts = class_shares(model(image.to(device)).float(), settings.loss)
        told = place.take(parts)[0].cpu()
        values = np.array([0, *classes])[told.argmax(0).numpy()]
        volume, index = wanted
        uncertainty = relative_entropy(told).numpy()
        return SlicePrediction(volume.name, found.plane, index, values, uncertainty)

    return show
