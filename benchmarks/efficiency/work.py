"""Fit one cell and score it."""

import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from efficiency.cells import FORMAT, Cell
from efficiency.few_slices import with_few_slices
from efficiency.place import Place
from efficiency.rows import Row
from efficiency.shared_runs import make_once
from napari_sslseg import core
from napari_sslseg.core.results.predict import Segmenter
from napari_sslseg.core.results.scores import VolumeScores, mean_of
from napari_sslseg.core.scans.labelled import LabelledScan, scan_subject

PACKAGES = ("napari-sslseg", "torch", "monai", "numpy")
PEER_PACKAGES = {"random-forest": ("scikit-learn",), "nnunet": ("nnunetv2",)}


@dataclass(frozen=True)
class Fit:
    """Input of a method: the cell, labelled scans, all training scans, and folders."""

    cell: Cell
    labelled: list[LabelledScan]
    pool: list[LabelledScan]
    place: Place
    folder: Path


class Labeller(Protocol):
    """The result of fitting an arm: a function from a scan to the labels of its voxels."""

    def __call__(self, scan: core.Volume, /) -> core.Prediction | np.ndarray:
        """Labels in the display grid of the scan."""
        ...


def run_cell(cell: Cell, place: Place) -> Row:
    """Pretrain if necessary, fit, predict and score; return the row of the cell."""
    torch.set_num_threads(place.threads)
    pairs = _pairs(place.data / cell.data.name, cell.data.classes, cell.data.left_out)
    by_subject: dict[str, list[LabelledScan]] = defaultdict(list)
    for pair in pairs:
        by_subject[scan_subject(pair)].append(pair)

    def of(subjects: tuple[str, ...]) -> list[LabelledScan]:
        return [pair for subject in subjects for pair in by_subject[subject]]

    (place.out / "work").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.out / "work") as folder:
        labelled = of(cell.subjects)
        if cell.length.slices:
            labelled = with_few_slices(
                labelled, cell.length.slices, cell.data.classes, cell.preprocessing.plane
            )
        fit = Fit(cell, labelled, of(cell.data.training), place, Path(folder))
        start, pretraining = pretrained(fit)
        labeller, made = fitted(fit, start)
        scores = {
            subject: _scores(labeller, by_subject[subject], cell.data.classes)
            for subject in cell.data.part(cell.part)
        }
    return {
        "format": FORMAT,
        "hash": cell.hash,
        **cell.key,
        "subjects": list(cell.subjects),
        "mean_dice": _rounded(mean_of(score["mean_dice"] for score in scores.values())),
        "scores": scores,
        "seconds": {"finetuning": round(made["seconds"], 2), "pretraining": round(pretraining, 2)},
        **{key: made[key] for key in ("device", "threads", "versions")},
    }


def _environment(fit: Fit) -> dict[str, Any]:
    """Device, threads and versions of a fit, for its record."""
    place = fit.place
    return {
        "device": place.device if place.device != "cpu" else platform.machine(),
        "threads": place.threads,
        "versions": {name: version(name) for name in _packages(fit.cell)},
    }


def _packages(cell: Cell) -> tuple[str, ...]:
    return PACKAGES + PEER_PACKAGES.get(cell.arm.method, ())


@cache
def _pairs(folder: Path, classes: tuple[int, ...], left_out: tuple[int, ...]) -> list[LabelledScan]:
    pairs = core.pair_scans(folder / "images", folder / "labels")
    if not left_out:
        return pairs
    values = {value: value for value in classes} | dict.fromkeys(left_out, 0)
    return [replace(pair, values=values) for pair in pairs]


def pretrained(fit: Fit) -> tuple[Path | None, float]:
    """Return the run folder of the last stage of the pretraining, if any, and the total seconds.

    Each stage is run once for all cells that start from it.
    """
    cell, place = fit.cell, fit.place
    before: Path | None = None
    total = 0.0
    for name, (task, settings) in zip(cell.stage_hashes(), cell.pretraining(), strict=True):
        run = place.pretrained(name)
        make = partial(
            core.pretrain,
            [pair.scan for pair in fit.pool],
            task,
            init=before,
            out=run,
            settings=settings,
            device=place.device,
            threads=place.threads,
            overwrite=True,
        )
        about = {"dataset": cell.data.name, "task": task.kind, **_environment(fit)}
        total += make_once(run, make, **about)["seconds"]
        before = run
    return before, total


def fitted(fit: Fit, start: Path | None) -> tuple[Labeller, dict[str, Any]]:
    """Fit the arm of a cell; return its labeller, and the record of the fit."""
    if fit.cell.arm.method == "core":
        return _finetuned(fit, start)
    peers: dict[str, Callable[[Fit], Labeller]] = {
        "random-forest": lambda fit: _labeller(_forest(fit)),
        "monai-loop": lambda fit: _labeller(_monai(fit)),
        "nnunet": _nnunet,
    }
    begin = time.perf_counter()
    labeller = peers[fit.cell.arm.method](fit)
    return labeller, {**_environment(fit), "seconds": time.perf_counter() - begin}


def _labeller(segmenter: Segmenter, **options: Any) -> Labeller:
    return lambda scan: core.predict(segmenter, scan, probabilities=False, **options)


def _finetuned(fit: Fit, start: Path | None) -> tuple[Labeller, dict[str, Any]]:
    """Fine-tune once for all cells that share the fit and differ only in the prediction."""
    cell, place = fit.cell, fit.place
    run = place.finetuned(cell.fit_hash)
    make = partial(
        core.finetune,
        fit.labelled,
        init=start or "scratch",
        out=run,
        settings=cell.finetuning(),
        unlabelled=[pair.scan for pair in fit.pool] if cell.unlabelled else (),
        device=place.device,
        threads=place.threads,
        overwrite=True,
    )
    made = make_once(run, make, dataset=cell.data.name, arm=cell.arm.name, **_environment(fit))
    return _labeller(core.load_segmenter(run, place.device), **cell.predicting()), made


def _forest(fit: Fit) -> Segmenter:
    # Needs scikit-learn, unlike the other methods.
    from efficiency.peers_forest import fit_forest

    cell = fit.cell
    return fit_forest(
        fit.labelled,
        cell.data.preprocessing,
        cell.data.classes,
        seed=cell.finetuning().training.seed,
        threads=fit.place.threads,
        **cell.arm.options,
    )


def _monai(fit: Fit) -> Segmenter:
    from efficiency.peers_monai import fit_monai

    cell = fit.cell
    return fit_monai(
        fit.labelled,
        cell.data.preprocessing,
        cell.data.classes,
        network=cell.network,
        steps=cell.length.steps,
        seed=cell.finetuning().training.seed,
        device=fit.place.device,
        **cell.arm.options,
    )


def _nnunet(fit: Fit) -> Labeller:
    # Needs nnunetv2; uses neither the network nor the slices of the cell.
    from efficiency.peers_nnunet import fit_nnunet

    cell = fit.cell
    return fit_nnunet(
        fit.labelled,
        cell.data.classes,
        steps=cell.length.steps,
        seed=cell.finetuning().training.seed,
        threads=fit.place.threads,
        device=fit.place.device,
        folder=fit.folder,
        **cell.arm.options,
    )


def _scores(
    labeller: Labeller, pairs: list[LabelledScan], classes: tuple[int, ...]
) -> dict[str, Any]:
    """Means over the scans of one subject per class, and the mean Dice over classes."""
    found: list[VolumeScores] = []
    for pair in pairs:
        scan, truth = pair.load()
        found.append(core.evaluate(labeller(scan), truth, classes=classes))
    each = {c: [volume.classes[c] for volume in found] for c in classes}
    dice = {str(c): mean_of(s.dice for s in scores) for c, scores in each.items()}
    hd95 = {str(c): mean_of(s.hd95_mm for s in scores) for c, scores in each.items()}
    undefined = sum(s.hd95_undefined for scores in each.values() for s in scores)
    return {
        "dice": {c: _rounded(value) for c, value in dice.items()},
        "mean_dice": _rounded(mean_of(dice.values())),
        "hd95_mm": {c: _rounded(value) for c, value in hd95.items()},
        "hd95_undefined": undefined,
    }


def _rounded(value: float | None) -> float | None:
    """Round to five decimals, enough for all tables."""
    return None if value is None else float(np.round(value, 5))
