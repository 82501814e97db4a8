"""Leave out images that were derived from the others of a stack, such as a projection."""

import re
from collections.abc import Sequence

import numpy as np

from napari_sslseg.core.common.text import join_names
from napari_sslseg.core.scans.formats.dicom.phases.attributes import PHASES
from napari_sslseg.core.scans.formats.dicom.planes.plane import ImagePlane
from napari_sslseg.core.scans.formats.dicom.planes.sorting import (
    LEAST_PLANES_OF_A_DIRECTION,
    place_numbers,
    plane_name,
)


def without_derived(planes: list[ImagePlane]) -> tuple[list[ImagePlane], list[str]]:
    """Leave out a few derived images before or behind a stack of original ones, or on its places.

    The first value of Image Type distinguishes them (DICOM PS3.3 C.7.6.1.1.2). A series of derived
    images, as after resampling, is a scan. So are derived images that fill gaps of the original
    ones, and those on as many places, which may be another volume.

    Returns
    -------
    list of ImagePlane
        The planes without them.
    list of str
        Notes that name derived images.
    """
    is_derived = np.array([_is_derived(plane) for plane in planes])
    original = int(np.count_nonzero(~is_derived))
    if not is_derived.any() or original < LEAST_PLANES_OF_A_DIRECTION:
        return planes, []
    places = place_numbers(planes)
    taken = places[~is_derived]
    outside = is_derived & ((places < taken.min()) | (places > taken.max()))
    again = is_derived & np.isin(places, taken)
    notes = []
    extra = outside if np.count_nonzero(outside) < original else np.zeros_like(outside)
    if np.count_nonzero(again) < LEAST_PLANES_OF_A_DIRECTION:
        extra = extra | again
    kept = [plane for plane, out in zip(planes, extra, strict=True) if not out]
    if extra.any():
        notes.append(f"{_say(planes, extra)}, such as a projection, and left out")
    between = is_derived & ~outside & ~again
    if between.any():
        notes.append(f"{_say(planes, between)}, other images are not; they were kept, check them")
    return kept, notes


def _is_derived(plane: ImagePlane) -> bool:
    words = re.findall(r"\w+", plane.phase[PHASES.index("kind")].upper())
    return words[:1] == ["DERIVED"]


def _say(planes: Sequence[ImagePlane], which: np.ndarray) -> str:
    names = [plane_name(plane) for plane, one in zip(planes, which, strict=True) if one]
    many = f"{len(names)} of its images" if len(names) > 1 else "one of its images"
    are = "are" if len(names) > 1 else "is"
    return f"{many} ({join_names(sorted(names), 2)}) {are} derived from others by the header"
