"""Structures in segmentations of 3D Slicer (.seg.nrrd): their names, values and codes."""

import re
from collections.abc import Mapping
from pathlib import Path

from napari_sslseg.core.common.errors import VolumeError
from napari_sslseg.core.scans.classes.segment import Segment, clean_name, code_text
from napari_sslseg.core.scans.formats.nrrd import read_pairs


def read_slicer_segments(path: Path) -> list[Segment]:
    """Read the structures of an NRRD file; empty if 3D Slicer did not write it.

    Raises
    ------
    VolumeError
        If the header is damaged.
    """
    pairs = read_pairs(path)
    numbers = sorted({int(n) for key in pairs for n in re.findall(r"^Segment(\d{1,6})_", key)})
    found = []
    for number in numbers:
        # Files before Slicer 4.11 have no values; each segment has a layer of its own.
        value = pairs.get(f"Segment{number}_LabelValue", "1" if len(numbers) == 1 else "")
        if not re.fullmatch(r"\d{1,9}", value.strip()):
            raise VolumeError(
                f"{path} gives no label value of its segment {number}; save it again with a newer "
                "version of 3D Slicer."
            )
        found.append(Segment(int(value), _name(pairs, number), _code(pairs, number)))
    return found


def _name(pairs: Mapping[str, str], number: int) -> str:
    return clean_name(pairs.get(f"Segment{number}_Name"))


def _code(pairs: Mapping[str, str], number: int) -> str:
    """Code in the tags; texts between the codes are the names of their tables."""
    tags = pairs.get(f"Segment{number}_Tags", "")
    entry = next((t for t in tags.split("|") if t.startswith("TerminologyEntry:")), "")
    parts = [*entry.split("~"), *[""] * 7]
    kind, modifier, region = (_triple(parts[place]) for place in (2, 3, 5))
    return code_text(kind, modifier, region)


def _triple(text: str) -> tuple[str, str]:
    """Value and scheme of a code that is stored as scheme, value and meaning."""
    scheme, value, *_ = [*text.split("^"), "", ""]
    return value, scheme
