"""A page with the scores of a run and a picture of each scan, in one HTML file without links."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from napari_sslseg.core.atomic import write_text
from napari_sslseg.core.geometry import PLANE_AXIS, Plane
from napari_sslseg.core.slice_scores import SLICE_RULE, SliceScores
from napari_sslseg.core.volumes import Volume, sampled

PICTURE_HEIGHT = 260
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
       color: #1b1b1b; background: #fff }
table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .3em .8em; border-bottom: 1px solid #ccc; text-align: left }
td.number { text-align: right; font-variant-numeric: tabular-nums }
tr.seen { color: #777; font-style: italic }
figure { margin: 1.5em 0 } figcaption { margin-bottom: .4em }
img { margin-right: 6px; image-rendering: auto; background: #000 }
""".strip()


@dataclass(frozen=True, eq=False)
class ScanReport:
    """One scan in a report.

    Attributes
    ----------
    scores : SliceScores
        Over its done slices.
    use : str
        What the training made of it, such as ``kept out``.
    honest : bool
        Whether the training saw nothing of the patient.
    pictures : tuple of (str, bytes)
        Captions and PNG images of its worst slice.
    shape_mm : tuple of float
        Height and width of the pictures.
    """

    scores: SliceScores
    use: str
    honest: bool
    pictures: tuple[tuple[str, bytes], ...] = ()
    shape_mm: tuple[float, float] = (1.0, 1.0)


def scan_report(
    scan: Volume,
    truth: np.ndarray,
    predicted: np.ndarray,
    scores: SliceScores,
    *,
    plane: Plane,
    colours: Mapping[int, str],
    use: str,
    honest: bool,
) -> ScanReport:
    """Draw the worst slice of a scan: as it is, with labels, with the prediction."""
    axis, index = PLANE_AXIS[plane], scores.worst or 0
    grey = _grey(scan, np.take(scan.data, index, axis))
    height, width = (
        size * mm for a, (size, mm) in enumerate(zip(scan.data.shape, scan.spacing, strict=True))
        if a != axis
    )  # fmt: skip
    pictures = (
        ("scan", _png(grey)),
        ("labels", _png(_painted(grey, np.take(truth, index, axis), colours))),
        ("prediction", _png(_painted(grey, np.take(predicted, index, axis), colours))),
    )
    return ScanReport(scores, use, honest, pictures, (height, width))


def report_page(
    title: str, about: str, scans: Sequence[ScanReport], names: Mapping[int, str]
) -> str:
    """The page as HTML.

    Parameters
    ----------
    title : str
        Such as the name of the run.
    about : str
        How the run was made, in a sentence.
    scans : sequence of ScanReport
        In the order in which they are listed.
    names : mapping of int to str
        Of the classes.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(about)} Written {datetime.now().isoformat(' ', 'minutes')}.</p>",
        f"<p>{escape(SLICE_RULE)} Scores in italics are of patients that the training learnt from, "
        "and therefore too good. Not for diagnosis.</p>",
        "<table><thead><tr><th>Scan</th><th>Structure</th><th>Dice</th><th>HD95 (mm)</th>"
        "<th>Slices</th><th>Training</th></tr></thead><tbody>",
    ]
    for scan in scans:
        parts += _rows(scan, names)
    parts.append("</tbody></table>")
    parts += [_figure(scan) for scan in scans]
    parts.append("</body></html>")
    return "\n".join(parts)


def write_report(
    path: Path, title: str, about: str, scans: Sequence[ScanReport], names: Mapping[int, str]
) -> Path:
    """Write the page to a file, whole or not at all."""
    write_text(path, report_page(title, about, scans, names))
    return path


def _rows(scan: ScanReport, names: Mapping[int, str]) -> list[str]:
    kind = "" if scan.honest else ' class="seen"'
    return [
        f"<tr{kind}><td>{escape(scan.scores.volume.name)}</td>"
        f"<td>{escape(names.get(value, f'class {value}'))}</td>"
        f'<td class="number">{_number(score.dice, 3)}</td>'
        f'<td class="number">{_number(score.hd95_mm, 1)}</td>'
        f'<td class="number">{len(scan.scores.slices)}</td><td>{escape(scan.use)}</td></tr>'
        for value, score in scan.scores.volume.classes.items()
    ]


def _figure(scan: ScanReport) -> str:
    if not scan.pictures:
        return ""
    height, width = scan.shape_mm
    size = f'height="{PICTURE_HEIGHT}" width="{max(1, round(PICTURE_HEIGHT * width / height))}"'
    images = "".join(
        f'<img {size} alt="{escape(caption)}" title="{escape(caption)}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        for caption, data in scan.pictures
    )
    return (
        f"<figure><figcaption>{escape(scan.scores.volume.name)}, slice {scan.scores.worst}, the "
        f"worst one: {', '.join(escape(caption) for caption, _ in scan.pictures)}</figcaption>"
        f"{images}</figure>"
    )


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _grey(scan: Volume, image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(sampled(scan.data), (1, 99.5))
    shares = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return np.repeat((shares.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _painted(grey: np.ndarray, labels: np.ndarray, colours: Mapping[int, str]) -> np.ndarray:
    image = grey.astype(np.float32)
    for value in np.unique(labels):
        if value:
            code = colours.get(int(value), "#ffffff").lstrip("#")
            colour = np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
            image[labels == value] = 0.45 * image[labels == value] + 0.55 * colour
    return image.astype(np.uint8)


def _png(image: np.ndarray) -> bytes:
    from matplotlib.image import imsave

    found = io.BytesIO()
    imsave(found, image, format="png")
    return found.getvalue()
