"""What a pretext task does to a scan, as a picture, before or after training."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.atomic import atomic_path
from napari_sslseg.core.config import Preprocessing, PretrainSettings
from napari_sslseg.core.errors import ConfigError, ScanWarning
from napari_sslseg.core.labelled import as_volume
from napari_sslseg.core.predict import prediction_placement
from napari_sslseg.core.preprocess import prepare
from napari_sslseg.core.pretext.base import PretextPreview, PretextTask
from napari_sslseg.core.pretext.registry import make_task, remarks
from napari_sslseg.core.runs import Run
from napari_sslseg.core.samples import default_preprocessing
from napari_sslseg.core.volumes import Modality, Volume


def preview(
    scan: Volume | str | Path,
    *,
    task: str = "context-restoration",
    options: Mapping[str, Any] | None = None,
    init: Run | str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    modality: Modality | None = None,
    slices: int = 3,
    seed: int = 0,
) -> PretextPreview:
    """Corrupt slices of a scan just as the training does, and restore them with a network.

    Parameters
    ----------
    scan : Volume or path-like
        The scan.
    task : str
        Pretext task, unless ``init`` names a run.
    options : mapping, optional
        Settings of the task.
    init : Run or path-like, optional
        Pretraining run: its task, preprocessing and weights are used.
    preprocessing : Preprocessing, optional
        By the modality of the scan if not given.
    modality : {"MR", "CT"}, optional
        Overrides the guess.
    slices : int
        Number of slices, evenly spread over the middle half of the scan.
    seed : int
        Seed of the corruption.

    Returns
    -------
    PretextPreview
        NumPy arrays of the original, the corrupted and, with ``init``, the restored slices.
    """
    import torch

    from napari_sslseg.core.checkpoints import restore
    from napari_sslseg.core.networks.build import make_network

    volume = as_volume(scan, modality)
    run = None if init is None else Run.open(init, "pretrain")
    network = None
    if run is not None:
        settings = run.settings(PretrainSettings)
        preprocessing, network = settings.preprocessing, settings.network
    preprocessing = preprocessing or default_preprocessing(volume.modality)
    place = prediction_placement(volume.geometry, preprocessing)
    images = prepare(volume, preprocessing, place)
    chosen = run.task() if run else make_task(task, place.canvas, **(options or {}))
    for remark in remarks(chosen, preprocessing):
        warnings.warn(remark, ScanWarning, stacklevel=2)
    middle = np.linspace(0.25, 0.75, slices + 2)[1:-1] * (len(images) - 1)
    batch = torch.from_numpy(images[np.unique(middle.round().astype(int))])
    runtime: PretextTask = chosen.build(place.canvas, seed)
    model = None
    if run is not None and network is not None:
        plain = make_network(network, batch.shape[1], runtime.head(batch.shape[1]), output_kernel=3)
        model = runtime.wrap(plain).eval()
        restore(model, run.weights)
    draw = runtime.sample(len(batch), torch.Generator().manual_seed(seed))
    return runtime.preview(batch, draw, model)


def draw_preview(scan: Volume | str | Path, *, out: str | Path, **options: Any) -> Path:
    """Draw :func:`preview` into a picture file."""
    from napari_sslseg.core.pretext.figure import preview_figure

    out = Path(out)
    if out.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ConfigError(f"A preview cannot be written as {out.name}; use a name in .png or .pdf.")
    figure = preview_figure(preview(scan, **options))
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=120)
    return out
