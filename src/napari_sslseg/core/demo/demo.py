"""The main job from end to end, as a comparison: what are scans without labels worth here?

Pretrain on all images without their labels; fine-tune from scratch, from the pretrained encoder,
and from scratch with the unlabelled slices beside the labelled ones, each with the same labels,
steps and seeds; predict held-out subjects; report.
"""

import json
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path, write_text
from napari_sslseg.core.common.errors import DataError
from napari_sslseg.core.common.events import Done, Event, Message, Progress, StopFlag
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.demo.plan import FULL, Plan, demo_preprocessing
from napari_sslseg.core.demo.report import Overlay, best_slice, draw_report
from napari_sslseg.core.results.evaluate import evaluate, summarize
from napari_sslseg.core.results.predict import load_segmenter, predict
from napari_sslseg.core.results.scores import Evaluation
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.samples.build import sample_size
from napari_sslseg.core.scans.find import find_scans
from napari_sslseg.core.scans.labelled import (
    LabelledScan,
    find_classes,
    pair_scans,
    read_class_names,
    scan_subject,
)
from napari_sslseg.core.scans.labels import save_labels
from napari_sslseg.core.settings.networks import Network
from napari_sslseg.core.settings.self_training import self_trained
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.stages.finetune import iter_finetune
from napari_sslseg.core.stages.pretrain import iter_pretrain
from napari_sslseg.core.stages.split import hold_out

ARMS = ("scratch", "pretrained", "self-trained")


def iter_demo(
    data: str | Path | None = None,
    *,
    out: str | Path,
    plan: Plan = FULL,
    seed: int = 0,
    device: str = "auto",
    stop: StopFlag | None = None,
) -> Iterator[Event]:
    """Run the main job on a folder of scans, or on procedural phantoms.

    Parameters
    ----------
    data : path-like, optional
        Folder with ``images/`` and ``labels/``, and ``classes.json`` with names of the classes if
        there are any. Images without labels are learnt from all the same, by the pretraining and
        the self-training. Phantom MR patients are made if not given.
    out : path-like
        Gets ``report.json``, ``report.png``, ``predictions/``, and the runs in ``runs/``.
    plan : Plan
        Sizes and lengths.
    seed : int
        Decides the split, the labelled volumes and the trainings.
    device, stop
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`.

    Yields
    ------
    Event
        Those of each stage; last Done with the report (None if stopped early).

    Notes
    -----
    Pretraining and self-training see the images of the test subjects too, never their labels, as
    they do when a clinician has all scans at hand. Splits are by subject.
    """
    out = Path(out)
    clock = _Clock()
    if data is None:
        # A folder of its own for each set, since files of another set would be taken for its own.
        data = out / f"phantom-{plan.patients}-seed{seed}"
        for number in range(plan.patients):
            write_dataset(data, 1, "MR", seed=seed + number)
            yield Progress("Making phantom patients", number + 1, plan.patients)
        clock.lap("phantom")
    data = Path(data)
    images = find_scans(data / "images")
    pairs = pair_scans(data / "images", data / "labels", every_image=False)
    names = read_class_names(data / "classes.json")
    # Those of all labels, so that every arm learns and is scored on the same classes.
    classes = find_classes(pairs, "axial")
    test, pool = _split(pairs, plan, seed)
    yield Message(
        f"{len(images)} scans; {len(test)} are held out for the test, labels for fine-tuning are "
        f"drawn from {len(pool)} others."
    )

    preprocessing = demo_preprocessing(images, plan)
    size = sample_size(images, preprocessing)
    settings = PretrainSettings(
        preprocessing=preprocessing,
        network=Network.preset(plan.network),
        training=plan.training(size, plan.pretrain_megapixels, seed),
    )
    runs = out / "runs"
    pretrained = yield from _stage(
        iter_pretrain(
            images,
            out=runs / "pretrain",
            settings=settings,
            device=device,
            stop=stop,
            overwrite=True,
        ),
        "Pretraining",
    )
    if pretrained is None or (stop is not None and stop.is_set):
        yield Done(None, stopped=True)
        return
    clock.lap("pretrain")
    # From a pretraining run, network and preprocessing come with the run.
    same: dict[str, Any] = {"network": settings.network, "preprocessing": preprocessing}
    settings_of: dict[str, dict[str, Any]] = {
        "scratch": same,
        "pretrained": {},
        "self-trained": same | self_trained(),
    }
    arms: list[dict[str, Any]] = []
    curves: dict[str, list[list[float]]] = {}
    overlays: list[Overlay] = []
    for repeat in range(plan.repeats):
        order = np.random.default_rng([seed, repeat]).permutation(len(pool))
        for labelled in _feasible(plan.labelled, len(pool)):
            chosen = [pool[i] for i in order[:labelled]]
            for arm in ARMS:
                name = f"{arm}-{labelled}-seed{seed + repeat}"
                run = yield from _stage(
                    iter_finetune(
                        chosen,
                        init=pretrained if arm == "pretrained" else "scratch",
                        unlabelled=images if arm == "self-trained" else (),
                        out=runs / name,
                        settings=FinetuneSettings(
                            training=plan.training(size, plan.finetune_megapixels, seed + repeat),
                            classes=classes,
                            **settings_of[arm],
                        ),
                        device=device,
                        stop=stop,
                        overwrite=True,
                    ),
                    f"Fine-tuning, {arm}, {labelled} labelled",
                )
                if run is None or (stop is not None and stop.is_set):
                    yield Done(None, stopped=True)
                    return
                clock.lap("finetune")
                first = repeat == 0 and labelled == max(_feasible(plan.labelled, len(pool)))
                scores = yield from _test(
                    run,
                    test,
                    device,
                    overlays if first else None,
                    arm,
                    out / "predictions" if first and arm == ARMS[-1] else None,
                )
                clock.lap("predict")
                arms.append(_line(arm, chosen, seed + repeat, scores))
                curves.setdefault(f"{arm}, {labelled} labelled", []).append(
                    [row["loss"] for row in run.metrics() if "loss" in row]
                )
    report = {
        "dataset": {
            "name": "phantom" if data.parent == out else data.name,
            "volumes": len(images),
            "labelled_pool": len(pool),
            "classes": list(classes),
            "class_names": {str(value): name for value, name in names.items()},
        },
        "arms": arms,
        "test_volumes": [item.name for item in test],
        "pretraining": {
            "volumes": len(images),
            "includes_images_of_test_subjects": True,
            "steps": settings.training.steps,
            "task": dict(pretrained.record["task"]),
        },
        "self_training": {"volumes": len(images), "includes_images_of_test_subjects": True},
        "finetuning": plan.training(size, plan.finetune_megapixels, seed).model_dump(mode="json"),
        "device": pretrained.record["device"],
        "seed": seed,
        "seconds": clock.seconds(),
    }
    figure = draw_report(report, pretrained.metrics(), curves, overlays)
    with atomic_path(out / "report.png") as temporary:
        figure.savefig(temporary, dpi=110)
    report["seconds"] = clock.seconds()
    write_text(out / "report.json", json.dumps(report, indent=1, allow_nan=False))
    yield Done(report)


def _split(
    pairs: list[LabelledScan], plan: Plan, seed: int
) -> tuple[list[LabelledScan], list[LabelledScan]]:
    """Scans to test on and scans to draw labelled ones from, by subject."""
    subjects = {scan_subject(item) for item in pairs}
    if len(subjects) < 3:
        raise DataError(
            f"A comparison needs labelled scans of at least 3 subjects, but there are "
            f"{len(subjects)}; add some."
        )
    share = min(plan.test_share, plan.test_most / len(subjects))
    pool, test = hold_out(pairs, share, seed)
    return test, pool


def _feasible(wanted: tuple[int, ...], available: int) -> list[int]:
    """Numbers of labelled volumes, none larger than what there is."""
    return sorted({min(n, available) for n in wanted})


def _stage(job: Iterator[Event], title: str) -> Generator[Event, None, Any]:
    """Pass the events of a job on under a title, and return its result."""
    yield Message(f"{title} …")
    for event in job:
        if isinstance(event, Done):
            return event.result
        yield event
    return None


def _test(
    run: Run,
    test: list[LabelledScan],
    device: str,
    overlays: list[Overlay] | None,
    arm: str,
    folder: Path | None,
) -> Generator[Event, None, Evaluation]:
    """Predict and score all test scans; keep slices to draw, and files, where asked."""
    segmenter = load_segmenter(run, device)
    scores = []
    for number, item in enumerate(test):
        scan, truth = item.load(segmenter.preprocessing.modality)
        prediction = predict(segmenter, scan, probabilities=False)
        score = evaluate(prediction, truth, classes=segmenter.classes)
        scores.append(score)
        if folder is not None:
            save_labels(prediction, folder / f"{scan.name}.nii.gz")
        if overlays is not None:
            if arm == ARMS[0]:
                overlays.append(best_slice(scan, truth, segmenter.preprocessing))
            overlays[number].add(arm, prediction.labels, score.mean_dice)
        yield Progress("Predicting test scans", number + 1, len(test))
    return summarize(scores)


def _line(arm: str, chosen: list[LabelledScan], seed: int, scores: Evaluation) -> dict[str, Any]:
    """One line of the report."""
    found = scores.as_dict()
    return {
        "arm": arm,
        "labelled_volumes": len(chosen),
        "labelled": [item.name for item in chosen],
        "seed": seed,
        "dice": {name: values["dice"] for name, values in found["classes"].items()},
        "mean": found["mean_dice"],
        "hd95_mm": {name: values["hd95_mm"] for name, values in found["classes"].items()},
        "volumes": {volume["name"]: volume["mean_dice"] for volume in found["volumes"]},
    }


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        total = time.perf_counter() - self._start
        return {name: round(value, 1) for name, value in (self._laps | {"total": total}).items()}
