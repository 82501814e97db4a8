"""All stages from scans to scores, as a comparison of three ways to use scans without labels.

Pretrain on all images without their labels; then fine-tune from scratch, from the pretrained
encoder, and from scratch with the unlabelled slices in addition to the labelled ones. All three
have the same labels, steps and seeds. Predict held-out subjects and report.
"""

import json
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_sslseg.core.common.atomic import atomic_path, write_text
from napari_sslseg.core.common.errors import StorageError
from napari_sslseg.core.common.events import Done, Event, Message, Progress, StopFlag
from napari_sslseg.core.common.safe_json import read_json
from napari_sslseg.core.common.text import count_phrase
from napari_sslseg.core.demo.comparison import arm_report, caution, compare_arms
from napari_sslseg.core.demo.demo_scans import (
    DemoScans,
    prediction_file,
    refuse_other_predictions,
    write_phantoms,
)
from napari_sslseg.core.demo.overlays import DrawnSlice, PredictedScan, draw_slices, ranked
from napari_sslseg.core.demo.plan import FULL, DemoPlan, demo_preprocessing, describe_length
from napari_sslseg.core.demo.report import draw_report
from napari_sslseg.core.results.evaluate import evaluate, summarize
from napari_sslseg.core.results.predict import Prediction, Segmenter, load_segmenter, predict
from napari_sslseg.core.results.prediction.journal import PredictionJournal, staging_folder
from napari_sslseg.core.results.prediction.write_prediction import write_prediction
from napari_sslseg.core.results.scores import Evaluation
from napari_sslseg.core.runs.provenance import file_hash
from napari_sslseg.core.runs.record import MOST_RECORD
from napari_sslseg.core.runs.run import Run
from napari_sslseg.core.runs.run_files import HARMLESS
from napari_sslseg.core.samples.build import sample_size
from napari_sslseg.core.samples.store import scan_hash
from napari_sslseg.core.scans.labelled import LabelledScan, scan_subject
from napari_sslseg.core.scans.matching.patients import (
    Patients,
    describe_patients,
)
from napari_sslseg.core.scans.names import check_folder_name
from napari_sslseg.core.settings.networks import named_network
from napari_sslseg.core.settings.self_training import self_trained
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.stages.finetune import iter_finetune
from napari_sslseg.core.stages.pretrain import iter_pretrain

ARMS = ("scratch", "pretrained", "self-trained")
MARKER = "demo.json"
"""File in the folder of a demonstration, written before all others."""

REPORT = "report.json"
PREDICTIONS = Path("predictions") / ARMS[-1]
"""Folder of predictions, which says how the network was trained."""


def iter_demo(
    data: str | Path | None = None,
    *,
    out: str | Path,
    plan: DemoPlan = FULL,
    seed: int = 0,
    patients: Patients | None = None,
    device: str = "auto",
    stop: StopFlag | None = None,
) -> Iterator[Event]:
    """Run all stages on a folder of scans, or on procedural phantoms.

    Parameters
    ----------
    data : path-like, optional
        Folder with ``images/`` and ``labels/``, and ``classes.json`` with names of the classes if
        there are any. Pretraining and self-training also use images without labels. If not given,
        phantom MR patients are made.
    out : path-like
        Output folder for ``report.json``, ``report.png``, ``predictions/``, and the runs in
        ``runs/``.
    plan : DemoPlan
        Size and length.
    seed : int
        Seed of the split, the choice of labelled volumes and the trainings.
    patients : path-like, mapping or callable, optional
        The patients of the scans, see
        :func:`~napari_sslseg.core.scans.matching.patients.with_patients`; by default they are
        guessed from the names, or known by DICOM headers.
    device, stop
        As in :func:`~napari_sslseg.core.stages.pretrain.iter_pretrain`.

    Yields
    ------
    Event
        Those of each stage; last Done with the report (None if stopped early).

    Raises
    ------
    DataError
        If there are labelled scans of fewer than 3 subjects.
    StorageError
        If ``out`` has other files than those of a demonstration, predictions of other scans or
        classes, or predictions that were changed since.

    Notes
    -----
    Pretraining and self-training use the images of the test subjects too, never their labels, as
    is possible for a clinician who has all scans at hand. Splits are by subject.
    """
    out = Path(out)
    check_folder_name(out)
    _refuse_other_files(out)
    clock = _Clock()
    if data is None:
        _mark(out)
        data = yield from write_phantoms(out, plan, seed)
        clock.lap("phantom")
    scans = DemoScans.read(Path(data), plan, seed, patients)
    refuse_other_predictions(out / PREDICTIONS, scans)
    _mark(out)
    yield Message(describe_patients(scans.images))
    held_out = len({scan_subject(item) for item in scans.test})
    patients_with_labels = held_out + len({scan_subject(item) for item in scans.pool})
    yield Message(
        f"{len(scans.images)} scans; {held_out} of {patients_with_labels} patients with labels are "
        f"held out for the test ({count_phrase(len(scans.test), 'scan')}), labels for fine-tuning "
        f"are drawn from {len(scans.pool)} other scans."
    )
    demo = _Demo(scans, out, plan, seed, device, stop, clock)
    pretrained = yield from demo.pretrain()
    if pretrained is None:
        yield Done(None, stopped=True)
        return
    for repeat in range(plan.repeats):
        for labelled in demo.draw(repeat):
            for arm in ARMS:
                run = yield from demo.finetune(arm, labelled, repeat, pretrained)
                if run is None:
                    yield Done(None, stopped=True)
                    return
                yield from demo.test(run, arm, labelled, repeat)
    yield Done(demo.report(pretrained))


def _mark(out: Path) -> None:
    """Mark a folder as that of a demonstration, whose files a later one may replace."""
    write_text(out / MARKER, json.dumps({"demonstration": 1}))


def _refuse_other_files(out: Path) -> None:
    """Refuse a folder with files of the user, since the demonstration would replace some."""
    if not out.is_dir() or all(path.name in HARMLESS for path in out.iterdir()):
        return
    for name, key in ((MARKER, "demonstration"), (REPORT, "arms")):
        try:
            found = read_json(out / name, MOST_RECORD)
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and key in found:
            return
    raise StorageError(
        f"{out} is not empty and is not the folder of a demonstration; choose a new or an empty "
        "folder."
    )


@dataclass
class _Demo:
    """The stages of a demonstration, and what they collect for the report."""

    scans: DemoScans
    out: Path
    plan: DemoPlan
    seed: int
    device: str
    stop: StopFlag | None
    clock: "_Clock"
    arms: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    predicted: list[PredictedScan] = field(default_factory=list)

    def __post_init__(self) -> None:
        preprocessing = demo_preprocessing(self.scans.images)
        self.size = sample_size(self.scans.images, preprocessing)
        self.settings = PretrainSettings(
            preprocessing=preprocessing,
            network=named_network(self.plan.network),
            training=self.plan.training(self.size, self.plan.pretrain_megapixels, self.seed),
        )

    def pretrain(self) -> Generator[Event, None, Run | None]:
        """Pretrain on all images; None if stopped."""
        job = iter_pretrain(
            self.scans.images,
            out=self.out / "runs" / "pretrain",
            settings=self.settings,
            device=self.device,
            stop=self.stop,
            overwrite=True,
        )
        return (yield from self._run_stage(job, "Pretraining", "pretrain"))

    def draw(self, repeat: int) -> list[list[LabelledScan]]:
        """Draw the labelled scans of a repeat, for each number in the plan."""
        pool = self.scans.pool
        order = np.random.default_rng([self.seed, repeat]).permutation(len(pool))
        return [[pool[i] for i in order[:count]] for count in self._counts()]

    def finetune(
        self, arm: str, labelled: list[LabelledScan], repeat: int, pretrained: Run
    ) -> Generator[Event, None, Run | None]:
        """Fine-tune on labelled scans; None if stopped."""
        seed = self.seed + repeat
        job = iter_finetune(
            labelled,
            init=pretrained if arm == "pretrained" else "scratch",
            unlabelled=self.scans.images if arm == "self-trained" else (),
            out=self.out / "runs" / f"{arm}-{len(labelled)}-seed{seed}",
            settings=FinetuneSettings(
                training=self._finetuning(seed), classes=self.scans.classes, **self._arm(arm)
            ),
            device=self.device,
            stop=self.stop,
            overwrite=True,
        )
        title = f"Fine-tuning, {arm}, {len(labelled)} labelled"
        return (yield from self._run_stage(job, title, "finetune"))

    def test(
        self, run: Run, arm: str, labelled: list[LabelledScan], repeat: int
    ) -> Iterator[Event]:
        """Predict and score the test scans, and keep the result for the report.

        The report shows predictions of the first repeat with the most labelled scans; those of
        the last arm are saved as files.
        """
        is_shown = repeat == 0 and len(labelled) == max(self._counts())
        folder = self.out / PREDICTIONS if is_shown and arm == ARMS[-1] else None
        scores = yield from self._predict(run, arm, is_shown, folder)
        self.clock.lap("predict")
        names = [item.name for item in labelled]
        self.arms.append(arm_report(arm, names, self.seed + repeat, scores))
        losses = [row["loss"] for row in run.metrics() if "loss" in row]
        self.curves.setdefault(f"{arm}, {len(labelled)} labelled", []).append(losses)

    def report(self, pretrained: Run) -> dict[str, Any]:
        """Write the report as a picture and as JSON, and return it."""
        scans = self.scans
        unlabelled = {"volumes": len(scans.images), "includes_images_of_test_subjects": True}
        test_patients = sorted({scan_subject(item) for item in scans.test})
        report = {
            "dataset": {
                "name": "phantom" if scans.folder.parent == self.out else scans.folder.name,
                "volumes": len(scans.images),
                "patients": len({scan_subject(item) for item in scans.images}),
                "labelled_pool": len(scans.pool),
                "classes": list(scans.classes),
                "class_names": {str(value): name for value, name in scans.names.items()},
            },
            "arms": self.arms,
            "test_volumes": [item.name for item in scans.test],
            "test_patients": test_patients,
            "comparison": compare_arms(self.arms),
            "length": describe_length(self.plan, self.size),
            "caution": caution(len(test_patients), self.plan.repeats),
            "predictions": {"folder": PREDICTIONS.as_posix(), "arm": ARMS[-1]},
            "pretraining": {
                **unlabelled,
                "steps": self.settings.training.steps,
                "task": dict(pretrained.record["task"]),
            },
            "self_training": unlabelled,
            "finetuning": self._finetuning(self.seed).model_dump(mode="json"),
            "device": pretrained.record["device"],
            "seed": self.seed,
            "seconds": self.clock.seconds(),
        }
        figure = draw_report(report, pretrained.metrics(), self.curves, self._slices())
        with atomic_path(self.out / "report.png") as temporary:
            figure.savefig(temporary, dpi=110)
        report["seconds"] = self.clock.seconds()
        write_text(self.out / REPORT, json.dumps(report, indent=1, allow_nan=False))
        return report

    def _slices(self) -> list[DrawnSlice]:
        """The worst and the best slice of three test scans."""
        preprocessing = self.settings.preprocessing
        assert preprocessing is not None
        return [
            drawn
            for rank, scan in ranked(self.predicted, ARMS[-1])
            for drawn in draw_slices(
                scan, rank, ARMS[-1], self.scans.classes, preprocessing.plane,
                preprocessing.modality,
            )
        ]  # fmt: skip

    def _run_stage(
        self, job: Iterator[Event], title: str, lap: str
    ) -> Generator[Event, None, Run | None]:
        """Pass on the events of a job; return its run, or None if it was stopped."""
        yield Message(f"{title} …")
        run = None
        for event in job:
            if isinstance(event, Done):
                run = event.result
            else:
                yield event
        if self.stop is not None and self.stop.is_set:
            return None
        self.clock.lap(lap)
        return run

    def _counts(self) -> list[int]:
        """Numbers of labelled volumes, at most as many as there are."""
        return sorted({min(count, len(self.scans.pool)) for count in self.plan.labelled})

    def _finetuning(self, seed: int) -> Training:
        return self.plan.training(self.size, self.plan.finetune_megapixels, seed)

    def _arm(self, arm: str) -> dict[str, Any]:
        """Settings of the fine-tuning that depend on the arm."""
        if arm == "pretrained":
            return {}  # network and preprocessing are those of the pretraining run
        same = {
            "network": self.settings.network,
            "preprocessing": self.settings.preprocessing,
        }
        return same | self_trained() if arm == "self-trained" else same

    def _predict(
        self, run: Run, arm: str, is_shown: bool, folder: Path | None
    ) -> Generator[Event, None, Evaluation]:
        """Predict and score all test scans; keep slices to draw and files if asked for."""
        segmenter = load_segmenter(run, self.device)
        scores = []
        with ExitStack() as stack:
            writer = None if folder is None else _Writer(folder, run, segmenter, stack)
            for number, item in enumerate(self.scans.test):
                scan, truth = item.load(segmenter.preprocessing.modality)
                prediction = predict(segmenter, scan, probabilities=False)
                score = evaluate(prediction, truth, classes=segmenter.classes)
                scores.append(score)
                if writer is not None:
                    writer.write(prediction)
                if is_shown:
                    if arm == ARMS[0]:
                        self.predicted.append(PredictedScan(item))
                    self.predicted[number].add(arm, prediction.labels, score.mean_dice)
                yield Progress("Predicting test scans", number + 1, len(self.scans.test))
        return summarize(scores)


class _Writer:
    """Writes predictions, with a journal by which the next demonstration recognises them."""

    def __init__(self, folder: Path, run: Run, segmenter: Segmenter, stack: ExitStack) -> None:
        self._folder, self._segmenter = folder, segmenter
        self._journal = PredictionJournal(folder, {"weights": file_hash(run.weights)})
        self._staging = staging_folder(folder)
        stack.callback(self._staging.remove)

    def write(self, prediction: Prediction) -> None:
        """Write a prediction; one of the same scan is replaced."""
        target = prediction_file(self._folder, prediction.volume.name)
        write_prediction(
            prediction,
            target,
            self._journal,
            self._staging,
            stamp=scan_hash(prediction.volume),
            names=self._segmenter.class_names,
            values=self._segmenter.classes,
            files=[target],
            overwrite=True,
        )


class _Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Add the time since the last call to a stage."""
        now = time.perf_counter()
        self._laps[stage] = self._laps.get(stage, 0.0) + now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, and their total up to now."""
        total = time.perf_counter() - self._start
        return {name: round(value, 1) for name, value in (self._laps | {"total": total}).items()}
