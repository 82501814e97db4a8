"""Which structures are visible, locked, and how opaque. The project remembers it."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sslseg.core.project.record import UNKNOWN_VALUE

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session_base import SessionBase

MEMORY = "structures"


@dataclass(frozen=True)
class StructureState:
    """How a structure is drawn, and whether strokes may change it.

    Attributes
    ----------
    hidden : bool
        Whether it is not drawn. What is not seen may not be changed either.
    locked : bool
        Whether strokes may not change it.
    opacity : float
        0 to 1, times the opacity of all labels.
    """

    hidden: bool = False
    locked: bool = False
    opacity: float = 1.0

    @property
    def alpha(self) -> float:
        """Opacity of what is drawn."""
        return 0.0 if self.hidden else self.opacity


class StructureStates:
    """States of structures, by their values. They change no label.

    Parameters
    ----------
    session : SessionBase
        Session whose project remembers them.

    Attributes
    ----------
    changed : Signal
        A structure was hidden, shown, locked, unlocked, or has another opacity.
    """

    changed = Signal()

    def __init__(self, session: "SessionBase") -> None:
        self._session = session
        self._states: dict[int, StructureState] = {}
        session.project_changed.connect(self._recall)
        session.classes_changed.connect(self._forget_removed)

    def state(self, value: int) -> StructureState:
        """State of a structure."""
        return self._states.get(value, StructureState())

    @property
    def protected(self) -> frozenset[int]:
        """Values that strokes may not change: those of locked and of hidden structures."""
        states = self._states.items()
        return frozenset(value for value, state in states if state.locked or state.hidden)

    def hide(self, value: int, hidden: bool = True) -> None:
        """Hide or show a structure."""
        self._set(value, replace(self.state(value), hidden=hidden))

    def lock(self, value: int, locked: bool = True) -> None:
        """Lock or unlock a structure."""
        self._set(value, replace(self.state(value), locked=locked))

    def set_opacity(self, value: int, opacity: float) -> None:
        """Set the opacity of a structure, 0 to 1."""
        self._set(value, replace(self.state(value), opacity=opacity))

    def _set(self, value: int, state: StructureState) -> None:
        if state != self.state(value):
            self._states[value] = state
            self._remember()
            self.changed.emit()

    def _remember(self) -> None:
        kept = {
            str(value): asdict(state)
            for value, state in self._states.items()
            if state != StructureState()
        }
        self._session.remember(MEMORY, kept or None)

    def _recall(self) -> None:
        project = self._session.project
        found = project.recall(MEMORY, {}) if project is not None else {}
        self._states = {
            int(key): state
            for key, kept in found.items()
            if key.isdecimal() and (state := _read(kept)) is not None
        }

    def forget(self, *values: int) -> None:
        """Forget structures that were removed; a new one may get their values."""
        for value in values:
            self._states.pop(value, None)
        if values:
            self._remember()

    def _forget_removed(self) -> None:
        project = self._session.project
        there = {item.value for item in project.classes} if project is not None else set()
        self.forget(*(set(self._states) - there - {UNKNOWN_VALUE}))


def _read(kept: Any) -> StructureState | None:
    """Read a state, which another program may have written."""
    if not isinstance(kept, dict):
        return None
    hidden, locked = kept.get("hidden", False), kept.get("locked", False)
    opacity = kept.get("opacity", 1.0)
    if not all(isinstance(flag, bool) for flag in (hidden, locked)) or isinstance(opacity, bool):
        return None
    if not isinstance(opacity, int | float) or not 0 <= opacity <= 1:
        return None
    return StructureState(hidden, locked, float(opacity))
