"""Preview of a pretext task on scans, before or after the training."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path, remove_leftovers
from napari_sslseg.core.common.errors import ConfigError, ScanWarning
from napari_sslseg.core.common.events import return_value
from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.safe_files import refuse_existing
from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.runs.check_network import check_run_network
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import default_preprocessing, sample_dimensions
from napari_sslseg.core.samples.crops import iter_crops
from napari_sslseg.core.samples.middle_slices import middle_mask
from napari_sslseg.core.samples.preview_slices import PreviewSlices, middle_samples
from napari_sslseg.core.samples.store import SampleStore
from napari_sslseg.core.scans.find import as_series
from napari_sslseg.core.scans.labelled import LabelledScan, as_volume
from napari_sslseg.core.scans.series import Series
from napari_sslseg.core.scans.sources import CollectedScan, collect_scans, without_labels
from napari_sslseg.core.scans.volume import Modality, Volume
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.core.settings.pretext.registry import (
    DEFAULT_TASK,
    TaskSettings,
    check_task,
    make_task,
)
from napari_sslseg.core.settings.stages import PretrainSettings

if TYPE_CHECKING:
    from torch import nn

ORIENTATIONS: dict[Plane, str] = {
    "axial": "Axial: anterior is at the top, the patient's right is at the left.",
    "coronal": "Coronal: superior is at the top, the patient's right is at the left.",
    "sagittal": "Sagittal: superior is at the top, anterior is at the left.",
}
"""Sides of the patient at the borders of the pictures, whose axes are those of the display grid."""


def preview(
    scans: CollectedScan | str | Path | Iterable[CollectedScan | str | Path],
    *,
    task: str = DEFAULT_TASK,
    options: Mapping[str, Any] | None = None,
    init: Run | str | Path | None = None,
    preprocessing: AnyPreprocessing | None = None,
    modality: Modality | None = None,
    middle_share: float = 1.0,
    slices: int = 3,
    seed: int = 0,
) -> PretextPreview:
    """Corrupt slices of scans as in the training, and show the output of a network.

    Parameters
    ----------
    scans : Volume, path-like, or several
        Scans, or folders of scans. Tasks that compare scans need several; a LabelledScan brings
        the mask that the left/right task needs.
    task : str
        Pretext task, unless ``init`` names a run.
    options : mapping, optional
        Settings of the task.
    init : Run or path-like, optional
        Pretraining run: its task, preprocessing and weights are used.
    preprocessing : Preprocessing or VolumePreprocessing, optional
        By the modality of the first scan if not given.
    modality : {"MR", "CT"}, optional
        Overrides the guess.
    middle_share : float
        Fraction of the slices of each scan, around the middle, to train on; with ``init`` that of
        the run.
    slices : int
        Number of examples: slices evenly spread over the middle half of the scans, or examples
        that a task draws from all scans.
    seed : int
        Seed of everything random.

    Returns
    -------
    PretextPreview
        NumPy arrays of the original and the corrupted slices and, with ``init``, the slices that
        the network restores, or their similarities.

    Raises
    ------
    SslsegError
        Whatever is wrong with scans, options or the run, in one sentence.
    """
    import torch

    from napari_sslseg.core.networks.build import make_network
    from napari_sslseg.core.networks.size_limit import planned, tensor_shapes
    from napari_sslseg.core.runs.weights.checkpoints import check_weights, restore

    alone = isinstance(scans, Volume | Series | LabelledScan | str | Path)
    sources = collect_scans([scans] if alone else scans)  # type: ignore[list-item,arg-type]
    run = None if init is None else Run.open(init, "pretrain")
    settings = None if run is None else run.settings(PretrainSettings)
    chosen = run.task() if run is not None else make_task(task, **(options or {}))
    found = settings.preprocessing if settings is not None else preprocessing
    if found is None:
        first = as_volume(without_labels(sources[0]), modality)
        found = default_preprocessing(first.modality, 2 if 2 in chosen.dimensions else 3)
        if not isinstance(sources[0], LabelledScan):
            sources[0] = first  # not read again
    check_task(chosen, sample_dimensions(found))
    if run is not None and settings is not None:
        check_run_network(run, settings.network, found)
    store = _store(sources if chosen.compares_scans else sources[:slices], chosen, found, modality)
    if run is None:
        # Some defaults depend on the size of the slices.
        chosen = make_task(task, store.size, **(options or {}))
    # Information on other scans, such as those of the training, is not needed.
    chosen = chosen.for_scans(scan.name for scan in store.scans)
    if remark := chosen.remark(found):
        warnings.warn(remark, ScanWarning, stacklevel=2)
    runtime: PretextTask = chosen.build(store.size, seed)
    runtime.set_store(store)
    shown = middle_samples(store, slices)
    if chosen.compares_scans:
        share = middle_share if settings is None else settings.middle_share
        known = np.flatnonzero(middle_mask(store, share))
        shown = next(runtime.batches(known, slices)(np.random.default_rng(seed)))
    model = None
    if run is not None and settings is not None:
        network, channels = settings.network, store.channels

        def build() -> "nn.Module":
            plain = make_network(
                network, channels, runtime.output_channels(channels), output_kernel=3
            )
            return runtime.wrap(plain)

        # The head of a task may be larger than the network, so its size is checked as well.
        check_weights(run.weights, tensor_shapes(planned(build, network.kind)))
        model = build().eval()
        restore(model, run.weights)
    draw = runtime.sample_slices(shown, torch.Generator().manual_seed(seed))
    picture = runtime.preview(store.batch(shown), draw, model)
    rows: tuple[str, ...] = ()
    if len(picture.original) == len(shown):  # Not if a row shows several samples.
        rows = tuple(_source(store, number, found.plane) for number in shown.tolist())
    return replace(picture, sources=rows, orientation=ORIENTATIONS[found.plane])


def _source(store: SampleStore, number: int, plane: Plane) -> str:
    """Scan and place of a sample, such as "case_1, axial slice 3 of 12"."""
    scan = store.scans[store.scan_index[number]]
    what = f"{plane} slice" if store.noun == "slice" else store.noun
    return f"{scan.name}, {what} {number - scan.start + 1} of {scan.n_slices}"


def _store(
    scans: Sequence[CollectedScan],
    task: TaskSettings,
    settings: AnyPreprocessing,
    modality: Modality | None,
) -> SampleStore:
    """Make slices that are read when drawn, or crops of volumes, or the samples of the task."""
    if isinstance(settings, Preprocessing):
        # Series, so that only the slices that are drawn are read.
        plain = [
            scan if isinstance(scan, Volume) else as_series(scan)
            for scan in map(without_labels, scans)
        ]
        return PreviewSlices(plain, settings, modality)
    if (iter_own_samples := task.sample_function()) is not None:
        crops = return_value(iter_own_samples(scans, settings, task, modality=modality))
    else:
        crops = return_value(
            iter_crops([without_labels(s) for s in scans], settings, modality=modality)
        )
    assert crops is not None  # without a StopFlag
    return crops


def draw_preview(
    scans: CollectedScan | str | Path | Iterable[CollectedScan | str | Path],
    *,
    out: str | Path,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Draw a :func:`preview` into an image file.

    Raises
    ------
    StorageError
        If the file exists, unless ``overwrite``.
    """
    from napari_sslseg.core.pretext.pictures.figure import preview_figure

    out = Path(out)
    refuse_existing(out, overwrite=overwrite)
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"A preview cannot be written as {out.name}; use a name in .png or .pdf.")
    figure = preview_figure(preview(scans, **options))
    remove_leftovers(out.parent)  # Of a preview that was killed.
    with atomic_path(out, overwrite=overwrite) as temporary:
        figure.savefig(temporary, dpi=120)
    return out
