"""Mark a slice as done again when the acceptance that unmarked it is undone. Needs no Qt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from napari_sslseg.gui.inspect.accepted_marks import Key, hash_labels, shown_slice

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene


@dataclass
class _Acceptance:
    """An acceptance on a slice that was done.

    Attributes
    ----------
    before, after : bytes
        Hashes of the labels of the slice.
    undone : bool
        Whether it was undone, so that the slice is done again.
    """

    before: bytes
    after: bytes
    undone: bool = False


class UndoneMarks:
    """Keeps the mark of a slice in step with undo and redo of an acceptance.

    Attributes
    ----------
    restored : Signal of int
        This slice of the current scan is done again.
    """

    restored = Signal(int)

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self._acceptances: dict[Key, list[_Acceptance]] = {}
        session.project_changed.connect(self._forget_all)
        session.labels_replaced.connect(self._forget_scan)
        scene.autosaver.changed.connect(self._update)

    def note(self, index: int, before: np.ndarray) -> None:
        """Note that an acceptance unmarked a slice with these labels before."""
        project, now = self.session.project, shown_slice(self.scene, index)
        if project is not None and now is not None:
            key = (self.session.current, project.plane, index)
            found = _Acceptance(hash_labels(before), hash_labels(now))
            others = [i for i in self._acceptances.get(key, []) if i.before != found.before]
            self._acceptances[key] = [*others, found]

    def _update(self) -> None:
        project = self.session.project
        if project is None:
            return
        here = (self.session.current, project.plane)
        for (*place, index), found in list(self._acceptances.items()):
            shown = shown_slice(self.scene, index) if tuple(place) == here else None
            if shown is None:
                continue
            now = hash_labels(shown)
            for item in found:
                self._compare(index, item, now)

    def _compare(self, index: int, item: _Acceptance, now: bytes) -> None:
        done = bool(self.scene.autosaver.done[index])
        if now == item.before and not item.undone:
            item.undone = True
            if not done:
                self.scene.autosaver.mark([index])
                self.restored.emit(index)
        elif now == item.after and item.undone:
            item.undone = False
            if done:
                self.scene.autosaver.mark([index], done=False)

    def _forget_all(self) -> None:
        self._acceptances.clear()

    def _forget_scan(self, name: str) -> None:
        for key in [key for key in self._acceptances if key[0] == name]:
            del self._acceptances[key]
