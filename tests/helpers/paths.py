"""Where things lie, whatever folder a test is in."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
DOCS = ROOT / "docs"
