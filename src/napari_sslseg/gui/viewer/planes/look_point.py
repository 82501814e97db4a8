"""The voxel that the user looks at, through which the slices of all planes go. Needs no Qt."""

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sslseg.gui.viewer.shown_scan import ShownScan


class LookPoint:
    """A voxel of the scan, whose slice is shown in each plane.

    It is the centre of a scan at first, and follows the slider. When another plane is shown, the
    slider goes to the slice of the point there.

    Attributes
    ----------
    moved : Signal
        The point or the axes of the picture changed.
    """

    moved = Signal()

    def __init__(self, scene: "ShownScan") -> None:
        self.scene = scene
        self.voxel = (0, 0, 0)
        self._shown: tuple[str, tuple[int, ...]] = "", ()
        scene.changed.connect(self._start)
        dims = scene.viewer.dims
        dims.events.current_step.connect(self._follow_slice)
        dims.events.order.connect(self._turn)
        dims.events.ndisplay.connect(self._turn)

    @property
    def hidden(self) -> int | None:
        """Axis of the display grid that the slider moves along; None in 3D and without a scan."""
        dims = self.scene.viewer.dims
        first = dims.ndim - 3  # Other layers may have more axes.
        axes = [axis for axis in range(3) if first + axis not in dims.displayed]
        return axes[0] if self.scene.image is not None and len(axes) == 1 else None

    def move_to(self, voxel: "Sequence[float]") -> None:
        """Look at another voxel, and show its slice."""
        image, hidden = self.scene.image, self.hidden
        if image is None:
            return
        last = np.array(image.data.shape) - 1
        first, second, third = (int(at) for at in np.clip(np.rint(voxel), 0, last))
        if (first, second, third) == self.voxel:
            return
        self.voxel = first, second, third
        if hidden is not None:
            self._show_slice(hidden)
        self.moved.emit()

    def move_to_world(self, position: Any) -> None:
        """Look at a place of the picture; a place beside the scan changes nothing."""
        image, hidden = self.scene.image, self.hidden
        if image is None or hidden is None or len(position) < 3 or not self.scene.is_within:
            return
        voxel = np.floor(image.world_to_data(np.asarray(position, float)[-3:]) + 0.5)
        voxel[hidden] = self.voxel[hidden]
        if np.all((voxel >= 0) & (voxel < image.data.shape)):
            self.move_to(voxel)

    def world(self) -> np.ndarray:
        """Return the centre of the voxel in mm, as the layers of the scan are placed."""
        assert self.scene.image is not None
        return np.asarray(self.scene.image.data_to_world(self.voxel), float)

    def _start(self) -> None:
        """Look at the centre of another scan, and at the slice that is shown."""
        image = self.scene.image
        if image is not None:
            shown = self.scene.session.current, image.data.shape
            if shown != self._shown:
                first, second, third = (int(size) // 2 for size in image.data.shape)
                self.voxel = first, second, third
            self._shown = shown
        self._read_slice()
        self.moved.emit()

    def _read_slice(self) -> bool:
        """Take over the slice that is shown. Returns whether it is another one."""
        image, hidden = self.scene.image, self.hidden
        if image is None or hidden is None:
            return False
        place = image.world_to_data(np.asarray(self.scene.viewer.dims.point)[-3:])
        voxel = list(self.voxel)
        voxel[hidden] = int(np.clip(round(float(place[hidden])), 0, image.data.shape[hidden] - 1))
        changed = tuple(voxel) != self.voxel
        self.voxel = voxel[0], voxel[1], voxel[2]
        return changed

    def _follow_slice(self, event: Any = None) -> None:
        if self._read_slice():
            self.moved.emit()

    def _turn(self, event: Any = None) -> None:
        if self.hidden is not None:
            self._show_slice(self.hidden)
        self.moved.emit()

    def _show_slice(self, axis: int) -> None:
        dims = self.scene.viewer.dims
        dims.set_point(dims.ndim - 3 + axis, self.world()[axis])
