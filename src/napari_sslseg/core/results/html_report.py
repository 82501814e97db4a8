"""HTML report of the scores of one or two runs, with pictures, in a single file without links."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from napari_sslseg.core.common.atomic import write_text
from napari_sslseg.core.common.sizes import PLANE_AXIS, Plane
from napari_sslseg.core.results.slice_scores import SLICE_RULE, SliceScores
from napari_sslseg.core.scans.volume import Volume, subsample, take_slices

PICTURE_HEIGHT = 240
OTHER_COLOUR = "#ffffff"
"""Colour of label values that are not a class of the project."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #1b1b1b; background: #fff }
h2 { font-size: 1.15em; margin: 1.8em 0 .3em }
p { margin: .5em 0 } dl { margin: .5em 0 } dt { font-weight: 600 } dd { margin: 0 0 .5em 0 }
table { border-collapse: collapse; margin: .8em 0 }
th, td { padding: .25em .9em .25em 0; border-bottom: 1px solid #ddd; text-align: left }
th { border-bottom-color: #888; vertical-align: bottom }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.use { white-space: nowrap }
.doubtful { color: #666; font-style: italic }
.name { margin-right: 1.2em; white-space: nowrap }
.colour { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border-radius: 2px;
          vertical-align: -.1em; print-color-adjust: exact }
.pictures { display: flex; gap: 8px }
figure { margin: 0; min-width: 0 } figcaption { font-size: .9em; color: #555 }
img { display: block; max-width: 100%; background: #000 }
section { break-inside: avoid }
""".strip()


@dataclass(frozen=True)
class RunReport:
    """A run in a report.

    Attributes
    ----------
    name, about : str
        Name of the run, and a sentence on how it was trained.
    verdict : str
        Summary of its scores in a few sentences.
    """

    name: str
    about: str
    verdict: str


@dataclass(frozen=True)
class RunScores:
    """Scores of a run on one scan.

    Attributes
    ----------
    scores : SliceScores
        Scores over the done slices.
    use : str
        How the training used the scan, such as ``validation``.
    honest : bool
        Whether the patient was not used for training, and no labels come from predictions.
    volumes : mapping of int to float
        Volume of each class in the prediction of the whole scan, in ml.
    """

    scores: SliceScores
    use: str
    honest: bool
    volumes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ScanReport:
    """One scan in a report.

    Attributes
    ----------
    runs : sequence of RunScores
        Scores of each run of the report.
    accepted : int
        Number of done slices on which a prediction was accepted.
    pictures : tuple of (str, bytes)
        Captions and PNG images of the worst slice of the first run.
    shape_mm : tuple of float
        Height and width of the pictures.
    """

    runs: Sequence[RunScores]
    accepted: int = 0
    pictures: tuple[tuple[str, bytes], ...] = ()
    shape_mm: tuple[float, float] = (1.0, 1.0)


def scan_report(
    scan: Volume,
    truth: np.ndarray,
    predicted: Mapping[str, np.ndarray],
    runs: Sequence[RunScores],
    *,
    plane: Plane,
    colours: Mapping[int, str],
    accepted: int = 0,
) -> ScanReport:
    """Draw the slice with the lowest Dice: the scan, the labels, and each prediction.

    Parameters
    ----------
    scan : Volume
        The scan.
    truth : ndarray
        Labels in the display grid.
    predicted : mapping of str to ndarray
        Predicted labels by caption.
    runs : sequence of RunScores
        Scores of each run; the first run decides which slice is drawn.
    plane : {"axial", "coronal", "sagittal"}
        Plane of the slices.
    colours : mapping of int to str
        Hexadecimal colours of the classes.
    accepted : int
        See :class:`ScanReport`.
    """
    axis, index = PLANE_AXIS[plane], runs[0].scores.worst or 0
    grey = _grey(scan, take_slices(scan.data, index, axis))
    height, width = (
        size * mm for a, (size, mm) in enumerate(zip(scan.data.shape, scan.spacing, strict=True))
        if a != axis
    )  # fmt: skip
    maps = {"labels": truth, **predicted}
    pictures = [("scan", _png(grey))] + [
        (name, _png(_painted(grey, np.take(values, index, axis), colours)))
        for name, values in maps.items()
    ]
    return ScanReport(runs, accepted, tuple(pictures), (height, width))


def report_page(
    title: str,
    runs: Sequence[RunReport],
    scans: Sequence[ScanReport],
    *,
    names: Mapping[int, str],
    colours: Mapping[int, str],
    uses: Mapping[str, str],
) -> str:
    """Make the report as HTML.

    Parameters
    ----------
    title : str
        Title, such as the names of the runs.
    runs : sequence of RunReport
        One run, or two to compare.
    scans : sequence of ScanReport
        Scans, in the order of the report.
    names, colours : mapping of int to str
        Names and hexadecimal colours of the classes.
    uses : mapping of str to str
        Explanation of each word for the use of a scan.
    """
    used = [score.use for scan in scans for score in scan.runs]
    columns = ["Scan", "Structure", *_each(runs, "Dice"), *_each(runs, "HD95", " (mm)")]
    columns += _each(runs, "Volume", " (ml)")
    accepted = any(scan.accepted for scan in scans)
    columns += ["Slices", *_each(runs, "Used"), *(["Accepted"] if accepted else [])]
    meanings = {word: hint for word, hint in uses.items() if word in used}
    if accepted:
        meanings["Accepted"] = "Slices on which a prediction was accepted, and then marked as done."
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(_about(mark, run) for mark, run in zip(_marks(runs), runs, strict=True)),
        f"<p>{_total(scans)} Written {datetime.now().isoformat(' ', 'minutes')}. "
        "Not for diagnosis.</p>",
        "<h2>Scores</h2>",
        f"<table><thead><tr>{''.join(map(_title, columns))}</tr></thead><tbody>",
        *(row for scan in scans for row in _rows(scan, names, accepted)),
        "</tbody></table>",
        "<p>Scores in italics may be too high: the patient was used for training, or a prediction "
        f"was accepted on some of the slices. {escape(SLICE_RULE)}</p>",
        "<dl>",
        *(f"<dt>{escape(w)}</dt><dd>{escape(hint)}</dd>" for w, hint in meanings.items()),
        "</dl>",
        "<h2>The worst slice of each scan</h2>",
        f"<p>{''.join(_legend(names[value], colours.get(value)) for value in sorted(names))}</p>",
        *(_pictures(scan) for scan in scans),
        "</body></html>",
    ]
    return "\n".join(parts)


def write_report(
    path: Path,
    title: str,
    runs: Sequence[RunReport],
    scans: Sequence[ScanReport],
    *,
    names: Mapping[int, str],
    colours: Mapping[int, str],
    uses: Mapping[str, str],
) -> Path:
    """Write the report to a file atomically; see :func:`report_page`."""
    write_text(path, report_page(title, runs, scans, names=names, colours=colours, uses=uses))
    return path


def _marks(runs: Sequence[RunReport]) -> list[str]:
    """Letters that distinguish the runs in titles; empty for a single run."""
    return [""] if len(runs) == 1 else [f" {chr(ord('A') + n)}" for n in range(len(runs))]


def _each(runs: Sequence[RunReport], what: str, unit: str = "") -> list[str]:
    return [f"{what}{mark}{unit}" for mark in _marks(runs)]


def _title(text: str) -> str:
    kinds = {"Dice": "number", "HD95": "number", "Volu": "number", "Slic": "number", "Used": "use"}
    kind = f' class="{kinds[text[:4]]}"' if text[:4] in kinds else ""
    return f"<th{kind}>{escape(text)}</th>"


def _about(mark: str, run: RunReport) -> str:
    which = f"Run{mark}: " if mark else ""
    return (
        f"<p><strong>{which}{escape(run.name)}.</strong> {escape(run.about)}</p>"
        f"<p>{escape(run.verdict)}</p>"
    )


def _total(scans: Sequence[ScanReport]) -> str:
    found = [scan.runs[0].scores for scan in scans]
    counts = (
        (sum(len(scores.slices) for scores in found), "slice"),
        (len(found), "scan"),
        (len({scores.volume.subject for scores in found}), "patient"),
    )
    slices, of, patients = (f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts)
    return f"In all, {slices} in {of} of {patients} were scored."


def _rows(scan: ScanReport, names: Mapping[int, str], accepted: bool) -> list[str]:
    found = [run.scores.volume.classes for run in scan.runs]
    kinds = ["" if run.honest else " doubtful" for run in scan.runs]
    rows = []
    for value in sorted(set().union(*found)):
        scores = [classes.get(value) for classes in found]
        figures = [_number(score.dice if score else None, 3) for score in scores]
        figures += [_number(score.hd95_mm if score else None, 1) for score in scores]
        cells = [
            f'<td class="number{kind}">{figure}</td>'
            for kind, figure in zip(kinds * 2, figures, strict=True)
        ]
        cells += [
            f'<td class="number">{_number(run.volumes.get(value, 0.0), 2)}</td>'
            for run in scan.runs
        ]
        words = [scan.runs[0].scores.volume.name, names.get(value, f"class {value}")]
        uses = [f'<td class="use">{escape(run.use)}</td>' for run in scan.runs]
        count = len(scan.runs[0].scores.slices)
        row = [*map(_cell, words), *cells, f'<td class="number">{count}</td>', *uses]
        row += [_cell(f"{scan.accepted} of {count}")] if accepted else []
        rows.append(f"<tr>{''.join(row)}</tr>")
    return rows


def _cell(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _legend(name: str, colour: str | None) -> str:
    shown = escape(colour or OTHER_COLOUR)
    square = f'<span class="colour" style="background:{shown}"></span>'
    return f'<span class="name">{square}{escape(name)}</span> '


def _pictures(scan: ScanReport) -> str:
    if not scan.pictures:
        return ""
    height, width = scan.shape_mm
    shape = max(1, round(PICTURE_HEIGHT * width / height))
    style = (
        f"width: {shape}px; aspect-ratio: {shape} / {PICTURE_HEIGHT}"  # Pixels need not be square.
    )
    images = "".join(
        f'<figure><img style="{style}" alt="{escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, data in scan.pictures
    )
    scores = scan.runs[0].scores
    return (
        f"<section><p>{escape(scores.volume.name)}, slice {scores.worst}</p>"
        f'<div class="pictures">{images}</div></section>'
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _grey(scan: Volume, image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(subsample(scan.data), (1, 99.5))
    scaled = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return np.repeat((scaled.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _painted(grey: np.ndarray, labels: np.ndarray, colours: Mapping[int, str]) -> np.ndarray:
    image = grey.astype(np.float32)
    for value in np.unique(labels):
        if value:
            code = colours.get(int(value), OTHER_COLOUR).lstrip("#")
            colour = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
            image[labels == value] = 0.45 * image[labels == value] + 0.55 * colour
    return image.astype(np.uint8)


def _png(image: np.ndarray) -> bytes:
    from matplotlib.image import imsave

    found = io.BytesIO()
    imsave(found, image, format="png")
    return found.getvalue()
