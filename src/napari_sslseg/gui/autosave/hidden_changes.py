"""Report changes on slices that are not shown. Needs no Qt.

Undo in napari works on the whole volume. It can change a finished slice that is not shown, which
would then be used for training with wrong labels.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_sslseg.gui.autosave.protocol import LabelScene
from napari_sslseg.gui.text import plural

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session

MOST_NAMED = 8


def report_hidden_changes(
    session: "Session",
    scene: LabelScene,
    done: np.ndarray,
    unmark: Callable[[Sequence[int]], None],
    changed: Sequence[int],
) -> None:
    """Unmark done slices that were changed while hidden, and show the slice if it is only one.

    Parameters
    ----------
    session : Session
        Shows the note.
    scene : LabelScene
        Shows the slice.
    done : ndarray of bool
        Whether each slice along the plane is done.
    unmark : callable
        Marks slices as not done.
    changed : sequence of int
        Slices that undo, redo, a tool, or a stroke through several slices changed, along the plane.
    """
    hidden = [index for index in changed if index != scene.slice or not scene.in_plane]
    done_hidden = [index for index in hidden if done[index]]
    if not hidden:
        return
    if done_hidden:
        unmark(done_hidden)
    if len(changed) == 1 and scene.in_plane:
        scene.go_to(hidden[0])
        sentence = f"Undo or redo changed slice {hidden[0]}, which is shown now"
        if done_hidden:
            sentence += "; it is no longer done: mark it again when it is correct"
    elif done_hidden:
        numbers = ", ".join(map(str, done_hidden[:MOST_NAMED]))
        numbers += " …" if len(done_hidden) > MOST_NAMED else ""
        sentence = (
            f"A stroke, a tool, undo or redo changed {plural(len(hidden), 'slice')} beside the one "
            f"that is shown. No longer done: {numbers}. Mark again what is correct"
        )
    else:
        return
    session.note.emit(f"{sentence}.")
