"""Shows and tells what changed on slices that nobody looks at. Needs no Qt.

Undo of napari works wherever something was drawn, so it can take back what is on a finished slice
out of sight, which then would go on to be learnt from.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sslseg.gui.model.words import many

if TYPE_CHECKING:
    from napari_sslseg.gui.autosave.keeper import LabelKeeper
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene


def tell_hidden(
    session: "Session", scene: "Scene", keeper: "LabelKeeper", changed: Sequence[int]
) -> None:
    """Go to a slice that was changed out of sight, and unmark those that were done.

    Parameters
    ----------
    session, scene, keeper
        What is shown.
    changed : sequence of int
        Slices that undo, redo or another tool changed, along the plane.
    """
    hidden = [index for index in changed if index != scene.slice]
    done = [index for index in hidden if keeper.done[index]]
    if not hidden:
        return
    if done:
        keeper.mark(done, False)
    if len(changed) == 1:
        scene.go_to(hidden[0])
        what = f"Slice {hidden[0]} was changed, by undo or redo, and is shown now"
    elif done:
        what = f"{many(len(hidden), 'slice')} out of sight were changed, by undo, redo or a tool"
    else:
        return
    if done:
        which = ", ".join(map(str, done[:8])) + (" …" if len(done) > 8 else "")
        what += (
            "; it is no longer done: mark it again when it is right"
            if len(changed) == 1
            else f"; no longer done: {which}. Mark them again when they are right"
        )
    session.note.emit(f"{what}.")
