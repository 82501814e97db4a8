"""Tables of rows: means, deviations, and significance of a gain over training from scratch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from efficiency.rows import Row

REFERENCE = "scratch"
FAILED = 0.5
"""Mean Dice below which a subject counts as failed."""

Draw = tuple[int, int]
"""Seed and number of a draw."""

Group = tuple[str, Any, str]
"""Data set, labelled subjects, arm."""

HEAD = (
    *("data set", "labelled", "arm", "Dice", f"below {FAILED}", "HD95 (mm)"),
    f"difference from {REFERENCE}",
    *("p (Holm)", "draws", "subjects", "fine-tuning (s)", "pretraining (s)"),
)


def latest(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """Select rows with these fields; only the last one for each cell.

    Arms without pretraining are selected for any length of the pretraining.
    """
    keys = ("dataset", "arm", "labelled", "draw", "seed", "part", "network", "steps")
    found = {}
    for row in rows:
        free = () if row["seconds"]["pretraining"] else ("pretrain_steps",)
        # Older rows, with all slices labelled and pixels of the data set, lack these fields.
        about = {"slices": 0, "spacing": 0, **row}
        if all(about[name] == value for name, value in wanted.items() if name not in free):
            found[tuple(about[key] for key in (*keys, "pretrain_steps", "slices", "spacing"))] = row
    return list(found.values())


def grouped(rows: Iterable[Row]) -> dict[Group, dict[Draw, Row]]:
    """Rows by data set, labelled subjects and arm, then by draw; few labelled subjects first."""
    found: dict[Group, dict[Draw, Row]] = defaultdict(dict)
    for row in rows:
        group = row["dataset"], row["labelled"], row["arm"]
        found[group][row["seed"], row["draw"]] = row
    # Arms stay in the order in which they were run.
    return dict(sorted(found.items(), key=lambda item: (item[0][0], _count(item[0][1]))))


def _count(labelled: Any) -> float:
    return np.inf if labelled == "all" else labelled


def subject_dice(row: Row) -> dict[str, float]:
    """Mean Dice by subject; subjects without any class in truth and prediction are left out."""
    scores = {subject: score["mean_dice"] for subject, score in row["scores"].items()}
    return {subject: value for subject, value in scores.items() if value is not None}


def differences(mine: dict[Draw, Row], base: dict[Draw, Row]) -> dict[Draw, dict[str, float]]:
    """Dice minus that of the reference, for the draws and subjects that both have."""
    found = {}
    for draw in sorted(mine.keys() & base.keys()):
        ours, theirs = subject_dice(mine[draw]), subject_dice(base[draw])
        found[draw] = {s: ours[s] - theirs[s] for s in ours if s in theirs}
    return found


def gain_p(gaps: dict[Draw, dict[str, float]]) -> float:
    """One-sided Wilcoxon signed-rank over subjects: is the arm better than the reference?

    Each subject counts once, by its mean over the draws.
    """
    values = defaultdict(list)
    for gap in gaps.values():
        for subject, value in gap.items():
            values[subject].append(value)
    means = [float(np.mean(each)) for each in values.values()]
    if not any(means):
        return 1.0
    return float(wilcoxon(means, alternative="greater").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number by the method of Holm, in the same order."""
    order = np.argsort(values, kind="stable")
    found, largest = [1.0] * len(values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        found[index] = largest
    return found


def spread(values: Sequence[float], form: str) -> str:
    """Mean ± sample standard deviation; the mean only, for a single value."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{deviation}"


def table(rows: Iterable[Row]) -> str:
    """Markdown: one line for each arm, data set and number of labelled subjects."""
    groups = grouped(rows)
    gaps = {
        group: differences(found, groups.get((*group[:2], REFERENCE), {}))
        for group, found in groups.items()
    }
    corrected: dict[Group, float] = {}
    for family in dict.fromkeys(group[:2] for group in groups):
        tested = [g for g in groups if g[:2] == family and g[2] != REFERENCE and gaps[g]]
        corrected |= zip(tested, holm([gain_p(gaps[g]) for g in tested]), strict=True)
    lines = [f"| {' | '.join(HEAD)} |", f"|{' --- |' * len(HEAD)}"]
    for group, found in groups.items():
        gap = "–"
        if group in corrected:
            gap = spread([np.mean(list(each.values())) for each in gaps[group].values()], "+.3f")
        cells = [
            *map(str, group),
            spread([np.mean(list(subject_dice(row).values())) for row in found.values()], ".3f"),
            _failed(found.values()),
            _hd95(found.values()),
            gap,
            _p(corrected[group]) if group in corrected else "–",
            str(len(found)),
            str(len(next(iter(found.values()))["scores"])),
            *(
                f"{np.mean([row['seconds'][stage] for row in found.values()]):.0f}"
                for stage in ("finetuning", "pretraining")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _failed(rows: Iterable[Row]) -> str:
    """Number of cases (subjects times draws) whose mean Dice is low."""
    values = [value for row in rows for value in subject_dice(row).values()]
    return f"{sum(value < FAILED for value in values)} of {len(values)}"


def _hd95(rows: Iterable[Row]) -> str:
    """Mean over classes, subjects and draws, and the number of comparisons without a distance."""
    scores = [score for row in rows for score in row["scores"].values()]
    known = [mm for score in scores for mm in score["hd95_mm"].values() if mm is not None]
    undefined = sum(score["hd95_undefined"] for score in scores)
    text = f"{np.mean(known):.1f}" if known else "–"
    return f"{text} ({undefined} undefined)" if undefined else text
