"""Fixtures for tests with a real napari window."""

import gc
import os

import pytest

from dialogs import not_asked
from label_dock import Dock, write_project


@pytest.fixture(autouse=True)
def _needs_a_screen():
    if not os.environ.get("DISPLAY"):
        reason = "no screen to open a napari window on; `make test` starts a virtual one"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _every_expected_question_is_asked():
    """An answer that is left would be given to a question of the next test."""
    yield
    assert not not_asked()


@pytest.fixture(autouse=True, scope="module")
def _quick_garbage_collection():
    """Exclude what is imported from the garbage collections, of which napari does many."""
    import monai.losses  # noqa: F401
    import napari.qt  # noqa: F401
    import torch  # noqa: F401

    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture
def viewer(make_napari_viewer):
    """A viewer in a window on the screen."""
    opened = make_napari_viewer(show=True)
    opened.window.resize(1200, 900)
    return opened


@pytest.fixture
def notifications():
    """Return a function that lists severity and text of the notifications since the test began."""
    from napari.utils.notifications import notification_manager

    from napari_sslseg.gui.viewer import napari_window

    notification_manager.records.clear()
    napari_window._last_shown.clear()
    return lambda: [
        (str(record.severity), record.message) for record in notification_manager.records
    ]


@pytest.fixture
def label_folder(tmp_path, monkeypatch):
    """A project of two scans without structures."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return write_project(tmp_path)


@pytest.fixture
def dock(viewer, qtbot, label_folder):
    """The label panel with the first scan of the project."""
    made = Dock(viewer, qtbot, label_folder)
    yield made
    made.leave()


@pytest.fixture
def ready(dock):
    """The panel with two structures."""
    dock.project.add_class("liver")
    dock.project.add_class("spleen")
    dock.session.classes_changed.emit()
    return dock
