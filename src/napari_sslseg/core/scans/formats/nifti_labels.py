"""Structures in NIfTI label maps: TotalSegmentator and Connectome Workbench store their names.

They write a table in XML into an extension of the header.
"""

import html
import re
from pathlib import Path

import nibabel as nib

from napari_sslseg.core.scans.classes.segment import Segment, clean_name
from napari_sslseg.core.scans.formats.nifti import HEADER_SIZE, LABEL_INTENT, NiftiFile
from napari_sslseg.core.scans.formats.stored_values import first_bytes

_MOST_BYTES = 16 * 2**20
_LABEL = re.compile(
    r'<Label\b[^>]*?\bKey="(\d{1,10})"[^>]*>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))\s*</Label>',
    re.DOTALL,
)


def read_nifti_segments(path: Path) -> list[Segment]:
    """Read the structures of a NIfTI file; empty if its header names none.

    Raises
    ------
    VolumeError
        If the header is damaged.
    """
    header = NiftiFile(path).header
    begin = HEADER_SIZE[2 if isinstance(header, nib.Nifti2Header) else 1]
    end = min(int(header.get_data_offset()), _MOST_BYTES) if header.is_single else 0
    # The extensions lie between the header and the values; the table is found by its mark.
    text = first_bytes(path, max(begin, end))[begin:].decode("utf-8", "replace")
    if "<LabelTable" not in text:
        return []
    found = {
        int(value): clean_name(marked or html.unescape(plain))
        for value, marked, plain in _LABEL.findall(text)
    }
    # The background has a name too, such as "???".
    return [Segment(value, name) for value, name in found.items() if value]


def is_marked_nifti(path: Path) -> bool:
    """Return whether the header of a NIfTI file gives the intent of labels.

    Raises
    ------
    VolumeError
        If the header is damaged.
    """
    return int(NiftiFile(path).header["intent_code"]) == LABEL_INTENT
