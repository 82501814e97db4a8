"""Layers of what runs say about the current scan: labels, uncertainty, errors, differences.

All lie below the labels of a person, but for the maps of errors, which are there to be seen; none
can be painted on. Needs no Qt.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.gui.model.predictions import Predicted
from napari_sslseg.gui.viewer.scene import ROLE

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

Shown = Literal["first", "second", "difference"]
COLOURS = ("#ff4dff", "#35e0ff", "#ffe119")
ERROR_WORDS = ("missed", "too much", "another structure")
DIFFERENCE_WORDS = ("in run A alone", "in run B alone", "another structure")


class PredictionLayers:
    """Shows predictions that are in memory, as somebody wants to see them.

    Attributes
    ----------
    first, second : str
        Runs; empty for none.
    shown : {"first", "second", "difference"}
        What the layer of the prediction shows.
    overlay, contour, uncertainty, errors : bool
        Whether the prediction is shown, as outlines, how unsure it is, and where it differs from
        the labels of slices that are done.
    """

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self.first = self.second = ""
        self.shown: Shown = "first"
        self.overlay, self.contour, self.uncertainty, self.errors = True, False, False, False
        self._layers: dict[str, tuple[Any, Any]] = {}
        session.predictions.changed.connect(lambda run, scan: self.refresh())
        session.done_changed.connect(lambda name: self._compare())
        scene.changed.connect(self.refresh)
        scene.front_changed.connect(self._give_way)
        scene.moved.connect(lambda _: self._compare())

    @property
    def run(self) -> str:
        """The run whose prediction is looked at, and accepted."""
        return self.second if self.shown == "second" and self.second else self.first

    def predicted(self, run: str | None = None) -> Predicted | None:
        """What a run, or the one that is looked at, says about the current scan."""
        return self.session.predictions.get(run or self.run, self.session.current)

    def refresh(self) -> None:
        """Show what is wanted, as far as it is there."""
        found = self.predicted() if self.scene.image is not None else None
        prediction = self._keep(
            "prediction", (found, self.run) if found is not None else None, self._add_prediction
        )
        if prediction is not None:
            prediction.contour = int(self.contour)
        self._give_way()
        doubt = (found,) if found is not None and self.uncertainty else None
        self._keep("uncertainty", doubt, self._add_uncertainty)
        errors = (found,) if found is not None and self.errors else None
        self._keep("errors", errors, self._add_errors)
        other = self.predicted(self.second) if self._difference else None
        both = (found, other) if found is not None and other is not None else None
        self._keep("difference", both, self._add_difference)
        self._compare()

    @property
    def _difference(self) -> bool:
        return self.shown == "difference" and bool(self.second)

    def _give_way(self) -> None:
        layer = self._layers.get("prediction", (None, None))[1]
        if layer is not None:
            hidden = self._difference or self.scene.hides("prediction")
            layer.visible = self.overlay and not hidden

    def _keep(self, key: str, of: tuple[Any, ...] | None, add: Any) -> Any:
        """Keep a layer if it still shows the same, else make it anew, or take it away."""
        before, layer = self._layers.get(key, (None, None))
        there = layer is not None and layer in self.scene.viewer.layers
        if there and of is not None and before is not None and _same(before, of):
            return layer
        if there:
            self.scene.viewer.layers.remove(layer)
        self._layers.pop(key, None)
        if of is None:
            return None
        selected = set(self.scene.viewer.layers.selection)
        layer = add(*of)
        self.scene.viewer.layers.selection = selected
        self._layers[key] = (of, layer)
        return layer

    def _add_prediction(self, found: Predicted, run: str) -> Any:
        return self.scene.add_prediction(found.labels, f"prediction of {run}")

    def _add_uncertainty(self, found: Predicted) -> Any:
        image = self.scene.image
        assert image is not None
        layer = self.scene.viewer.add_image(
            found.uncertainty,
            **self._place("how unsure", "uncertainty"),
            colormap="inferno",
            contrast_limits=(0, 1),
            blending="additive",
            opacity=0.7,
        )
        self.scene.own(layer)
        layers = self.scene.viewer.layers
        layers.move(layers.index(layer), layers.index(image) + 1)
        return layer

    def _add_errors(self, found: Predicted) -> Any:
        return self._add_map("errors on done slices", ERROR_WORDS)

    def _add_difference(self, first: Predicted, second: Predicted) -> Any:
        return self._add_map("difference of the two", DIFFERENCE_WORDS)

    def _add_map(self, name: str, words: tuple[str, ...]) -> Any:
        from napari.utils.colormaps import direct_colormap

        image = self.scene.image
        assert image is not None
        colours: dict[int | None, str] = {0: "transparent", None: "transparent"}
        layer = self.scene.viewer.add_labels(
            np.zeros(image.data.shape, np.uint8),
            **self._place(name, "errors"),
            opacity=0.9,
            colormap=direct_colormap(colours | dict(enumerate(COLOURS, start=1))),
            features={"index": [0, 1, 2, 3], "class": ["alike", *words]},
        )
        layer.editable = False
        return self.scene.own(layer)

    def _place(self, name: str, role: str) -> dict[str, Any]:
        image = self.scene.image
        assert image is not None
        return {
            "name": name,
            "scale": image.scale,
            "translate": image.translate,
            "units": image.units,
            "axis_labels": image.axis_labels,
            "metadata": {ROLE: role},
        }

    def _compare(self) -> None:
        """Fill the maps on the slice that is looked at; all slices would take too long."""
        project, labels, found = self.session.project, self.scene.labels, self.predicted()
        if project is None or labels is None or found is None:
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        ours = np.take(found.labels, index, axis)
        if index in project.done(self.session.current):
            truth = np.take(np.asarray(labels.data), index, axis)
            self._fill("errors", axis, index, compared(truth, ours))
        else:
            self._fill("errors", axis, index, np.zeros_like(ours))
        second = self.predicted(self.second) if self.second else None
        if second is not None:
            theirs = np.take(second.labels, index, axis)
            self._fill("difference", axis, index, compared(ours, theirs))

    def _fill(self, key: str, axis: int, index: int, values: np.ndarray) -> None:
        layer = self._layers.get(key, (None, None))[1]
        if layer is None or layer not in self.scene.viewer.layers:
            return
        where: list[Any] = [slice(None)] * 3
        where[axis] = index
        layer.data[tuple(where)] = values
        layer.refresh()


def compared(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where labels differ: 1 in the one alone, 2 in the other alone, 3 another structure."""
    found = np.zeros(one.shape, np.uint8)
    differs = one != other
    found[differs & (other == 0)] = 1
    found[differs & (one == 0)] = 2
    found[differs & (one != 0) & (other != 0)] = 3
    return found


def _same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(
        a is b or a == b for a, b in zip(before, now, strict=True)
    )
