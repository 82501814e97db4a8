"""Thumbnails of the middle slices of scans, read in the background and kept in memory."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sslseg.core.common.errors import SslsegError
from napari_sslseg.core.common.events import Event, PauseFlag, StopFlag
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.scans.volume import Volume, take_slices
from napari_sslseg.gui.model.jobs import Job, Outcome
from napari_sslseg.gui.viewer.layers import contrast_limits

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project
    from napari_sslseg.gui.model.session import Session

SIDE = 64
"""Pixels of a thumbnail along its longer side."""

WAIT_SECONDS = 0.1
"""How often a waiting thumbnail looks whether it is still wanted."""


@dataclass(frozen=True, eq=False)
class Thumbnail(Event):
    """Thumbnail of a scan as grey values, None if it cannot be read; and its voxel size."""

    name: str
    picture: np.ndarray | None
    spacing: tuple[float, float, float] | None = None


def middle_slice(volume: Volume, plane: Plane = "axial", side: int = SIDE) -> np.ndarray:
    """Return the middle slice as a picture with the physical aspect ratio.

    Parameters
    ----------
    volume : Volume
        The scan.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slice.
    side : int
        Pixels along the longer side.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
    """
    axis = PLANE_AXIS[plane]
    image = take_slices(volume.data, volume.data.shape[axis] // 2, axis)
    spacing = np.delete(volume.spacing, axis)
    size = np.array(image.shape) * spacing
    rows, columns = np.maximum(1, np.round(side * size / size.max())).astype(int)
    # Nearest neighbour: fast, and good enough to recognise a scan.
    y = (np.arange(rows) + 0.5) * image.shape[0] / rows
    x = (np.arange(columns) + 0.5) * image.shape[1] / columns
    small = image[np.ix_(y.astype(int), x.astype(int))].astype(np.float32)
    low, high = contrast_limits(volume.data, volume.modality)
    return np.ascontiguousarray(np.clip((small - low) / (high - low) * 255, 0, 255), np.uint8)


def _make_thumbnail(project: "Project", name: str) -> Thumbnail:
    """Read a scan, which is not kept, and make its thumbnail."""
    try:
        volume = project.load(name)
    except (SslsegError, OSError, MemoryError):
        return Thumbnail(name, None)  # The list shows the problem.
    return Thumbnail(name, middle_slice(volume), volume.spacing)


class Thumbnails:
    """Thumbnails of the scans in the visible part of the list.

    Attributes
    ----------
    made : Signal of str
        The thumbnail of a scan is ready, or cannot be made.
    """

    made = Signal(str)

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.spacings: dict[str, tuple[float, float, float]] = {}
        self._pictures: dict[str, np.ndarray | None] = {}
        self._contents: dict[str, str] = {}
        self._wanted: list[str] = []
        self._job: Job | None = None
        self._free = threading.Event()
        self._free.set()
        session.jobs_changed.connect(self._give_way)
        session.project_changed.connect(self._forget)
        session.selected.connect(self._take)
        session.job_events.connect(self._hear)

    def get(self, name: str) -> np.ndarray | None:
        """Return the thumbnail if it is ready; otherwise queue it, the latest request first."""
        self._forget_replaced(name)
        if name not in self._pictures and self.session.project is not None:
            if name in self._wanted:
                self._wanted.remove(name)
            self._wanted.append(name)
            self._start()
        return self._pictures.get(name)

    def _forget_replaced(self, name: str) -> None:
        """Forget the thumbnail of another scan that had this name."""
        project = self.session.project
        if project is not None and name in project.names:
            content = project.entry(name).content
            if self._contents.setdefault(name, content) != content:
                self._contents[name] = content
                self._pictures.pop(name, None)
                self.spacings.pop(name, None)

    def _start(self) -> None:
        project = self.session.project
        if project is None or (self._job is not None and self._job.active):
            return
        wanted = self._wanted

        def events(stop: StopFlag, pause: PauseFlag) -> Iterator[Event]:
            while wanted and not stop.is_set:
                if not self._free.wait(WAIT_SECONDS):
                    continue
                name = wanted.pop()
                if self._pictures.get(name) is not None:  # It was shown meanwhile.
                    continue
                yield _make_thumbnail(project, name)

        def ended(_: Outcome) -> None:
            if self._job is job:
                self._job = None
                if self._wanted:  # Requested just before the job ended.
                    self._start()

        job = self._job = self.session.run("thumbnails", "Making thumbnails", events, ended)

    def _give_way(self) -> None:
        """Wait while a scan is loaded and shown, so that it is soon there and alone in memory.

        Scans that are added to an empty project are followed by the first one.
        """
        session = self.session
        first = not session.current
        if any(job.kind == "load" or (job.kind == "add" and first) for job in session.jobs):
            self._free.clear()
        else:
            self._free.set()

    def _hear(self, job: Job, events: list[Event]) -> None:
        if job is self._job:
            for event in events:
                if isinstance(event, Thumbnail):
                    self._keep(event)

    def _take(self, name: str) -> None:
        """Make the thumbnail of the current scan, which is already loaded."""
        volume = self.session.volume
        if name and volume is not None and self._pictures.get(name) is None:
            self._keep(Thumbnail(name, middle_slice(volume), volume.spacing))

    def _keep(self, event: Thumbnail) -> None:
        self._pictures[event.name] = event.picture
        if event.spacing is not None:
            self.spacings[event.name] = event.spacing
        self.made.emit(event.name)

    def _forget(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._job = None
        self._wanted = []
        self._pictures.clear()
        self._contents.clear()
        self.spacings.clear()
