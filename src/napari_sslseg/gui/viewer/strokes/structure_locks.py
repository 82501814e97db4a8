"""Locked structures, which no stroke paints over or erases. Needs no Qt.

napari can keep all other labels or none of them, and its methods that change voxels have no hook.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

if TYPE_CHECKING:
    from napari_sslseg.gui.viewer.shown_scan import ShownScan

KEPT = "{name} is {why}, so it is not changed; click its {sign} in step 3 to change it again."


class StructureLocks:
    """Keeps the voxels of locked and hidden structures in the labels of the scan.

    It holds for tools, for predictions that are accepted and for strokes that are taken over. Undo
    and redo are not affected.
    """

    def __init__(self, scene: "ShownScan") -> None:
        self.scene, self.states = scene, scene.session.structures
        self._guarded: WeakSet[Any] = WeakSet()
        self._said: frozenset[int] = frozenset()
        scene.changed.connect(self._guard)
        self.states.changed.connect(self._forget)

    def _guard(self) -> None:
        layer = self.scene.labels
        if layer is None or layer in self._guarded:
            return
        self._guarded.add(layer)
        layer.data_setitem = self._voxels(layer, layer.data_setitem)
        # Before napari 0.9, all strokes go through the method above.
        if hasattr(layer, "_apply_mask_to_data"):
            layer._apply_mask_to_data = self._mask(layer._apply_mask_to_data)

    def _voxels(self, layer: Any, change: Callable[..., None]) -> Callable[..., None]:
        def change_free(indices: Any, value: Any, refresh: bool = True) -> None:
            if self.states.protected:
                free = ~self._kept(np.asarray(layer.data[indices]), value)
                indices = tuple(axis[free] for axis in indices)
                value = np.asarray(value)[free] if np.ndim(value) else value
            change(indices, value, refresh)

        return change_free

    def _mask(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def change_free(now: np.ndarray, mask: np.ndarray, value: int, place: Any) -> Any:
            if self.states.protected:
                mask = mask & ~self._kept(now, value, mask)
            return change(now, mask, value, place)

        return change_free

    def _kept(self, now: np.ndarray, value: Any, where: Any = True) -> np.ndarray:
        """Where a change to a value is refused, of the voxels that it would change."""
        kept = np.isin(now, list(self.states.protected)) & (now != value) & where
        if kept.any():
            self._say(frozenset(np.unique(now[kept]).tolist()))
        return kept

    def _say(self, values: frozenset[int]) -> None:
        """Say it once, until other structures are locked."""
        new = values - self._said
        self._said |= values
        for value in sorted(new):
            name = self.scene.class_names.get(value, str(value))
            locked = self.states.state(value).locked
            why, sign = ("locked", "padlock") if locked else ("hidden", "eye")
            self.scene.session.note.emit(KEPT.format(name=name, why=why, sign=sign))

    def _forget(self) -> None:
        self._said = frozenset()
