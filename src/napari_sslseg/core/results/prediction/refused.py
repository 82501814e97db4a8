"""Why files are not segmented."""

from collections.abc import Sequence

from napari_sslseg.core.common.text import join_names

LABEL_MAP = "looks like a label map; leave it out", "look like label maps; leave them out"
NO_DICOM = (
    "is not a DICOM series, which a DICOM segmentation must refer to; choose another format, such "
    "as nii.gz",
    "are not DICOM series, which a DICOM segmentation must refer to; choose another format, such "
    "as nii.gz",
)
"""Why a file is not segmented, of one and of several."""


def describe_refused(paths: Sequence[str], one: str, several: str) -> str:
    """One sentence for all files that are refused for the same reason."""
    if len(paths) == 1:
        return f"{paths[0]} {one}."
    return f"{len(paths)} files {several}: {join_names(paths)}."
