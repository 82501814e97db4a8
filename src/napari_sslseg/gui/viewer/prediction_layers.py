"""Layers of predictions of the current scan: labels, uncertainty, errors, differences.

They lie below the labels of the user, except the error maps, which lie on top. None of them can be
painted on. Needs no Qt.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.project.record import UNKNOWN_VALUE
from napari_sslseg.core.scans.volume import take_slices
from napari_sslseg.gui.model.predictions import Predicted, only_values
from napari_sslseg.gui.viewer.scene import ROLE, draw_prediction, show_layer

if TYPE_CHECKING:
    from napari_sslseg.gui.model.session import Session
    from napari_sslseg.gui.viewer.scene import Scene

Shown = Literal["first", "second", "difference"]
COLOURS = ("#ff4dff", "#35e0ff", "#ffe119")
ERROR_WORDS = ("missed", "too much", "another structure")
DIFFERENCE_WORDS = ("in run A only", "in run B only", "another structure")


class PredictionLayers:
    """Shows cached predictions, as chosen in step 5.

    Attributes
    ----------
    first, second : str
        Names of the runs; empty for none.
    shown : {"first", "second", "difference"}
        What the prediction layer shows.
    maps_shown : bool
        Whether maps of differences, errors and uncertainty are visible, which cover what one
        labels.
    contour, uncertainty, errors : bool
        Whether to show the prediction as outlines, show its uncertainty, and show where it differs
        from the labels of done slices.
    """

    def __init__(self, session: "Session", scene: "Scene") -> None:
        self.session, self.scene = session, scene
        self.first = self.second = ""
        self.shown: Shown = "first"
        self.contour, self.uncertainty, self.errors = True, False, False
        self.maps_shown = True
        self._layers: dict[str, tuple[Any, Any]] = {}
        session.predictions.changed.connect(self._predicted)
        session.done_changed.connect(lambda name: self._compare())
        session.classes_changed.connect(self._compare)
        scene.changing.connect(self._keep)
        scene.changed.connect(self.refresh)
        scene.front_changed.connect(self._show_again)
        scene.viewer.layers.events.removed.connect(self._removed)
        scene.moved.connect(lambda _: self._compare())

    @property
    def run(self) -> str:
        """The run whose prediction is shown, and can be accepted."""
        return self.second if self.shown == "second" and self.second else self.first

    def predicted(self, run: str | None = None) -> Predicted | None:
        """Return the prediction of the current scan by a run, by default the shown run."""
        return self.session.predictions.get(run or self.run, self.session.current)

    def _predicted(self, run: str, scan: str) -> None:
        """Show a new prediction if it is of the current scan, or remove all that were dropped."""
        if not run or (scan == self.session.current and run in (self.first, self.second)):
            self.refresh()

    def _keep(self) -> None:
        """Keep the layer of the prediction if the next scan has one, too."""
        layer = self._layers.get("prediction", (None, None))[1]
        if layer is not None and self.predicted() is not None:
            self.scene.keep(layer)

    def refresh(self) -> None:
        """Show the chosen layers, if the predictions are available."""
        found = self.predicted() if self.scene.image is not None else None
        prediction = self._layer(
            "prediction", (found, self.run) if found is not None else None, self._add_prediction
        )
        if prediction is not None:
            draw_prediction(prediction, self.contour)
        self._update_visibility()
        uncertain = (found,) if found is not None and self.uncertainty else None
        self._layer("uncertainty", uncertain, self._add_uncertainty)
        errors = (found,) if found is not None and self.errors else None
        self._layer("errors", errors, self._add_errors)
        other = self.predicted(self.second) if self.compares else None
        both = (found, other) if found is not None and other is not None else None
        self._layer("difference", both, self._add_difference)
        self._update_visibility()
        self._compare()

    @property
    def compares(self) -> bool:
        """Whether the difference of two runs is shown, from which nothing can be accepted."""
        return self.shown == "difference" and bool(self.second)

    @property
    def missing(self) -> list[str]:
        """Runs that are to be shown, but have not predicted the current scan."""
        if self.scene.image is None:
            return []
        runs = [self.first, self.second] if self.compares else [self.run]
        return [run for run in runs if run and self.predicted(run) is None]

    def _show_again(self) -> None:
        """Show or hide the layers; a prediction that was deleted in napari comes back."""
        layer = self._layers.get("prediction", (None, None))[1]
        gone = layer is not None and layer not in self.scene.viewer.layers
        if gone and self.scene.predictions_shown:
            self.refresh()
        else:
            self._update_visibility()

    def _removed(self, event: Any) -> None:
        """A prediction that the user deletes in napari is not shown any more."""
        own = event.value is self._layers.get("prediction", (None, None))[1]
        if own and self.scene.image is not None:  # The scene removes all layers of a scan.
            self.scene.show_predictions(False)

    def _update_visibility(self) -> None:
        difference = self.compares and self.maps_shown
        for key, (_, layer) in self._layers.items():
            if key == "prediction":
                show_layer(layer, not (difference or self.scene.hides("prediction")))
            else:
                show_layer(layer, self.maps_shown and self.scene.predictions_shown)

    def show_maps(self, shown: bool) -> None:
        """Show or hide maps of differences, errors and uncertainty."""
        self.maps_shown = shown
        self._update_visibility()

    def _layer(self, key: str, content: tuple[Any, ...] | None, add: Any) -> Any:
        """Return the layer of a key: keep it if its content is the same, else replace or remove it.

        Parameters
        ----------
        key : str
            Kind of layer.
        content : tuple or None
            What it shows; None removes it.
        add : callable
            Adds a layer with the content.
        """
        before, layer = self._layers.get(key, (None, None))
        exists = layer is not None and layer in self.scene.viewer.layers
        if exists and content is not None and before is not None and _same(before, content):
            return layer
        self._layers.pop(key, None)
        # The layer of the prediction stays for another prediction.
        if exists and (content is None or key != "prediction"):
            self.scene.viewer.layers.remove(layer)
            self.scene.front_changed.emit()
        if content is None:
            return None
        selected = set(self.scene.viewer.layers.selection)
        layer = add(*content)
        self.scene.viewer.layers.selection = selected
        self._layers[key] = (content, layer)
        return layer

    def _add_prediction(self, found: Predicted, run: str) -> Any:
        return self.scene.add_prediction(found.labels, f"prediction of {run}")

    def _add_uncertainty(self, found: Predicted) -> Any:
        image = self.scene.image
        assert image is not None
        layer = self.scene.viewer.add_image(
            found.uncertainty,
            **self._settings("uncertainty", "uncertainty"),
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
        return self._add_map("difference of the runs", DIFFERENCE_WORDS)

    def _add_map(self, name: str, words: tuple[str, ...]) -> Any:
        from napari.utils.colormaps import direct_colormap

        image = self.scene.image
        assert image is not None
        colours: dict[int | None, str] = {0: "transparent", None: "transparent"}
        layer = self.scene.viewer.add_labels(
            np.zeros(image.data.shape, np.uint8),
            **self._settings(name, "errors"),
            opacity=0.9,
            colormap=direct_colormap(colours | dict(enumerate(COLOURS, start=1))),
            features={"index": [0, 1, 2, 3], "class": ["same", *words]},
        )
        layer.editable = False
        return self.scene.own(layer)

    def _settings(self, name: str, role: str) -> dict[str, Any]:
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
        """Fill the maps on the current slice; all slices would take too long."""
        project, labels, found = self.session.project, self.scene.labels, self.predicted()
        if project is None or labels is None or found is None:
            return
        axis, index = PLANE_AXIS[self.scene.plane], self.scene.slice
        known = [*project.class_names, UNKNOWN_VALUE]
        ours = only_values(take_slices(found.labels, index, axis), known)
        if index in project.done(self.session.current):
            truth = take_slices(labels.data, index, axis)
            errors = label_differences(truth, ours)
            errors[truth == UNKNOWN_VALUE] = 0
            self._fill("errors", axis, index, errors)
        else:
            self._fill("errors", axis, index, np.zeros_like(ours))
        second = self.predicted(self.second) if self.second else None
        if second is not None:
            theirs = only_values(take_slices(second.labels, index, axis), known)
            self._fill("difference", axis, index, label_differences(ours, theirs))

    def _fill(self, key: str, axis: int, index: int, values: np.ndarray) -> None:
        layer = self._layers.get(key, (None, None))[1]
        if layer is None or layer not in self.scene.viewer.layers:
            return
        where: list[Any] = [slice(None)] * 3
        where[axis] = index
        layer.data[tuple(where)] = values
        layer.refresh()


def label_differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mark where labels differ: 1 only in ``one``, 2 only in ``other``, 3 another structure."""
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
