"""The window is killed during painting and training; at most the last seconds are lost."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from napari_sslseg.core.common.events import Step
from napari_sslseg.core.demo.phantom.patient import make_patient
from napari_sslseg.core.project.project import Project
from napari_sslseg.gui.model.run_lines import run_lines
from napari_sslseg.gui.model.session import Session
from paths import HELPERS
from small_scans import write_small_scans

PROCESS = HELPERS / "gui_process.py"
SAFE_SECONDS = 2.0
pytestmark = pytest.mark.skipif(
    not os.environ.get("DISPLAY") or not hasattr(signal, "SIGKILL"),
    reason="no screen to open a napari window on, or no way to kill it",
)


@pytest.fixture
def folder(tmp_path):
    """A project with two scans that have slices marked as done, and a third to paint on."""
    with Project.create(tmp_path / "project") as project:
        project.add_scans(write_small_scans(tmp_path / "scans", 3))
        project.add_class("liver")
        project.add_class("spleen")
        for seed, name in enumerate(project.names[:2]):
            _, truth = make_patient(seed, "MR", (12, 48, 48), (16.0, 7.5, 7.5))
            project.save_labels(name, np.where(truth.data <= 2, truth.data, 0).astype(np.uint8))
            project.mark_done(name, [4, 6])
        project.remember("scan", project.names[2])
    return tmp_path / "project"


class Window:
    """A running program, and the lines that it printed."""

    def __init__(self, folder, what):
        self.folder = folder
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "XDG_CONFIG_HOME": str(folder.parent / "config"),
            "XDG_DATA_HOME": str(folder.parent / "data"),
        }
        self.errors = (folder.parent / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", PROCESS, folder, what],
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        self.reports, self._changed = [], threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            if not line.startswith("{"):  # napari prints notes.
                continue
            with self._changed:
                self.reports.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def count(self, what):
        return sum(what in item for item in self.reports)

    def wait(self, what, count, seconds=180):
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: self.count(what) >= count or self.process.poll() is not None, seconds
            )
        self.errors.seek(0)
        assert arrived, (self.reports[-3:], self.errors.read())
        assert self.count(what) >= count, self.errors.read()

    def kill(self, after=0.0):
        """Kill the program after some seconds; returns the time."""
        time.sleep(after)
        self.process.send_signal(signal.SIGKILL)
        moment = time.time()
        self.process.wait(30)
        self._reader.join(30)
        self.errors.close()
        return moment


def check_strokes(project, reports, moment):
    """Check that the file contains all strokes made early enough, and no others."""
    labels = project.labels(project.names[2]).data
    possible, sure = {}, 0
    for item in reports:
        if "stroke" not in item:
            continue
        voxel = tuple(item["stroke"])
        if item["at"] < moment - SAFE_SECONDS:
            possible[voxel] = {item["value"]}
            sure += 1
        else:  # It may or may not be saved.
            possible.setdefault(voxel, {0}).add(item["value"])
    wrong = {voxel: labels[voxel] for voxel in possible if labels[voxel] not in possible[voxel]}
    assert not wrong
    # One more may have been made but not reported.
    assert len(set(zip(*map(list, np.nonzero(labels)), strict=True)) - set(possible)) <= 1
    return sure


def check_project(folder, reports, moment):
    """Open the project as a new window does; returns the number of strokes that must be saved."""
    leftovers = list((folder / "labels").glob(".*"))
    with Project.open(folder) as project:
        assert project.problems() == {}
        sure = check_strokes(project, reports, moment)
        labels = {name: project.labels(name).data for name in project.names}
        name = project.names[2]
        for index in project.done(name):
            assert labels[name][index].any(), "marked as done, but not saved"
        for run in project.runs():
            assert run.problem is None
    assert not [path for path in folder.rglob(".*") if path in leftovers]
    return sure


def trial(folder, what, strokes, after=0.0):
    window = Window(folder, what)
    try:
        window.wait("stroke", strokes)
    finally:
        moment = window.kill(after)
    assert not window.count("problem"), window.reports
    return check_project(folder, window.reports, moment), window


def test_strokes_are_saved_after_a_kill_while_painting(folder):
    sure, _ = trial(folder, "paint", 30)
    assert sure > 5


def resume_in_a_session(folder, run):
    """Resume a run with the model of the window; returns its first step and its outcome."""
    session, problems, outcomes = Session(), [], []
    session.problem.connect(lambda problem: problems.append(problem.sentence))
    session.job_ended.connect(lambda job, outcome: outcomes.append(outcome))
    assert session.open(folder)
    job = session.resume(run)
    end = time.monotonic() + 120
    stopped = False
    steps = []
    session.job_events.connect(
        lambda _, events: steps.extend(e.step for e in events if isinstance(e, Step))
    )
    while session.training is not None:
        assert time.monotonic() < end
        if steps and not stopped:
            job.stop()
            stopped = True
        session.pump()
        time.sleep(0.01)
    session.close()
    assert problems == []
    return steps[0], outcomes[-1]


@pytest.mark.parametrize("what", [pytest.param("pretrain", marks=pytest.mark.slow), "finetune"])
def test_a_killed_training_can_be_resumed(folder, what):
    window = Window(folder, what)
    try:
        window.wait("step", 12)
    finally:
        moment = window.kill()
    assert not window.count("problem"), window.reports
    check_project(folder, window.reports, moment)
    run = f"{what}-001"
    with Project.open(folder) as project:
        (line,) = run_lines(project.runs(), what)
        assert (line.name, line.resumable) == (run, True)
        assert "interrupted" in line.text
    step, outcome = resume_in_a_session(folder, run)
    assert outcome.stopped
    assert outcome.problem is None
    assert step >= 1


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_strokes_are_saved_whenever_the_program_is_killed(folder, number):
    rng = random.Random(number)
    what = ("paint", "pretrain", "finetune")[number % 3]
    trial(folder, what, rng.randrange(2, 60), rng.uniform(0, 0.4))
