"""A scene without a window."""

import pytest
from napari.components import ViewerModel

from napari_sslseg.gui.model.session import Session
from napari_sslseg.gui.viewer.scene import Scene
from scene_project import until, write_project


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A scene that shows the first scan of a project with the structure liver."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    session = Session()
    made = Scene(session, ViewerModel())
    assert session.open(write_project(tmp_path))
    until(session, lambda: made.labels is not None and not session.jobs)
    yield made
    session.close()
