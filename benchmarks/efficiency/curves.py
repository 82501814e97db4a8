"""Dice by number of labelled subjects: one panel per data set, one line per arm."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from efficiency.rows import Row
from efficiency.tables import grouped, subject_dice


def draw_curves(rows: Iterable[Row], path: Path) -> None:
    """Draw means over draws, with standard deviations as bars, in the format of ``path``."""
    groups = grouped(rows)
    names = list(dict.fromkeys(group[0] for group in groups))
    arms = list(dict.fromkeys(group[2] for group in groups))
    figure = Figure(figsize=(5.5 * len(names) + 2, 4.5), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for name, panel in zip(names, panels, strict=True):
        ticks = set()
        for number, arm in enumerate(arms):
            points = {}
            for (data, _, other), found in groups.items():
                if (data, other) == (name, arm):
                    count = len(next(iter(found.values()))["subjects"])
                    dice = [np.mean(list(subject_dice(row).values())) for row in found.values()]
                    points[count] = np.mean(dice), np.std(dice, ddof=1) if len(dice) > 1 else 0
            counts = sorted(points)
            ticks.update(counts)
            panel.errorbar(
                counts,
                [points[count][0] for count in counts],
                [points[count][1] for count in counts],
                label=arm,
                color=f"C{number % 10}",
                linestyle=("-", "--", ":", "-.")[number // 10 % 4],
                marker="o",
                markersize=3,
                capsize=2,
            )
        panel.set_xscale("log")
        panel.set_xticks(sorted(ticks), [str(tick) for tick in sorted(ticks)])
        panel.minorticks_off()
        panel.set(title=name, xlabel="labelled subjects", ylabel="Dice")
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
