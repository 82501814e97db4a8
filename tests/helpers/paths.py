"""Paths of the repository and of the test data."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
DOCS = ROOT / "docs"

FAULTS = ("field_cases", "format_faults")
"""Folders of the test data with intentionally wrong files, which have their own tests."""

INTERNAL = ("abdomen_ct", "left_atrium_mr")
"""Folders of the test data that are used only for measurements and not shown in the docs."""


def ordinary_files(data: Path, *patterns: str) -> list[Path]:
    """Return files of the test data that match patterns, without intentionally wrong ones."""
    found = {path for pattern in patterns for path in data.rglob(pattern)}
    return sorted(path for path in found if path.relative_to(data).parts[0] not in FAULTS)
