"""Scans that were opened in the viewer of napari and are not in the project.

napari passes files that are dropped on it to the reader of the plugin, which stores the paths in
the metadata of the layer. Such scans are not added automatically: they may be opened only to look
at them.
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
    """Layers of the viewer that show scans outside the project.

    Attributes
    ----------
    changed : Signal
        The list of layers changed.
    """

    changed = Signal()

    def __init__(self, scene: "Scene") -> None:
        self.scene, self.session = scene, scene.session
        self.layers: list[Any] = []
        events = scene.viewer.layers.events
        events.inserted.connect(self._update)
        events.removed.connect(self._update)
        self.session.project_changed.connect(self._update)
        self.session.scans_changed.connect(self._update)
        self._update()

    @property
    def paths(self) -> list[Path]:
        """File or folder of each scan, without duplicates."""
        return list(dict.fromkeys(_files(layer)[0] for layer in self.layers))

    def add(self) -> Job | None:
        """Add the scans to the project, and remove their layers: the project shows them itself."""
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

    def _update(self) -> None:
        before = self.layers
        self.layers = []
        found = [layer for layer in self.scene.viewer.layers if _is_scan(layer)]
        # Only if there is such a layer: this accesses the disk for each scan of the project.
        if found:
            known = self._known()
            self.layers = [layer for layer in found if not _is_of(layer, known)]
        if [id(layer) for layer in self.layers] != [id(layer) for layer in before]:
            self.changed.emit()

    def _known(self) -> set[str]:
        """Return one file of each scan of the project."""
        project = self.session.project
        if project is None:
            return set()
        from napari_sslseg.core.project.sources import find_path

        paths = ((entry, find_path(entry, project.folder)) for entry in project.record.scans)
        return {
            os.path.abspath(path / entry.files[0] if entry.files else path) for entry, path in paths
        }


def _is_scan(layer: Any) -> bool:
    data = layer.metadata
    read_by_plugin = "geometry" in data and ROLE not in data and bool(_files(layer))
    return read_by_plugin and layer._type_string == "image"


def _files(layer: Any) -> list[Path]:
    return [Path(file) for file in layer.metadata.get("files", ())]


def _is_of(layer: Any, known: set[str]) -> bool:
    return any(os.path.abspath(file) in known for file in _files(layer))
