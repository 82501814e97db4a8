"""Paths of the repository and of the test data."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
DOCS = ROOT / "docs"

INTERNAL = ("abdomen_ct", "left_atrium_mr")
"""Folders of the test data that are used only for measurements and not shown in the docs."""


def data_files(data: Path, *patterns: str) -> list[Path]:
    """Return the files of the test data that match patterns, without hidden files."""
    found = {path for pattern in patterns for path in data.rglob(pattern)}
    return sorted(path for path in found if not path.name.startswith("."))


def overlapping(data: Path) -> set[Path]:
    """Return the label files of the test data whose structures overlap, as 3D Slicer saves them."""
    folder = data / "field_cases" / "03-slicer-overlap" / "s_overlap"
    return {*(folder / "labels").iterdir(), *(folder / "lab2").iterdir()}
