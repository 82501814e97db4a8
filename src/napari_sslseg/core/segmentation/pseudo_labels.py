"""Labels that a teacher gives to the samples of a store which nobody annotated."""

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.segmentation.self_training import told
from napari_sslseg.core.segmentation.small_pieces import without_loose_parts

if TYPE_CHECKING:
    import torch

    from napari_sslseg.core.samples.build import Store
    from napari_sslseg.core.settings.stages import FinetuneSettings
    from napari_sslseg.core.training.weight_average import AveragedNetwork

BATCH = 32
MOST_BYTES = 2**30


class PseudoLabels:
    """What the teacher of a round says of samples; scans are labelled whole when first asked for.

    Parameters
    ----------
    store : Store
        The samples. Where somebody labelled one, that is what counts.
    teacher : AveragedNetwork
        With rounds.
    settings : FinetuneSettings
        With ``self_training``.
    device : torch.device
        Where the teacher works.
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
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._round = 0

    def __call__(self, indices: np.ndarray) -> "torch.Tensor":
        """Class indices of samples, shape (B, *size), int64; one more where nothing is said."""
        import torch

        if self._teacher.round != self._round:
            self._kept.clear()
            self._bytes, self._round = 0, self._teacher.round
        found = []
        for index in indices.tolist():
            first, count = self._together(index)
            found.append(self._labelled(first, count)[index - first])
        return torch.from_numpy(np.stack(found).astype(np.int64))

    def _together(self, index: int) -> tuple[int, int]:
        """First sample and number of those that are looked at as one: a scan, or one volume."""
        if len(self._store.size) == 3:
            return index, 1
        scan = self._store.scans[self._store.scan_index[index]]
        return scan.start, scan.n_slices

    def _labelled(self, first: int, count: int) -> np.ndarray:
        key = first, count
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        labels = self._look(np.arange(first, first + count))
        self._kept[key] = labels
        self._bytes += labels.nbytes
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return labels

    def _look(self, indices: np.ndarray) -> np.ndarray:
        store, teacher = self._store, self._teacher.teacher
        assert teacher is not None
        count = 1 + len(store.classes)
        parts = []
        for start in range(0, len(indices), BATCH):
            images = store.batch(indices[start : start + BATCH]).to(self._device)
            said = told(teacher, images, self._kind, self._settings.threshold)
            parts.append(said.cpu().numpy().astype(np.uint8))
        labels = np.concatenate(parts)
        known = np.flatnonzero(store.annotated[indices])
        if known.size:
            labels[known] = store.label_batch(indices[known]).numpy()
        if labels.ndim == 4:  # One volume.
            return without_loose_parts(labels[0], count, self._settings.least_part)[None]
        return without_loose_parts(labels, count, self._settings.least_part)
