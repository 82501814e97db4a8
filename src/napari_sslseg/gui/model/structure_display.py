"""Which structures are visible, and how opaque each one is. The project remembers it."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sslseg.core.project.record import UNKNOWN_VALUE

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session_base import SessionBase

MEMORY = "structures"


@dataclass(frozen=True)
class Look:
    """How a structure is drawn.

    Attributes
    ----------
    hidden : bool
        Whether it is not drawn.
    opacity : float
        0 to 1, times the opacity of all labels.
    """

    hidden: bool = False
    opacity: float = 1.0

    @property
    def alpha(self) -> float:
        """Opacity of what is drawn."""
        return 0.0 if self.hidden else self.opacity


class StructureDisplay:
    """Looks of structures, by their values. They change no label.

    Parameters
    ----------
    session : SessionBase
        Session whose project remembers them.

    Attributes
    ----------
    changed : Signal
        A structure was hidden, shown, or has another opacity.
    """

    changed = Signal()

    def __init__(self, session: "SessionBase") -> None:
        self._session = session
        self._looks: dict[int, Look] = {}
        session.project_changed.connect(self._recall)
        session.classes_changed.connect(self._forget_removed)

    def look(self, value: int) -> Look:
        """How a structure is drawn."""
        return self._looks.get(value, Look())

    @property
    def any_hidden(self) -> bool:
        """Whether a structure is hidden."""
        return any(look.hidden for look in self._looks.values())

    def hide(self, value: int, hidden: bool = True) -> None:
        """Hide or show a structure."""
        self._set(value, replace(self.look(value), hidden=hidden))

    def set_opacity(self, value: int, opacity: float) -> None:
        """Set the opacity of a structure, 0 to 1."""
        self._set(value, replace(self.look(value), opacity=opacity))

    def _set(self, value: int, look: Look) -> None:
        if look != self.look(value):
            self._looks[value] = look
            self._remember()
            self.changed.emit()

    def _remember(self) -> None:
        project = self._session.project
        kept = {str(value): asdict(look) for value, look in self._looks.items() if look != Look()}
        if project is not None:
            self._session.attempt(lambda: project.remember(MEMORY, kept or None))

    def _recall(self) -> None:
        project = self._session.project
        found = project.recall(MEMORY, {}) if project is not None else {}
        self._looks = {
            int(key): look
            for key, kept in found.items()
            if key.isdecimal() and (look := _read(kept)) is not None
        }

    def _forget_removed(self) -> None:
        """A new structure may get the value of one that was removed."""
        project = self._session.project
        there = {item.value for item in project.classes} if project is not None else set()
        removed = set(self._looks) - there - {UNKNOWN_VALUE}
        for value in removed:
            del self._looks[value]
        if removed:
            self._remember()


def _read(kept: Any) -> Look | None:
    """Read a look, which another program may have written."""
    if not isinstance(kept, dict):
        return None
    hidden, opacity = kept.get("hidden", False), kept.get("opacity", 1.0)
    if not isinstance(hidden, bool) or isinstance(opacity, bool):
        return None
    if not isinstance(opacity, int | float) or not 0 <= opacity <= 1:
        return None
    return Look(hidden, float(opacity))
