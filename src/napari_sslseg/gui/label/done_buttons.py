"""Slices of the scan: which are done, and buttons to mark them and to find the next one."""

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_sslseg.gui.label.keys import DONE as DONE_KEY, NEXT_OPEN, NEXT_PAINTED
from napari_sslseg.gui.label.slice_marks import DONE, EMPTY, PAINTED, SliceMarks
from napari_sslseg.gui.label.slice_strip import COLOURS, SliceStrip
from napari_sslseg.gui.viewer.strokes.done_check import DoneCheck
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene


class LabelSlices(QWidget):
    """Strip of slices, buttons to mark and find slices, and counts."""

    def __init__(self, session: "Session", scene: "Scene") -> None:
        super().__init__()
        self.marks = SliceMarks(session, scene, DoneCheck(self, session, scene))
        self.scene = scene
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.here = QLabel()
        self.here.setObjectName("slice-state")
        self.here.setTextFormat(Qt.TextFormat.PlainText)
        # A long sentence would make the panel wider than its dock, which cuts it at the right.
        self.here.setWordWrap(True)
        layout.addWidget(self.here)
        self.strip = SliceStrip()
        self.strip.chosen.connect(scene.go_to)
        layout.addWidget(self.strip)
        layout.addWidget(self._make_legend())
        layout.addLayout(self._make_buttons())
        self.count = QLabel()
        self.count.setObjectName("slice-count")
        self.count.setWordWrap(True)
        layout.addWidget(self.count)
        layout.addWidget(self._make_notice())
        layout.addWidget(self._make_turned())
        self.marks.changed.connect(self.refresh)
        session.classes_changed.connect(self.refresh)
        self.refresh()

    def _make_legend(self) -> QLabel:
        names = {DONE: "■ done", EMPTY: "□ done and empty", PAINTED: "▄ painted, not done"}
        legend = QLabel(
            " &nbsp; ".join(
                f"<span style='color:{COLOURS[state].name()}'>{text[0]}</span>{text[1:]}"
                for state, text in names.items()
            )
        )
        legend.setObjectName("slice-legend")
        font = legend.font()
        font.setPointSizeF(font.pointSizeF() * 0.9)
        legend.setFont(font)
        return legend

    def _make_buttons(self) -> QVBoxLayout:
        column = QVBoxLayout()
        column.setSpacing(4)
        self.done = QPushButton(f"Slice done ({DONE_KEY})")
        self.done.setObjectName("slice-done")
        self.done.setCheckable(True)
        self.done.setMinimumHeight(30)
        self.done.setToolTip(
            "Every structure on this slice is labelled, or there is none: use it for training, or "
            f"only for scores if the patient is held out.\nPress again to undo. Key: {DONE_KEY}"
        )
        self.done.clicked.connect(self.marks.toggle)
        column.addWidget(self.done)
        row = QHBoxLayout()
        self.next_open = QPushButton(f"Next not done ({NEXT_OPEN})")
        self.next_open.setObjectName("next-open")
        self.next_open.setToolTip(f"Go to the next slice that is not done. Key: {NEXT_OPEN}")
        self.next_open.clicked.connect(self.marks.next_open)
        self.next_painted = QPushButton(f"Next painted ({NEXT_PAINTED})")
        self.next_painted.setObjectName("next-painted")
        self.next_painted.setToolTip(
            f"Go to the next slice that is painted, but not marked as done. Key: {NEXT_PAINTED}"
        )
        self.next_painted.clicked.connect(self.marks.next_painted)
        for button in (self.next_open, self.next_painted):
            row.addWidget(button, 1)
        column.addLayout(row)
        for button in (self.done, self.next_open, self.next_painted):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        return column

    def _make_notice(self) -> QWidget:
        self.notice = QWidget()
        layout = QVBoxLayout(self.notice)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.unused = QLabel()
        self.unused.setObjectName("slice-unused")
        self.unused.setWordWrap(True)
        self.mark_painted = QPushButton()
        self.mark_painted.setObjectName("mark-painted")
        self.mark_painted.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.mark_painted.clicked.connect(self._mark_painted)
        layout.addWidget(self.unused)
        layout.addWidget(self.mark_painted)
        return self.notice

    def _make_turned(self) -> QPushButton:
        self.turned = QPushButton()
        self.turned.setObjectName("turn-back")
        self.turned.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.turned.setToolTip("Slices are labelled and marked in this plane only.")
        self.turned.clicked.connect(self.scene.turn)
        return self.turned

    def refresh(self) -> None:
        """Show the states of the slices."""
        states, here = self.marks.states, self.scene.slice
        shown = bool(len(states)) and here < len(states)
        self.setEnabled(shown)
        self.strip.show_slices(states, here if shown else 0)
        if not shown:
            self.here.setText("Select a scan to label.")
            self._show_done(False)
            self.count.clear()
            self.notice.hide()
            self.turned.hide()
            return
        plane, straight = self.scene.plane, self.scene.in_plane
        self.here.setText(self.marks.describe(here) if straight else self.scene.wrong_view)
        self.turned.setText(
            f"Show the {plane} plane again" if self.scene.is_within else "Back to the scan"
        )
        self.turned.setVisible(not straight)
        project = self.marks.session.project
        self.done.setEnabled(straight and project is not None and bool(project.classes))
        self._show_done(bool(states[here] >= DONE))
        self.count.setText(self.marks.count())
        painted = int(np.count_nonzero(states == PAINTED))
        self.next_painted.setEnabled(painted > 0)
        self.notice.setVisible(painted > 0)
        which = "1 slice is painted but" if painted == 1 else f"{painted} slices are painted but"
        use = "scores" if self.marks.session.held_out else "training"
        self.unused.setText(f"{which} not done: not used for {use} yet.")
        many = "1 painted slice" if painted == 1 else f"{painted} painted slices"
        self.mark_painted.setText(f"Mark {many} as done…")

    def _show_done(self, is_done: bool) -> None:
        self.done.setChecked(is_done)
        self.done.setText(f"{'✓ ' if is_done else ''}Slice done ({DONE_KEY})")

    def _mark_painted(self) -> None:
        count = int(np.count_nonzero(self.marks.states == PAINTED))
        which = "1 painted slice" if count == 1 else f"all {count} painted slices"
        answer = ask_choice(
            self,
            f"Mark {which} of this scan as done?",
            [f"Mark {count} as done"],
            more="Do this only if every structure on them is labelled: pixels without a label "
            "count as background.",
            name="ask-painted",
        )
        if answer is not None:
            self.marks.mark_painted()
