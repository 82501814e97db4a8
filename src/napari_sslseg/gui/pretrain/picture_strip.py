"""Strip of small captioned pictures, in one row, or in two where it is narrow."""

from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent, QResizeEvent
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_sslseg.gui.pretrain.tiles import Tile

LEAST_WIDTH = 105
"""Smallest width of a picture in one row; below it the strip has two rows."""
MOST_HEIGHT = 300
GAP = 6


def to_image(pixels: np.ndarray) -> QImage:
    """Copy colours, shape (H, W, 3), uint8, into an image."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    return QImage(pixels.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy()


class Picture(QWidget):
    """Paints an image as large as fits, with its physical aspect ratio."""

    def __init__(self) -> None:
        super().__init__()
        self.image = QImage()
        self.aspect = 1.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMinimumWidth(40)

    def show_image(self, image: QImage, aspect: float) -> None:
        """Show an image; ``aspect`` is the ratio of height to width of its pixels."""
        self.image, self.aspect = image, aspect
        self.update()

    def ratio(self) -> float:
        """Return the ratio of height to width."""
        if self.image.isNull():
            return 1.0
        return self.image.height() * self.aspect / self.image.width()

    def target(self) -> QRect:
        """Return where the image is painted."""
        width = min(self.width(), round(self.height() / self.ratio()))
        height = round(width * self.ratio())
        left, top = (self.width() - width) // 2, (self.height() - height) // 2
        return QRect(left, top, width, height)

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(LEAST_WIDTH, LEAST_WIDTH)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        if self.image.isNull():
            return
        painter = QPainter(self)
        target = self.target()
        # Enlarged pixels stay sharp; a reduced image is smoothed, so that no pixel is skipped.
        smaller = target.width() * self.devicePixelRatioF() < self.image.width()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, smaller)
        painter.drawImage(target, self.image)


class ScaleBar(QWidget):
    """Scale bar of a picture, with the values at both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high, self.colours = QLabel(), QLabel(), Picture()
        self.colours.setFixedHeight(8)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.low)
        layout.addWidget(self.colours, 1)
        layout.addWidget(self.high)

    def show_scale(self, bar: np.ndarray, ends: tuple[str, str]) -> None:
        """Show colours from low to high."""
        self.low.setText(ends[0])
        self.high.setText(ends[1])
        self.colours.show_image(to_image(bar[None]), 1.0)
        self.colours.target = lambda: self.colours.rect()  # type: ignore[method-assign]


class Captioned(QWidget):
    """A picture with its caption, and its scale bar if it has one."""

    def __init__(self) -> None:
        super().__init__()
        self.picture, self.caption, self.scale = Picture(), QLabel(), ScaleBar()
        self.caption.setWordWrap(True)
        self.caption.setAlignment(Qt.AlignmentFlag.AlignHCenter | Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for part in (self.picture, self.scale, self.caption):
            layout.addWidget(part)
        layout.addStretch(1)

    def show_tile(self, tile: Tile) -> None:
        """Show a tile."""
        self.setObjectName(f"picture-{tile.name}")
        self.setAccessibleName(tile.caption)
        self.setToolTip(f"<p>{tile.hint}</p>" if tile.hint else "")
        self.picture.show_image(to_image(tile.pixels), tile.aspect)
        self.caption.setText(tile.caption)
        self.scale.setVisible(tile.bar is not None)
        if tile.bar is not None:
            self.scale.show_scale(tile.bar, tile.limits)


class PictureStrip(QWidget):
    """Pictures in one row, or in two where the strip is narrow."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tile] = []
        self._parts: list[Captioned] = []
        self._columns = 0
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(GAP)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)

    @property
    def columns(self) -> int:
        """Number of pictures in a row."""
        return self._columns

    def show_tiles(self, tiles: Sequence[Tile]) -> None:
        """Show these tiles only."""
        self.shown = list(tiles)
        while len(self._parts) < len(tiles):
            self._parts.append(Captioned())
        for part, tile in zip(self._parts, tiles, strict=False):
            part.show_tile(tile)
        for part in self._parts[len(tiles) :]:
            part.hide()
        self._arrange()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._arrange()

    def _arrange(self) -> None:
        count = len(self.shown)
        if not count:
            self._columns = 0
            return
        one_row = count <= 2 or self.width() >= count * (LEAST_WIDTH + GAP)
        columns = count if one_row else -(-count // 2)
        if columns != self._columns or self._grid.count() != count:
            while self._grid.count():
                self._grid.takeAt(0)
            for number in range(max(columns, self._columns)):
                self._grid.setColumnStretch(number, 1 if number < columns else 0)
            for number, part in enumerate(self._parts[:count]):
                self._grid.addWidget(part, number // columns, number % columns)
            self._columns = columns
        width = (self.width() - GAP * (columns - 1)) // columns
        pictures = [part.picture for part in self._parts[:count]]
        # All have the height of the first, so that captions are aligned.
        height = min(round(width * pictures[0].ratio()), MOST_HEIGHT)
        for part, picture in zip(self._parts, pictures, strict=False):
            if picture.height() != height or picture.minimumHeight() != height:
                picture.setFixedHeight(max(height, 40))
            part.show()
