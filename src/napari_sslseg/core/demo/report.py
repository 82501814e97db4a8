"""Picture of the report: training curves, Dice per class, predictions and true labels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.demo.comparison import MEAN, by_patient, with_most_labels
from napari_sslseg.core.demo.overlays import DrawnSlice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"scratch": "#6b7280", "pretrained": "#0f766e", "self-trained": "#7c3aed"}
# Distinguishable on grey, also with most colour vision deficiencies (Okabe and Ito).
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#f0e442", "#0072b2")

LINE, CHARTS, ROW = 0.24, 7.0, 2.7
"""Heights in inches: of a sentence, the charts, and a row of pictures."""

MOST_NAMES = 4
"""Labelled scans that are named; more are counted."""

HELD_OUT_SEEN = (
    "Pretraining and self-training have seen images of the held-out patients, not their labels."
)


def draw_report(
    report: Mapping[str, Any],
    pretraining: Sequence[Mapping[str, float]],
    curves: Mapping[str, Sequence[Sequence[float]]],
    slices: Sequence[DrawnSlice],
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
    slices : sequence of DrawnSlice
        Slices of test scans, a row for each.
    """
    from matplotlib.figure import Figure

    dataset = report["dataset"]
    pictures = ROW * len(slices)
    lines = _head(report)
    head = LINE * (len(lines) + 1.5)  # The first one is larger.
    figure = Figure(figsize=(12, head + CHARTS + pictures), layout="constrained")
    heights = [head, CHARTS, max(0.1, pictures)]
    parts: Any = figure.subfigures(3, 1, height_ratios=heights)
    header, charts, bottom = parts
    _write_head(header, lines)
    axes = charts.subplots(2, 2)
    _pretraining_curve(axes[0, 0], pretraining)
    _finetuning_curves(axes[0, 1], curves)
    names = dataset["class_names"]
    _patient_scores(axes[1, 0], report["arms"], names, "dice")
    _patient_scores(axes[1, 1], report["arms"], names, "hd95_mm")
    if slices:
        grid = bottom.subplots(len(slices), 2 + len(slices[0].predictions), squeeze=False)
        for row, drawn in zip(grid, slices, strict=True):
            _slice_row(row, drawn, dataset["classes"])
        _class_legend(bottom, dataset["classes"], names)
    return figure


def _class_legend(figure: Any, classes: Sequence[int], names: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(color=_class_colour(number), label=names.get(str(value), f"class {value}"))
            for number, value in enumerate(classes)
        ],
        loc="outside upper center", ncols=min(len(classes), 8), frameon=False, fontsize=9,
    )  # fmt: skip


def _class_colour(number: int) -> str:
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def _head(report: Mapping[str, Any]) -> list[str]:
    """Say what was compared, on whom, and how far it reaches."""
    return [
        describe_data(report),
        HELD_OUT_SEEN,
        _labelled(report["arms"]),
        report["length"],
        *report["comparison"],
        report["caution"],
    ]


def _labelled(arms: Sequence[Mapping[str, Any]]) -> str:
    """Name the labelled scans of the charts, or count them if they are many or drawn repeatedly."""
    names, *others = dict.fromkeys(tuple(arm["labelled"]) for arm in with_most_labels(arms))
    if others or len(names) > MOST_NAMES:
        return f"Labelled scans: {_count(len(names), 'scan')} in each draw."
    return f"Labelled scans: {', '.join(names)}."


def _write_head(figure: Any, lines: Sequence[str]) -> None:
    places = np.linspace(1, 0, len(lines) + 2)[1:-1]
    for number, (place, line) in enumerate(zip(places, lines, strict=True)):
        size = 9.5 if number else 13
        figure.text(0.5, place, line, ha="center", va="center", fontsize=size)


def describe_data(report: Mapping[str, Any]) -> str:
    """Say how many scans and patients there are, and how many are held out."""
    data = report["dataset"]
    test = report["test_volumes"]
    return (
        f"{data['name']}: {_count(data['volumes'], 'scan')} of "
        f"{_count(data['patients'], 'patient')}; {_count(len(test), 'scan')} of "
        f"{_count(len(report['test_patients']), 'patient')} held out for the test"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)


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


def _patient_scores(
    axes: "Axes", arms: Sequence[Mapping[str, Any]], class_names: Mapping[str, str], measure: str
) -> None:
    """Draw a point per patient and arm, joined between arms, and a bar for the mean."""
    shown = with_most_labels(arms)
    kinds = list(dict.fromkeys(arm["arm"] for arm in shown))
    values = list(shown[0]["dice"])
    groups = [*values, MEAN] if len(values) > 1 else values
    width = 0.8 / len(kinds)
    offsets = (np.arange(len(kinds)) - (len(kinds) - 1) / 2) * width
    highest = 0.0
    for place, value in enumerate(groups):
        found = {kind: by_patient(shown, kind, measure, value) for kind in kinds}
        for patient in found[kinds[0]]:
            line = [found[kind].get(patient, np.nan) for kind in kinds]
            axes.plot(place + offsets, line, color="#9ca3af", lw=0.6, zorder=1)
        for kind, offset in zip(kinds, offsets, strict=True):
            points = list(found[kind].values())
            if not points:
                continue
            at, mean = place + offset, float(np.mean(points))
            highest = max(highest, *points)
            axes.plot(
                [at] * len(points), points, "o", ms=4, mec="white", mew=0.4,
                color=COLOURS[kind], zorder=2, label=kind if place == 0 else None,
            )  # fmt: skip
            axes.plot(
                [at - width * 0.36, at + width * 0.36], [mean] * 2, color=COLOURS[kind], lw=2.5
            )
            axes.annotate(
                f"{mean:.2f}" if measure == "dice" else f"{mean:.{1 if mean < 10 else 0}f}",
                (at, max(points)), (0, 5), textcoords="offset points",
                ha="center", va="bottom", fontsize=7,
            )  # fmt: skip
    most = shown[0]["labelled_volumes"]
    title = "Dice" if measure == "dice" else "HD95 in mm"
    names = [
        "mean" if value == MEAN else class_names.get(value, f"class {value}") for value in groups
    ]
    axes.set(
        title=f"{title}, {_count(most, 'labelled scan')}; a point per test patient",
        xticks=range(len(groups)),
        xticklabels=names,
    )
    if measure == "dice":
        axes.set(ylim=(-0.03, 1.12), yticks=np.linspace(0, 1, 6))
        axes.axhline(1, color="#d1d5db", lw=0.8, zorder=0)
        axes.spines["left"].set_bounds(0, 1)
    else:
        axes.set(ylim=(0, max(highest, 1.0) * 1.1))
    axes.spines[["top", "right"]].set_visible(False)
    if len(groups) > 4:
        for label in axes.get_xticklabels():
            label.set(rotation=25, ha="right")
    axes.legend(
        frameon=False, ncols=len(kinds), loc="upper center", bbox_to_anchor=(0.5, -0.1),
        fontsize=9, columnspacing=1, handlelength=1.2,
    )  # fmt: skip


def _slice_row(row: Sequence["Axes"], drawn: DrawnSlice, classes: Sequence[int]) -> None:
    titles = [f"{drawn.name}, {drawn.which} ({drawn.index})\n{drawn.rank}", "true labels"]
    layers: list[np.ndarray | None] = [None, drawn.truth]
    for arm, predicted in drawn.predictions.items():
        scores = (_score(drawn.dice[arm]), _score(drawn.scan_dice[arm]))
        titles.append(f"{arm}: Dice {scores[0]}\nwhole scan: {scores[1]}")
        layers.append(predicted)
    low, high = drawn.limits
    for axes, title, labels in zip(row, titles, layers, strict=True):
        axes.imshow(drawn.image, cmap="gray", vmin=low, vmax=high, aspect=drawn.aspect)
        if labels is not None:
            axes.imshow(
                _colour_labels(labels, classes), aspect=drawn.aspect, interpolation="nearest"
            )
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()


def _score(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.2f}"


def _colour_labels(labels: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """RGBA image of a label map, 55 % opaque."""
    from matplotlib.colors import to_rgba

    image = np.zeros((*labels.shape, 4))
    for number, value in enumerate(classes):
        image[labels == value] = to_rgba(_class_colour(number), 0.55)
    return image


def _smooth(values: Sequence[float] | np.ndarray, width: int = 15) -> np.ndarray:
    """Moving average over the last ``width`` values."""
    values = np.asarray(values, float)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    start = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    stop = np.arange(1, len(values) + 1)
    return (sums[stop] - sums[start]) / (stop - start)
