"""A slice of another plane, with lines through the point that the user looks at."""

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPen, QWheelEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.gui.viewer.edge_letters import camera, edge_letters
from napari_sslseg.gui.viewer.planes.plane_picture import labels_pictures, scan_picture

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.scene import Scene

CROSS = QColor(255, 214, 51, 170)
TEXT = QColor(225, 225, 225)
SHADE = QColor(0, 0, 0, 150)
GAP, MARGIN = 8, 4
CLICK = 120
"""Units of the mouse wheel for one slice."""

TIP = (
    "Click or drag: all planes show the slices through that point. Mouse wheel: another slice.\n"
    "A click in the large picture moves the lines as well; so does Shift while the mouse moves."
)
NAMES = {axis: plane for plane, axis in PLANE_AXIS.items()}


class PlaneView(QWidget):
    """Shows one of the two planes that the picture of napari does not show.

    Parameters
    ----------
    scene : Scene
    number : {0, 1}
        Which of the two planes.
    """

    def __init__(self, scene: "Scene", number: int) -> None:
        super().__init__()
        self.scene, self.number = scene, number
        self.setObjectName(f"plane-view-{number}")
        self.setToolTip(TIP)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(100, 90)
        # The keys stay with the picture of napari.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._scan: QImage | None = None
        self._labels: list[QImage] = []
        self._turned = 0

    @property
    def axis(self) -> int:
        """Axis of the display grid across the slice."""
        hidden = self.scene.look.hidden
        if hidden is None:
            hidden = PLANE_AXIS[self.scene.plane]
        return [axis for axis in range(3) if axis != hidden][self.number]

    @property
    def rows_columns(self) -> tuple[int, int]:
        """Axes of the display grid that go down and to the right, or against these."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return rows, columns

    @property
    def title(self) -> str:
        """Name of the plane, and number of the slice."""
        return f"{NAMES[self.axis].capitalize()} {self.scene.look.voxel[self.axis]}"

    def draw_slice(self) -> None:
        """Draw the slice through the point anew."""
        self.setAccessibleName(f"Other plane: {self.title}")
        self._scan, self._labels = None, []
        if self.scene.image is not None:
            where = self.scene, self.axis, self.scene.look.voxel[self.axis]
            formats = QImage.Format
            self._scan = self._as_image(scan_picture(*where), formats.Format_RGB888)
            self._labels = [
                self._as_image(picture, formats.Format_RGBA8888_Premultiplied)
                for picture in labels_pictures(*where)
            ]
        self.update()

    def _as_image(self, picture: np.ndarray, form: QImage.Format) -> QImage:
        up, left = self._flips()
        turned = np.ascontiguousarray(picture[:: -1 if up else 1, :: -1 if left else 1])
        rows, columns, channels = turned.shape
        return QImage(turned.data, columns, rows, channels * columns, form).copy()

    def _flips(self) -> tuple[bool, bool]:
        """Whether rows go up and columns go left, as the user may have set it for napari."""
        vertical, horizontal = (str(way) for way in camera(self.scene.viewer).orientation2d)
        return vertical == "up", horizontal == "left"

    def _frame(self) -> QRectF:
        """Return the place of the picture in the widget, with the proportions of the scan."""
        image = self.scene.image
        assert image is not None
        rows, columns = self.rows_columns
        scale, shape = np.abs(np.asarray(image.scale)), image.data.shape
        height, width = shape[rows] * scale[rows], shape[columns] * scale[columns]
        factor = min((self.width() - 2) / width, (self.height() - 2) / height)
        width, height = width * factor, height * factor
        return QRectF((self.width() - width) / 2, (self.height() - height) / 2, width, height)

    def place_of(self, voxel: tuple[int, int, int]) -> QPointF:
        """Return where the centre of a voxel is drawn."""
        assert self.scene.image is not None
        frame, shape = self._frame(), self.scene.image.data.shape
        rows, columns = self.rows_columns
        down = (voxel[rows] + 0.5) / shape[rows]
        right = (voxel[columns] + 0.5) / shape[columns]
        up, left = self._flips()
        down, right = 1 - down if up else down, 1 - right if left else right
        return QPointF(frame.x() + right * frame.width(), frame.y() + down * frame.height())

    def voxel_at(self, place: QPointF) -> tuple[float, float, float]:
        """Return the voxel at a place of the widget; beside the picture, the nearest one."""
        assert self.scene.image is not None
        frame, shape = self._frame(), self.scene.image.data.shape
        rows, columns = self.rows_columns
        down = (place.y() - frame.y()) / frame.height()
        right = (place.x() - frame.x()) / frame.width()
        up, left = self._flips()
        down, right = 1 - down if up else down, 1 - right if left else right
        voxel: list[float] = list(self.scene.look.voxel)
        voxel[rows] = np.floor(down * shape[rows])
        voxel[columns] = np.floor(right * shape[columns])
        return voxel[0], voxel[1], voxel[2]

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw the slice, the lines, the sides of the patient and the title."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), Qt.GlobalColor.black)
        if self._scan is None or self.scene.image is None:
            return
        frame, smooth = self._frame(), QPainter.RenderHint.SmoothPixmapTransform
        painter.setRenderHint(smooth, str(self.scene.image.interpolation2d) != "nearest")
        painter.drawImage(frame, self._scan)
        painter.setRenderHint(smooth, False)  # Labels have edges.
        for labels in self._labels:
            painter.drawImage(frame, labels)
        at = self.place_of(self.scene.look.voxel)
        painter.setPen(QPen(CROSS, 1))
        for from_, to in (
            (QPointF(frame.left(), at.y()), QPointF(at.x() - GAP, at.y())),
            (QPointF(at.x() + GAP, at.y()), QPointF(frame.right(), at.y())),
            (QPointF(at.x(), frame.top()), QPointF(at.x(), at.y() - GAP)),
            (QPointF(at.x(), at.y() + GAP), QPointF(at.x(), frame.bottom())),
        ):
            painter.drawLine(from_, to)
        painter.setPen(TEXT)
        inside = self.rect().adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
        top_left = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft
        painter.drawText(inside, top_left, self.title)
        for side, letters in self._letters().items():
            # A dark box, since letters cannot be seen on bright tissue.
            box = painter.boundingRect(inside, side, letters).adjusted(-2, 0, 2, 0)
            painter.fillRect(box, SHADE)
            painter.drawText(inside, side, letters)

    def _letters(self) -> dict[Qt.AlignmentFlag, str]:
        """Return the sides of the patient at the edges."""
        volume = self.scene.session.volume
        if volume is None:
            return {}
        flags = Qt.AlignmentFlag
        down, right = (edge_letters(volume.geometry, axis) for axis in self.rows_columns)
        up, left = self._flips()
        down, right = down[::-1] if up else down, right[::-1] if left else right
        return {
            flags.AlignTop | flags.AlignHCenter: down[0],
            flags.AlignBottom | flags.AlignHCenter: down[1],
            flags.AlignLeft | flags.AlignVCenter: right[0],
            flags.AlignRight | flags.AlignVCenter: right[1],
        }

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Look at the voxel below the mouse."""
        if event.buttons() & Qt.MouseButton.LeftButton and self.scene.image is not None:
            self.scene.look.move_to(self.voxel_at(event.position()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Look at the voxel below the mouse while its button is held."""
        self.mousePressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802
        """Show another slice of this plane."""
        self._turned -= event.angleDelta().y()
        steps = int(self._turned / CLICK)
        self._turned -= steps * CLICK
        voxel = list(self.scene.look.voxel)
        voxel[self.axis] += steps
        self.scene.look.move_to(voxel)
        event.accept()
