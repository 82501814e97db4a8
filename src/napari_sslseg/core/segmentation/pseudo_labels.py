"""Pseudo labels: labels of a teacher for the unlabelled samples of a store."""

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.sizes import UNKNOWN
from napari_sslseg.core.segmentation.self_training import confident_labels
from napari_sslseg.core.segmentation.small_components import remove_small_components

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.samples.build import Store
    from napari_sslseg.core.settings.stages import FinetuneSettings
    from napari_sslseg.core.training.weight_average import AveragedNetwork

BATCH = 32
MOST_BYTES = 2**30


class PseudoLabels:
    """Labels of samples by the teacher of the current round.

    A scan is labelled as a whole when one of its samples is first needed; the labels are cached.

    Parameters
    ----------
    store : Store
        The samples. Annotated samples keep their own labels; those of the teacher are used where
        their own are unknown, and where the teacher sees a class that is not labelled there.
    teacher : AveragedNetwork
        Network with a teacher.
    settings : FinetuneSettings
        Settings with ``self_training``.
    device : torch.device
        Device of the teacher.
    """

    def __init__(
        self,
        store: "Store",
        teacher: "AveragedNetwork",
        settings: "FinetuneSettings",
        device: "torch.device",
    ) -> None:
        assert settings.self_training is not None
        self._store, self._teacher, self._device = store, teacher, device
        self._kind, self._settings = settings.loss, settings.self_training
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._round = 0

    def __call__(self, indices: np.ndarray) -> "torch.Tensor":
        """Class indices of samples, shape (B, *size), int64; one more where there is no label."""
        import torch

        if self._teacher.round != self._round:
            self._cache.clear()
            self._bytes, self._round = 0, self._teacher.round
        found = []
        for index in indices.tolist():
            first, count = self._group(index)
            found.append(self._cached_labels(first, count)[index - first])
        return torch.from_numpy(np.stack(found).astype(np.int64))

    def _group(self, index: int) -> tuple[int, int]:
        """First sample and number of samples to label together: the slices of a scan, or a crop."""
        if len(self._store.size) == 3:
            return index, 1
        scan = self._store.scans[self._store.scan_index[index]]
        return scan.start, scan.n_slices

    def _cached_labels(self, first: int, count: int) -> np.ndarray:
        key = first, count
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        labels = self._label(np.arange(first, first + count))
        self._cache[key] = labels
        self._bytes += labels.nbytes
        while self._bytes > MOST_BYTES and len(self._cache) > 1:
            self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return labels

    def _label(self, indices: np.ndarray) -> np.ndarray:
        """Label samples with the teacher, and remove small components."""
        store, teacher = self._store, self._teacher.teacher
        assert teacher is not None
        count = 1 + len(store.classes)
        parts = []
        for start in range(0, len(indices), BATCH):
            images = store.batch(indices[start : start + BATCH]).to(self._device)
            found = confident_labels(teacher, images, self._kind, self._settings.threshold)
            parts.append(found.cpu().numpy().astype(np.uint8))
        labels = np.concatenate(parts)
        self._replace_known(labels, indices)
        if labels.ndim == 4:  # One crop.
            return remove_small_components(labels[0], count, self._settings.least_part)[None]
        return remove_small_components(labels, count, self._settings.least_part)

    def _replace_known(self, labels: np.ndarray, indices: np.ndarray) -> None:
        """Replace labels of the teacher, in place, by those that are known."""
        store = self._store
        known = np.flatnonzero(store.annotated[indices])
        if not known.size:
            return
        own, found = store.label_batch(indices[known]).numpy(), labels[known]
        # What the teacher may see in the background of a sample: classes that are not labelled
        # there, and, in the last column, anything that it is not sure of.
        hidden = store.hidden_classes(indices[known])
        hidden = np.column_stack([hidden, hidden.any(1)])
        rows = np.arange(len(known)).reshape(-1, *[1] * (own.ndim - 1))
        kept = (own == UNKNOWN) | ((own == 0) & hidden[rows, found])
        labels[known] = np.where(kept, found, own)
