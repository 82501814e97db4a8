"""Questions before a slice is marked as done: is it what the user sees, and is nothing missing?"""

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.text import plural
from napari_sslseg.gui.widgets.dialogs import ask_choice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

TAKE, LEAVE = "Take them over", "Leave them"
EMPTY = "Mark as empty"
TRAINED = "The training then learns that there is nothing on it."
HELD_OUT = (
    "This patient is held out: the scores then count everything that is predicted on it as wrong."
)


class DoneCheck:
    """Asks the user before a slice is marked.

    Parameters
    ----------
    parent : QWidget
        Parent of the dialogs.
    session : Session
    scene : Scene
    """

    def __init__(self, parent: QWidget, session: "Session", scene: "Scene") -> None:
        self.parent, self.session, self.scene = parent, session, scene

    def turned(self) -> bool:
        """Whether the picture is not a slice of the plane, which the user is told."""
        if self.scene.in_plane:
            return False
        self.session.note.emit(f"{self.scene.wrong_view} Step 3 has a button that goes back.")
        return True

    def may_mark(self) -> bool:
        """Whether to mark the slice that is shown as done.

        An open outline is closed and strokes on other layers are offered first. The first slice
        without labels is confirmed; later ones are announced.
        """
        if self.scene.labels is None or self.turned():
            return False
        if self.scene.outlines.close() is False:
            return False
        return self.offer_strokes() and self._confirm_empty()

    def may_unmark(self) -> bool:
        """Whether to unmark the slice that is shown.

        With an open outline, or strokes on other layers, the user rather means that these belong
        to the slice.
        """
        if self.turned() or self.scene.outlines.close() is not None:
            return False
        layers = self.scene.strokes.on_slice()
        return self.offer_strokes() and self.scene.strokes.on_slice() == layers

    def offer_strokes(self) -> bool:
        """Offer to take strokes on other layers over; False if the user cancels."""
        layers = self.scene.strokes.on_slice()
        if not layers:
            return True
        names = ", ".join(f"“{layer.name}”" for layer in layers)
        answer = ask_choice(
            self.parent,
            f"This slice has strokes on {names}, which {'is' if len(layers) == 1 else 'are'} not "
            f"the labels of {self.session.current} and {'is' if len(layers) == 1 else 'are'} saved "
            "nowhere. Take these strokes over?",
            [TAKE, LEAVE],
            more="They become labels of the scan, on all its slices; Ctrl+Z undoes it.",
            name="ask-strokes",
        )
        if answer == TAKE:
            return take_strokes(self.scene)
        return answer is not None

    def _confirm_empty(self) -> bool:
        labels, index = self.scene.labels, self.scene.slice
        assert labels is not None
        if take_slices(labels.data, index, PLANE_AXIS[self.scene.plane]).any():
            return True
        if self.session.knows_empty:
            self.session.note.emit(f"Slice {index} is done and empty. Mark it again to undo this.")
            return True
        answer = ask_choice(
            self.parent,
            f"Slice {index} has no labels. Is it really free of every structure?",
            [EMPTY],
            more=f"{HELD_OUT if self.session.held_out else TRAINED} This question comes once.",
            name="ask-empty",
        )
        self.session.knows_empty = answer == EMPTY
        return answer == EMPTY


def take_strokes(scene: "Scene") -> bool:
    """Take strokes on other layers over into the labels of the scan, and say so.

    Returns whether there is a structure that they can become.
    """
    if not scene.paintable:
        scene.session.note.emit("Add the structure first that you have drawn; nothing was changed.")
        return False
    layers = list(dict.fromkeys([*scene.strokes.on_slice(), *scene.strokes.painted]))
    names = ", ".join(f"“{layer.name}”" for layer in layers)
    counts = scene.strokes.take(layers)
    taken = ", ".join(
        f"{plural(count, 'voxel')} {scene.class_names.get(value, f'class {value}')}"
        for value, count in counts.items()
    )
    scene.session.note.emit(
        f"{names} became labels of {scene.session.current}: {taken or 'no voxel'}. Ctrl+Z undoes "
        "it; the brush paints on the labels of the scan again."
    )
    return True
