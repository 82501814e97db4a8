"""Done slices on which a new structure would count as background. Needs no Qt."""

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sslseg.core.project.project import Project


def without_new_class(project: "Project", but: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """Return the slices that are done without a structure that is new, by scan.

    Where the user has said which structures of a scan are labelled, others are no background.

    Parameters
    ----------
    project : Project
    but : collection of str
        Scans whose labels have the new structure.
    """
    return {
        scan.name: scan.done_slices
        for scan in project.record.scans
        if scan.done and scan.labelled_classes is None and scan.name not in but
    }
