"""Draw docs/images/panel-*.png: the window with each of its steps, in both themes.

Uses phantom patients only. Run by `make screenshots`, which opens the window on a virtual screen.
Adds scans, pretrains, labels, trains and predicts, as a user would.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import nibabel as nib
import numpy as np
from napari._qt.dialogs.qt_notification import NapariQtNotification
from PIL import Image
from qtpy.QtWidgets import QApplication, QWidget

from napari_sslseg.core.common.events import Event, Step
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.jobs import Job
from napari_sslseg.gui.widget import FewShotWidget

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZE = (1366, 768)
THEMES = ("dark", "light")
PATIENTS, HELD_OUT = 6, 5
SHAPE, SPACING = (20, 128, 128), (9.0, 2.8, 2.8)
ORGANS = {1: "liver", 4: "spleen"}
LABELLED = {0: (6, 7, 10), 1: (7, 10), 2: (7, 9, 11), 3: (8, 10)}
"""Slices marked as done, by the number of the patient."""
HERE, UNDONE, EMPTY = 10, 8, 17
PRETRAIN_STEPS, TRAIN_STEPS, BATCH, RATE = 160, 240, 8, 3e-3
LONGEST = 120.0
MOST_BYTES = 250_000


class Sitting:
    """A window with a project, and the actions of a user.

    Parameters
    ----------
    folder : Path
        Folder for the scans and the project.
    images : Path
        Folder for the pictures.
    size : tuple of int
        Width and height of the window in pixels.
    """

    def __init__(self, folder: Path, images: Path, size: tuple[int, int] = SIZE) -> None:
        self.images = images
        images.mkdir(parents=True, exist_ok=True)
        self.truths = write_scans(folder / "hospital")
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*size)
        _, self.widget = self.viewer.window.add_plugin_dock_widget(
            "napari-sslseg", "Few-shot segmentation"
        )
        assert isinstance(self.widget, FewShotWidget)
        self.session, self.scene = self.widget.session, self.widget.scene
        self.step = 0
        self.session.job_events.connect(self._count)
        self.session.create(folder / "Abdomen")
        self.session.add([folder / "hospital"])
        self.until(self.is_idle)
        self.until(lambda: self.scene.image is not None)

    @property
    def project(self) -> Project:
        """The project that is open."""
        assert self.session.project is not None
        return self.session.project

    def _count(self, job: Job, events: list[Event]) -> None:
        steps = [event.step for event in events if isinstance(event, Step)]
        self.step = steps[-1] if steps else self.step

    def part(self, name: str) -> Any:
        """Find a control of the current step by its name."""
        (found,) = self.widget.stack.currentWidget().findChildren(QWidget, name)
        return found

    def train_until(self, start: str, step: int) -> None:
        """Press the button that starts a training, and wait for a step."""
        self.step = 0
        self.part(start).click()
        self.until(lambda: self.step >= step)

    def is_idle(self) -> bool:
        """Whether no job is running."""
        return not self.session.jobs

    def until(self, condition: Callable[[], bool]) -> None:
        """Process events until a condition is true."""
        end = time.monotonic() + LONGEST
        while not condition():
            QApplication.processEvents()
            time.sleep(0.005)
            if time.monotonic() > end:
                raise TimeoutError(f"The window was not ready after {LONGEST:g} seconds.")

    def wait_until_drawn(self, seconds: float = 0.6) -> None:
        """Wait until the window is drawn."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def picture(self, name: str) -> None:
        """Write a picture of the window in each theme."""
        for theme in THEMES:
            self.viewer.theme = theme
            self.wait_until_drawn()
            shot = self.viewer.window.screenshot(flash=False, canvas_only=False)
            path = self.images / f"panel-{name}-{theme}.png"
            small = Image.fromarray(shot).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
            small.save(path, optimize=True)
            if self.images == IMAGES and path.stat().st_size > MOST_BYTES:
                raise ValueError(f"{path.name} is larger than {MOST_BYTES} bytes.")
            print(path.name, f"{path.stat().st_size // 1024} KiB")

    def show(self, name: str) -> None:
        """Show a scan."""
        self.session.select(name)
        self.until(lambda: self.session.current == name and self.is_idle())

    def scans(self) -> None:
        """Step 1: scans, one of them held out, and a file that cannot be read."""
        panel = self.widget.panels["Scans"]
        self.session.set_role(self.project.names[HELD_OUT], "test")
        panel.left_out_toggle.setChecked(True)
        self.until(self.is_idle)
        self.hush()
        self.picture("scans")

    def pretrain(self) -> None:
        """Step 2: preview of the pretraining, and its progress."""
        self.widget.show_step("Pretrain")
        panel = self.widget.panels["Pretrain"]
        self.scene.go_to(HERE)
        form = panel.form
        form.network.setCurrentIndex(form.network.findData("tiny"))
        form.steps.setValue(PRETRAIN_STEPS)
        form.batch.setValue(BATCH)
        self.until(lambda: panel.strip.isVisible() and not panel.previews.busy)
        self.wait_until_drawn()
        self.until(lambda: not panel.previews.busy and not panel.estimates.busy)
        self.picture("pretrain")
        self.train_until("start", PRETRAIN_STEPS // 2)
        self.picture("pretrain-running")
        self.until(self.is_idle)

    def label(self) -> None:
        """Step 3: slices marked as done, one that is painted, one that is empty."""
        project = self.project
        for name in ORGANS.values():
            project.add_class(name)
        values = {old: new for new, old in enumerate(ORGANS, start=1)}
        self.session.classes_changed.emit()
        for number, slices in LABELLED.items():
            name = project.names[number]
            truth = self.truths[name]
            drawn = np.zeros(truth.shape, np.uint8)
            for old, new in values.items():
                for index in (*slices, UNDONE) if number == 0 else slices:
                    drawn[index][truth[index] == old] = new
            if number == 0:
                self.widget.show_step("Label")
                self.show(name)
                assert self.scene.labels is not None
                where = np.nonzero(drawn)
                self.scene.labels.data_setitem(where, drawn[where])
                self.scene.autosaver.mark([*slices, EMPTY])
                self.until(lambda: self.scene.autosaver.status == "saved")
            else:
                project.save_labels(name, drawn)
                self.session.mark_done(name, slices)
        assert self.scene.labels is not None
        self.scene.labels.mode = "paint"
        self.scene.go_to(HERE)
        self.hush()
        self.picture("label")

    def train(self) -> None:
        """Step 4: the curves, and the Dice of a held-out patient."""
        self.scene.labels.mode = "pan_zoom"
        self.widget.show_step("Train")
        for name, value in (("steps", TRAIN_STEPS), ("batch", BATCH), ("rate", RATE)):
            self.part(f"train-{name}").setValue(value)
        self.wait_until_drawn(0.4)
        self.until(self.is_idle)
        self.picture("train")
        self.train_until("start", TRAIN_STEPS * 3 // 4)
        self.picture("train-running")
        self.until(self.is_idle)

    def inspect(self) -> None:
        """Step 5: a prediction, its errors, and the scores."""
        self.widget.show_step("Inspect")
        panel = self.widget.panels["Inspect"]
        panel.all.click()
        self.until(self.is_idle)
        for name, shown in (("contour", True), ("errors", True), ("mine", False)):
            panel.show_box.boxes[name].setChecked(shown)
        self.scene.go_to(HERE)
        self.hush()
        self.picture("inspect")

    def hush(self) -> None:
        """Close notifications."""
        self.wait_until_drawn(0.3)
        for shown in self.viewer.window._qt_window.findChildren(NapariQtNotification):
            shown.close()

    def end(self) -> None:
        """Close the window."""
        self.until(self.is_idle)
        self.viewer.close()


def write_scans(folder: Path) -> dict[str, np.ndarray]:
    """Write phantom patients and a file that cannot be read; return the true labels."""
    folder.mkdir()
    truths = {}
    for seed in range(PATIENTS):
        scan, truth = make_patient(seed, "MR", SHAPE, SPACING)
        source = np.ascontiguousarray(scan.geometry.to_source(scan.data))
        name = f"liver_{seed + 11:02d}"
        nib.save(nib.Nifti1Image(source, scan.geometry.affine), folder / f"{name}.nii.gz")
        truths[name] = truth.data
    whole = (folder / f"{name}.nii.gz").read_bytes()
    (folder / "liver_17.nii.gz").write_bytes(whole[: len(whole) // 3])
    return truths


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=IMAGES, help="folder for the pictures"
    )
    parser.add_argument(
        "--size", default="{}x{}".format(*SIZE), help="width x height of the window in pixels"
    )
    options = parser.parse_args()
    images = options.folder
    width, height = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        sitting = Sitting(Path(folder), images, (width, height))
        sitting.scans()
        sitting.pretrain()
        sitting.label()
        sitting.train()
        sitting.inspect()
        sitting.end()


if __name__ == "__main__":
    main()
