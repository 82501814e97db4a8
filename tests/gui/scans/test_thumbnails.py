"""Thumbnails are made after the scan that is shown, and never of a scan that is shown."""

import threading
import tracemalloc

import numpy as np
import pytest

from napari_sslseg.core.project.project import Project
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.scans.thumbnails import Thumbnails
from scene_project import until, write_project


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session with an empty project."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made = Session()
    assert made.create(tmp_path / "empty")
    until(made, lambda: not made.jobs)
    yield made
    made.close()


@pytest.fixture
def loaded(monkeypatch):
    """The scans that were read after they were added, with the thread of each."""
    found, load = [], Project.load

    def noted(project, name):
        found.append((name, threading.current_thread().name))
        return load(project, name)

    monkeypatch.setattr(Project, "load", noted)
    return found


def test_the_scan_that_is_shown_is_read_first_and_once(session, tmp_path, loaded):
    write_project(tmp_path / "scans", ("ann", "bob", "cas"))
    thumbnails = Thumbnails(session)

    def ask():
        for name in session.project.names:
            thumbnails.get(name)

    session.scans_changed.connect(ask)
    session.add(sorted((tmp_path / "scans").glob("*.nii.gz")))
    until(session, lambda: session.current == "ann" and not session.jobs)
    assert loaded[0] == ("ann", "sslseg-load")
    assert sorted(loaded[1:]) == [("bob", "sslseg-thumbnails"), ("cas", "sslseg-thumbnails")]
    assert all(thumbnails.get(name) is not None for name in ("ann", "bob", "cas"))


def test_thumbnails_wait_while_a_scan_is_loaded(tmp_path, monkeypatch, loaded):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session = Session()
    assert session.open(write_project(tmp_path, ("ann", "bob", "cas")))
    until(session, lambda: session.current == "ann" and not session.jobs)
    thumbnails, go_on = Thumbnails(session), threading.Event()
    session.while_loading(lambda: go_on.wait(20))
    loaded.clear()
    session.select("bob")
    thumbnails.get("cas")
    until(session, lambda: bool(loaded))
    assert loaded == [("bob", "sslseg-load")]
    go_on.set()
    until(session, lambda: not session.jobs)
    assert loaded == [("bob", "sslseg-load"), ("cas", "sslseg-thumbnails")]
    session.close()


def test_a_project_can_be_closed_while_thumbnails_wait(session, tmp_path):
    write_project(tmp_path / "scans")
    go_on = threading.Event()
    thumbnails = Thumbnails(session)
    session.while_loading(lambda: go_on.wait(20))
    session.add(sorted((tmp_path / "scans").glob("*.nii.gz")))
    until(session, lambda: any(job.kind == "load" for job in session.jobs))
    thumbnails.get("bob")
    (job,) = (job for job in session.jobs if job.kind == "thumbnails")
    session.close()
    assert job.wait(5)
    go_on.set()
    until(session, lambda: not session.jobs)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("numbers", [3, np.array([1, 4])])
def test_slices_of_a_flipped_scan_are_taken_without_a_copy_of_it(axis, numbers):
    data = np.asfortranarray(np.arange(200**3, dtype=np.int16).reshape(200, 200, 200))
    flipped = data[::-1, ::-1, ::-1]
    tracemalloc.start()
    found = take_slices(flipped, numbers, axis)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, np.take(flipped, numbers, axis))
    assert most < data.nbytes / 10
    assert not np.shares_memory(found, data)
