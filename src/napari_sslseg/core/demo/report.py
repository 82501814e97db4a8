"""Picture of the report: training curves, Dice per class, predictions and true labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"scratch": "#6b7280", "pretrained": "#0f766e", "self-trained": "#7c3aed"}
# Distinguishable on grey, also with most colour vision deficiencies (Okabe and Ito).
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")


@dataclass
class Overlay:
    """One slice of a test scan, with its true labels and the predictions by arm."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    aspect: float
    axis: int
    index: int
    predictions: dict[str, tuple[np.ndarray, float | None]] = field(default_factory=dict)

    def add(self, arm: str, labels: np.ndarray, dice: float | None) -> None:
        """Add the same slice of a prediction (display grid), and the Dice of the whole volume."""
        self.predictions[arm] = (np.take(labels, self.index, self.axis).copy(), dice)


def largest_slice(scan: Volume, truth: Volume, settings: AnyPreprocessing) -> Overlay:
    """Take the slice with the most labelled pixels."""
    axis = PLANE_AXIS[settings.plane]
    labels = np.moveaxis(truth.data, axis, 0)
    index = int((labels > 0).sum(axis=(1, 2)).argmax())
    rows, columns = (scan.spacing[a] for a in range(3) if a != axis)
    image = np.take(scan.data, index, axis).astype(np.float32)
    return Overlay(scan.name, image, labels[index].copy(), rows / columns, axis, index)


def draw_report(
    report: Mapping[str, Any],
    pretraining: Sequence[Mapping[str, float]],
    curves: Mapping[str, Sequence[Sequence[float]]],
    overlays: Sequence[Overlay],
) -> "Figure":
    """Draw the report.

    Parameters
    ----------
    report : mapping
        As written to ``report.json``.
    pretraining : sequence of mapping
        Rows of the pretraining's metrics.
    curves : mapping
        Training losses by arm, one sequence per repeat.
    overlays : sequence of Overlay
        Test scans; those with the lowest, median and highest Dice of the last arm are drawn.
    """
    from matplotlib.figure import Figure

    shown = _worst_middle_best(overlays)
    figure = Figure(figsize=(12, 4.2 + 2.9 * len(shown)), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[4.2, max(0.1, 2.9 * len(shown))])
    top, bottom = parts
    axes = top.subplots(1, 3)
    _pretraining_curve(axes[0], pretraining)
    _finetuning_curves(axes[1], curves)
    _dice_bars(axes[2], report["arms"], report["dataset"]["class_names"])
    dataset = report["dataset"]
    top.suptitle(
        f"{dataset['name']}: {dataset['volumes']} scans, {len(report['test_volumes'])} of them "
        "held out for the test",
        fontsize=13,
    )
    if shown:
        grid = bottom.subplots(len(shown), 2 + len(shown[0][1].predictions), squeeze=False)
        classes = dataset["classes"]
        for row, (rank, overlay) in zip(grid, shown, strict=True):
            _overlay_row(row, rank, overlay, classes)
    return figure


def _pretraining_curve(axes: "Axes", rows: Sequence[Mapping[str, float]]) -> None:
    steps = [row["step"] for row in rows if "loss" in row]
    losses = [row["loss"] for row in rows if "loss" in row]
    axes.plot(steps, _smooth(losses), color=COLOURS["pretrained"], label="training (smoothed)")
    watched = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
    if watched:
        axes.plot(
            *zip(*watched, strict=True), "o-", ms=3, color="#b45309", label="held-out subjects"
        )
    axes.set(
        title="Pretraining without labels", xlabel="step", ylabel="restoration loss", yscale="log"
    )
    axes.legend(frameon=False)


def _finetuning_curves(axes: "Axes", curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    styles = ("-", "--", ":", "-.")
    counts = list(dict.fromkeys(name.split(", ")[1] for name in curves))
    for name, repeats in curves.items():
        arm, count = name.split(", ")
        mean = _smooth(np.mean([np.asarray(losses) for losses in repeats], axis=0))
        style = styles[counts.index(count) % len(styles)]
        axes.plot(np.arange(1, len(mean) + 1), mean, style, color=COLOURS[arm], label=name)
    axes.set(title="Fine-tuning", xlabel="step", ylabel="training loss (smoothed)")
    if any(name.startswith("self-trained") for name in curves):
        axes.set_xlabel("step; the loss of self-training is added when it begins", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _dice_bars(
    axes: "Axes", arms: Sequence[Mapping[str, Any]], class_names: Mapping[str, str]
) -> None:
    """Draw bars of each class and the mean, for the most labelled volumes; a dot per repeat."""
    most = max(arm["labelled_volumes"] for arm in arms)
    shown = [arm for arm in arms if arm["labelled_volumes"] == most]
    names = [*shown[0]["dice"], "mean"]
    kinds = list(dict.fromkeys(arm["arm"] for arm in shown))
    width = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        values = np.array(
            [
                [arm["mean"] if name == "mean" else arm["dice"][name] for name in names]
                for arm in shown
                if arm["arm"] == kind
            ],
            dtype=float,
        )
        places = np.arange(len(names)) + (number - (len(kinds) - 1) / 2) * width
        mean = np.nanmean(values, axis=0)
        axes.bar(places, mean, width * 0.95, color=COLOURS[kind], label=kind)
        for row in values:
            axes.plot(places, row, "o", ms=3, color="white", mec="black", mew=0.6)
        for x, y in zip(places, mean, strict=True):
            axes.text(
                x, max(y, 0) + 0.03, f"{y:.2f}", ha="center", va="bottom", fontsize=7, rotation=90
            )
    axes.set(
        title=f"Dice on test scans, {most} labelled",
        ylim=(0, 1.25),
        yticks=np.linspace(0, 1, 6),
        xticks=range(len(names)),
        xticklabels=[
            "mean" if name == "mean" else class_names.get(name, f"class {name}") for name in names
        ],
    )
    if len(names) > 4:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right")
    axes.legend(
        frameon=False,
        ncols=len(kinds),
        loc="upper left",
        fontsize=8,
        columnspacing=1,
        handlelength=1.2,
    )


def _overlay_row(
    row: Sequence["Axes"], rank: str, overlay: Overlay, classes: Sequence[int]
) -> None:
    low, high = np.percentile(overlay.image, (1, 99.5))
    titles = [f"{overlay.name} ({rank})", "labels"]
    layers: list[np.ndarray | None] = [None, overlay.truth]
    for arm, (predicted, dice) in overlay.predictions.items():
        titles.append(f"{arm}: Dice {dice:.2f}" if dice is not None else f"{arm}: no Dice")
        layers.append(predicted)
    for axes, title, labels in zip(row, titles, layers, strict=True):
        axes.imshow(
            overlay.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=overlay.aspect
        )
        if labels is not None:
            axes.imshow(
                _colour_labels(labels, classes), aspect=overlay.aspect, interpolation="nearest"
            )
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()


def _colour_labels(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """RGBA image of a label map, 55 % opaque."""
    from matplotlib.colors import to_rgba

    image = np.zeros((*labels.shape, 4))
    for number, value in enumerate(classes):
        image[labels == value] = to_rgba(CLASS_COLOURS[number % len(CLASS_COLOURS)], 0.55)
    return image


def _worst_middle_best(overlays: Sequence[Overlay]) -> list[tuple[str, Overlay]]:
    """Choose three test scans by the Dice of the last arm, not only good ones."""

    def dice(overlay: Overlay) -> float:
        value = list(overlay.predictions.values())[-1][1]
        return -1.0 if value is None else value

    order = sorted(overlays, key=dice)
    if len(order) < 3:
        return [("test scan", overlay) for overlay in order]
    return [("worst", order[0]), ("middle", order[len(order) // 2]), ("best", order[-1])]


def _smooth(values: Sequence[float] | np.ndarray, width: int = 15) -> np.ndarray:
    """Moving average over the last ``width`` values."""
    values = np.asarray(values, float)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    start = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    stop = np.arange(1, len(values) + 1)
    return (sums[stop] - sums[start]) / (stop - start)
