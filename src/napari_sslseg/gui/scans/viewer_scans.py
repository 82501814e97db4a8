"""Scans that somebody dropped on napari itself, and that the project does not have.

napari hands what is dropped on it to our reader, which notes the files in the metadata of the
layer. They are not added without being asked for: a scan may be opened just to look at it.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sslseg.gui.model.jobs import Job, Outcome
from napari_sslseg.gui.viewer.scene import ROLE

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene


class ViewerScans:
    """The layers of the viewer that were read from scans outside of the project.

    Attributes
    ----------
    changed : Signal
        There are others now.
    """

    changed = Signal()

    def __init__(self, scene: "Scene") -> None:
        self.scene, self.session = scene, scene.session
        self.layers: list[Any] = []
        events = scene.viewer.layers.events
        events.inserted.connect(self._look)
        events.removed.connect(self._look)
        self.session.project_changed.connect(self._look)
        self.session.scans_changed.connect(self._look)
        self._look()

    @property
    def paths(self) -> list[Path]:
        """Files and folders of them, each once."""
        return list(dict.fromkeys(_files(layer)[0] for layer in self.layers))

    def add(self) -> Job | None:
        """Add them to the project, which then shows them itself, so that the layers go."""
        layers = list(self.layers)
        job = self.session.add(self.paths)

        def ended(outcome: Outcome) -> None:
            known = self._known()
            for layer in layers:
                if layer in self.scene.viewer.layers and _is_of(layer, known):
                    self.scene.viewer.layers.remove(layer)

        if job is not None:
            job.ended.connect(ended)
        return job

    def _look(self) -> None:
        before = self.layers
        self.layers = []
        found = [layer for layer in self.scene.viewer.layers if _is_scan(layer)]
        # Only then, since it takes a look at the disk for each scan of the project.
        if found and self.session.project is not None:
            known = self._known()
            self.layers = [layer for layer in found if not _is_of(layer, known)]
        if [id(layer) for layer in self.layers] != [id(layer) for layer in before]:
            self.changed.emit()

    def _known(self) -> set[str]:
        """One file of each scan of the project."""
        project = self.session.project
        if project is None:
            return set()
        from napari_sslseg.core.project.sources import find_path

        places = ((entry, find_path(entry, project.folder)) for entry in project.record.scans)
        return {
            os.path.abspath(path / entry.files[0] if entry.files else path)
            for entry, path in places
        }


def _is_scan(layer: Any) -> bool:
    data = layer.metadata
    ours = "geometry" in data and ROLE not in data and bool(_files(layer))
    return ours and layer._type_string == "image"


def _files(layer: Any) -> list[Path]:
    return [Path(file) for file in layer.metadata.get("files", ())]


def _is_of(layer: Any, known: set[str]) -> bool:
    return any(os.path.abspath(file) in known for file in _files(layer))
