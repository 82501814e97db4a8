"""Segment scans with a fine-tuned network; results are on the grid of the scan."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.core.common.errors import (
    CheckpointError,
    DataError,
    ScanWarning,
)
from napari_sslseg.core.common.events import (
    Done,
    Event,
    Progress,
    result_of,
)
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.results.prediction.augmented import average_over_views
from napari_sslseg.core.results.prediction.memory import (
    check_memory,
    prediction_memory,
)
from napari_sslseg.core.results.prediction.refused import LABEL_MAP, describe_refused
from napari_sslseg.core.results.prediction.volumes import predict_volume
from napari_sslseg.core.runs.check_network import check_run_network
from napari_sslseg.core.runs.lineage import DataUse, Use, find_data_use, use_of
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import remark_unfinished
from napari_sslseg.core.runs.weights.checkpoints import check_weights, restore
from napari_sslseg.core.samples.normalize import Normalizer
from napari_sslseg.core.samples.placement import Placement, prediction_placement
from napari_sslseg.core.samples.preprocess import prepare
from napari_sslseg.core.samples.store import scan_hash
from napari_sslseg.core.scans.geometry import Geometry
from napari_sslseg.core.scans.labelled import as_volume
from napari_sslseg.core.scans.matching.label_guess import looks_like_labels
from napari_sslseg.core.scans.series import Source
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.segmentation.loss import (
    class_probabilities,
    normalized_entropy,
    score_channels,
)
from napari_sslseg.core.segmentation.small_components import (
    check_least_part,
    remove_small_components,
)
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, VolumePreprocessing
from napari_sslseg.core.settings.stages import FinetuneSettings, LossKind

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

MOST_PIXELS_CPU = 2**20
MOST_PIXELS_GPU = 2**23
"""Pixels per forward pass: 4 or 32 slices of 512 × 512 pixels."""

MOST_SCORES = 2**26
"""Scores per forward pass; 256 MiB."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction for a scan, in the display grid of the scan.

    Attributes
    ----------
    labels : ndarray, shape of the scan
        Label values (not class indices), 0 for background.
    probabilities : ndarray, shape (1 + classes, *shape), float32, or None
        Background first, then the classes in the order of ``classes``.
    uncertainty : ndarray, shape of the scan, float16, or None
        Entropy of the probabilities divided by its maximum: 0 certain, 1 all classes equal.
    volume : Volume
        The scan.
    classes : tuple of int
        Label values of the classes, ascending.
    class_names : mapping of int to str
        Names of the classes, as far as the run knows them.
    use : str or None
        How the run had used the scan or its patient, such as ``training``; None if its record does
        not say it.
    """

    labels: np.ndarray = field(repr=False)
    probabilities: np.ndarray | None = field(repr=False)
    uncertainty: np.ndarray | None = field(repr=False)
    volume: Volume
    classes: tuple[int, ...]
    class_names: Mapping[int, str] = field(default_factory=dict)
    use: Use | None = None

    @property
    def geometry(self) -> Geometry:
        """Geometry of the scan."""
        return self.volume.geometry


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A fine-tuned network, ready to predict.

    Attributes
    ----------
    network : nn.Module
        Network in evaluation mode, on ``device``.
    preprocessing : Preprocessing or VolumePreprocessing
        Preprocessing of the run.
    classes : tuple of int
        Label values of the classes.
    device : str
        Device of the network.
    loss : LossKind
        Loss of the training, which determines the channels of the scores.
    class_names : mapping of int to str
        Names of the classes, as far as the run knows them.
    data_use : DataUse or None
        Scans and patients that the run learnt from; None if its record does not say it.
    """

    network: "nn.Module"
    preprocessing: AnyPreprocessing
    classes: tuple[int, ...]
    device: str
    loss: LossKind = "dice-ce"
    class_names: Mapping[int, str] = field(default_factory=dict)
    data_use: DataUse | None = field(default=None, repr=False)


def load_segmenter(run: Run | str | Path, device: str = "auto") -> Segmenter:
    """Rebuild the network of a fine-tuning run with its best weights.

    Raises
    ------
    CheckpointError
        If the folder is not a fine-tuning run, or its files do not match.
    """
    from napari_sslseg.core.common.compute.devices import make_fabric
    from napari_sslseg.core.networks.build import make_network

    run = Run.open(run, "finetune")
    settings = run.settings(FinetuneSettings)
    classes = settings.classes
    if settings.preprocessing is None or classes is None:
        raise CheckpointError(
            f"The record of {run.folder} lacks its preprocessing or classes; train again."
        )
    channels = score_channels(settings.loss, len(classes))
    # Before anything is built, since a foreign record may describe a network of any size.
    shapes = check_run_network(run, settings.network, settings.preprocessing, channels)
    check_weights(run.weights, shapes)
    network = make_network(settings.network, settings.preprocessing.channels, channels)
    restore(network, run.weights)
    chosen = make_fabric(device).device
    return Segmenter(
        network.to(chosen).eval(),
        settings.preprocessing,
        classes,
        str(chosen),
        settings.loss,
        run.class_names,
        _data_use(run),
    )


def predict(
    model: Segmenter | Run | str | Path,
    scan: Volume | Source | str,
    *,
    device: str = "auto",
    modality: Modality | None = None,
    batch_size: int = 32,
    probabilities: bool = True,
    uncertainty: bool = True,
    tta: bool = False,
    least_part: float = 0.0,
) -> Prediction:
    """Segment one scan.

    Parameters
    ----------
    model : Segmenter, Run or path-like
        A fine-tuning run, or the result of :func:`load_segmenter` to predict many scans.
    scan : Volume, Series or path-like
        The scan, of the modality that the network was trained on.
    device : str
        Device to predict on, unless ``model`` is a Segmenter.
    modality : {"MR", "CT"}, optional
        Modality of the scan; guessed if not given.
    batch_size : int
        Slices per forward pass; fewer for large slices or many classes.
    probabilities : bool
        Whether to keep the probabilities, which take 4 bytes per voxel and class.
    uncertainty : bool
        Whether to keep the uncertainty, which takes 2 bytes per voxel.
    tta : bool
        Whether to use test-time augmentation, which averages over rotated and scaled views and
        takes up to five times as long, see :mod:`napari_sslseg.core.results.prediction.augmented`.
    least_part : float
        Connected components of a class that are smaller than this fraction of its largest one
        become background, 0…1; 0 keeps all. See
        :mod:`napari_sslseg.core.segmentation.small_components`. It does not suit classes with many
        components, such as lesions. Probabilities and uncertainty do not change.

    Returns
    -------
    Prediction
        Prediction for all pixels, on the grid of the scan.

    Raises
    ------
    SslsegError
        If something is wrong with the run, the scan or an option, or the scan looks like a label
        map.
    MemoryError
        If the scan is too large for this network and machine.
    """
    check_least_part(least_part)
    if isinstance(model, Segmenter):
        segmenter = model
    else:
        run = Run.open(model, "finetune")
        segmenter = load_segmenter(run, device)
        if remark := remark_unfinished(run.folder):
            warnings.warn(remark, ScanWarning, stacklevel=2)
    volume = as_volume(scan, modality)
    seen = segmenter.data_use
    steps = iter_predict_scan(
        segmenter,
        volume,
        batch_size=batch_size,
        probabilities=probabilities,
        uncertainty=uncertainty,
        tta=tta,
        least_part=least_part,
    )
    prediction: Prediction = result_of(steps)
    if seen is None:
        return prediction
    return replace(prediction, use=use_of(seen, scan_hash(volume), volume.subject))


def iter_predict_scan(
    segmenter: Segmenter,
    volume: Volume,
    *,
    batch_size: int = 32,
    probabilities: bool = True,
    uncertainty: bool = True,
    tta: bool = False,
    least_part: float = 0.0,
) -> Iterator[Event]:
    """Segment one scan step by step, with options as in :func:`predict`.

    Yields
    ------
    Event
        Progress after each batch of slices, in voxels, and last Done with the Prediction.
    """
    if looks_like_labels(volume):
        raise DataError(describe_refused([str(volume.path or volume.name)], *LABEL_MAP))
    shape, count = volume.data.shape, 1 + len(segmenter.classes)
    need = prediction_memory(
        volume.geometry,
        segmenter.preprocessing,
        count,
        probabilities=probabilities,
        uncertainty=uncertainty,
    )
    check_memory(volume.name, need - volume.data.nbytes)
    index = np.empty(shape, np.min_scalar_type(count))
    entropy = np.empty(shape, np.float16) if uncertainty else None
    kept = np.empty((count, *shape), np.float32) if probabilities else None
    done = 0
    try:
        for where, part in _probabilities(segmenter, volume, batch_size, tta):
            index[where] = part.argmax(0).numpy()
            if entropy is not None:
                entropy[where] = normalized_entropy(part).numpy()
            if kept is not None:
                kept[(slice(None), *where)] = part.numpy()
            done += part[0].numel()
            yield Progress("Predicting", done, volume.data.size)
    except RuntimeError as error:
        from napari_sslseg.core.common.compute.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise MemoryError(f"{volume.name} does not fit into memory.") from error
    prediction = Prediction(
        labels=_values(remove_small_components(index, count, least_part), segmenter.classes),
        probabilities=kept,
        uncertainty=entropy,
        volume=volume,
        classes=segmenter.classes,
        class_names=segmenter.class_names,
    )
    yield Done(prediction)


def _values(index: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """Replace class indices by label values, in place if their type suffices."""
    # The last entry is for removed components, which become background.
    values = np.array([0, *classes, 0])
    kind = np.promote_types(index.dtype, np.min_scalar_type(int(values.max())))
    values, labels = values.astype(kind), index.astype(kind, copy=False)
    for plane in labels:
        plane[:] = values[plane]
    return labels


def _probabilities(
    segmenter: Segmenter, volume: Volume, batch_size: int, tta: bool
) -> "Iterator[tuple[tuple[slice, ...], Tensor]]":
    """Class probabilities of parts of a scan: position of the part, and (1 + classes, …) on CPU."""
    import torch

    settings = segmenter.preprocessing

    def once(images: "Tensor") -> "Tensor":
        with torch.inference_mode():
            return class_probabilities(segmenter.network(images), segmenter.loss)

    def predict_batch(images: "Tensor") -> "Tensor":
        return average_over_views(once, images) if tta else once(images)

    if isinstance(settings, VolumePreprocessing):
        whole = (slice(None),) * 3
        yield whole, predict_volume(predict_batch, volume, settings, segmenter.device)
        return
    place = prediction_placement(volume.geometry, settings)
    scan = Normalizer(volume, settings)
    channels = 1 + len(segmenter.classes)
    batch_size = _limited_batch_size(batch_size, place, channels, segmenter.device)
    axis = PLANE_AXIS[settings.plane]
    for start in range(0, scan.count, batch_size):
        part = slice(start, min(start + batch_size, scan.count))
        # Batch by batch, since the input has several channels of float32 for each voxel.
        slices = torch.from_numpy(prepare(scan, place, np.arange(part.start, part.stop)))
        found = place.take(predict_batch(slices.to(segmenter.device))).cpu()
        where = tuple(part if a == axis else slice(None) for a in range(3))
        # From (slices, classes, height, width) to classes first and slices along their axis.
        yield where, found.transpose(0, 1).movedim(1, axis + 1)


def _data_use(run: Run) -> DataUse | None:
    """Scans that a run and its predecessors used; None if an early version did not record it."""
    try:
        return find_data_use(run)
    except CheckpointError:
        return None


def _limited_batch_size(
    batch_size: int, place: Placement, channels: int, device: "torch.device | str"
) -> int:
    """Slices per forward pass, limited by the size of the features and of the scores."""
    pixels = max(place.canvas[0] * place.canvas[1], place.pixels[0] * place.pixels[1])
    import torch

    # Larger batches are not faster on the CPU, and a pixel has hundreds of features.
    most = MOST_PIXELS_CPU if torch.device(device).type == "cpu" else MOST_PIXELS_GPU
    return max(1, min(batch_size, most // pixels, MOST_SCORES // (pixels * channels)))
