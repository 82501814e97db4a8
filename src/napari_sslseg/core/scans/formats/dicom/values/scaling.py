"""What the stored values of an image mean, where its header says so in several ways.

Rescale Slope and Intercept are used, as in viewers (DICOM PS3.3 C.7.6.16.2.9 and C.11.1). A Real
World Value Mapping (PS3.3 C.7.6.16.2.11) is used only in their absence, and if it names a unit. The
precise values of Philips are not used; dcm2niix explains them:
https://github.com/rordenlab/dcm2niix/blob/master/Philips/README.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.formats.dicom.phases.private import (
    private_rescaling,
    private_scale_slope,
)
from napari_sslseg.core.scans.formats.image_file import PARSER_ERRORS

REAL_WORLD = "a map to real-world values"
PHILIPS_RESCALING = "another rescaling by Philips (2005,140A)"
PHILIPS_SCALE = "a scale slope of Philips (2005,100E)"
# Codes of UCUM that stand for no unit.
_NO_UNIT = ("", "1", "{no units}", "no units")
_SAME = 1e-5


class Scaling(NamedTuple):
    """A linear map of stored values.

    Parameters
    ----------
    slope, intercept : float
        Factor, and value of a stored 0; NaN for a map by a table.
    source : str
        Where the header gives it, for messages.
    unit : str
        Code of the unit; empty if there is none.
    """

    slope: float
    intercept: float
    source: str = ""
    unit: str = ""

    def differs(self, other: "Scaling") -> bool:
        """Whether two maps give different values."""
        close = np.isclose(self[:2], other[:2], rtol=_SAME, atol=_SAME * abs(other.slope))
        return not close.all()


def read_scalings(
    dataset: Dataset, groups: Sequence[Dataset], slope: float | None, intercept: float | None
) -> tuple[Scaling, tuple[Scaling, ...]]:
    """Choose the map of stored values, and return others that the header gives.

    Parameters
    ----------
    dataset : Dataset
        Attributes of the file.
    groups : sequence of Dataset
        Functional groups of the frame, then the shared ones.
    slope, intercept : float or None
        Rescale Slope and Intercept; None if they are absent.
    """
    real_world = list(_real_world([*groups, dataset]))
    used = Scaling(1.0 if slope is None else slope, intercept or 0.0)
    if slope is None and intercept is None and len(real_world) == 1:
        only = real_world[0]
        if only.unit and np.isfinite(only.slope) and only.slope:
            used, real_world = only, []
    others = [*real_world, *_philips(dataset, groups, used)]
    return used, tuple(other for other in others if other.differs(used))


def _real_world(datasets: Iterable[Dataset]) -> Iterator[Scaling]:
    """Maps in the first of several datasets that has any."""
    for dataset in datasets:
        items = dataset.get("RealWorldValueMappingSequence") or []
        for item in items:
            codes = item.get("MeasurementUnitsCodeSequence") or [Dataset()]
            unit = str(codes[0].get("CodeValue") or "").strip()
            slope, intercept = item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")
            linear = slope is not None and intercept is not None
            yield Scaling(
                float(slope) if linear else np.nan,
                float(intercept) if linear else np.nan,
                REAL_WORLD,
                "" if unit.lower() in _NO_UNIT else unit,
            )
        if items:
            return


def _philips(dataset: Dataset, groups: Sequence[Dataset], used: Scaling) -> Iterator[Scaling]:
    places = [item for group in groups for item in _private_items(group)]
    for place in (*places, *groups, dataset):
        scale = private_scale_slope(place)
        if scale and used.slope:
            # Precise values: (R · RS + RI) / (RS · SS).
            yield Scaling(1 / scale, used.intercept / (used.slope * scale), PHILIPS_SCALE)
            break
    for place in (*places, *groups, dataset):
        rescaling = private_rescaling(place)
        if rescaling:
            yield Scaling(*rescaling, PHILIPS_RESCALING)
            break


def _private_items(group: Dataset) -> list[Dataset]:
    """Items of the sequence of Philips in a frame; none if a program stored it as bytes."""
    try:
        found = group.get((0x2005, 0x140F))
    except PARSER_ERRORS:  # Bytes that are no sequence are no reason to refuse the scan.
        return []
    return list(found.value) if found is not None and found.VR == "SQ" else []


def scaling_notes(used: Sequence[Scaling], others: Sequence[Sequence[Scaling]]) -> list[str]:
    """Say which maps of a stack are not used.

    Parameters
    ----------
    used : sequence of Scaling
        The map of each plane that is used.
    others : sequence of sequence of Scaling
        Other maps of each plane.
    """
    notes = []
    if used[0].unit:
        notes.append(
            "its header gives no rescale slope, so its values are the real-world values in "
            f"{printable(used[0].unit, 20)}"
        )
    for source in (REAL_WORLD, PHILIPS_RESCALING, PHILIPS_SCALE):
        found = [item for plane in others for item in plane if item.source == source]
        if not found:
            continue
        slopes = [item.slope for item in found]
        unit = f" in {printable(found[0].unit, 20)}" if found[0].unit else ""
        how = "by a table" if np.isnan(slopes).any() else f"with the slope {_span(slopes)}"
        rescaled = f"with the slope {_span([item.slope for item in used])}"
        notes.append(
            f"its header has {source}{unit} {how} beside the values that are used, {rescaled}"
        )
    return notes


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:.4g}" if np.isclose(low, high) else f"{low:.4g} to {high:.4g}"
