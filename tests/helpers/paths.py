"""Where things lie, whatever folder a test is in."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
DOCS = ROOT / "docs"

FAULTS = ("field_cases", "format_faults")
"""Folders of the test data with files made to be wrong, each of which has a test of its own."""

INTERNAL = ("abdomen_ct", "left_atrium_mr")
"""Folders of the test data that are for measurements alone and are not shown in the docs."""


def ordinary_files(data: Path, *patterns: str) -> list[Path]:
    """Files below the folder of the test data by their patterns, without those made to be wrong."""
    found = {path for pattern in patterns for path in data.rglob(pattern)}
    return sorted(path for path in found if path.relative_to(data).parts[0] not in FAULTS)
