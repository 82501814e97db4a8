"""Parts of the record of a project that know no others: ranges of slices, and what they tell."""

import re
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from napari_sslseg.core.common.sizes import Plane
from napari_sslseg.core.common.text import printable
from napari_sslseg.core.scans.slice_ranges import (
    count_ranges,
    format_range_ends,
    parse_range_ends,
    parse_ranges,
)

MOST_SLICES = 100_000

_RANGES = re.compile(r"(\d{1,6}(-\d{1,6})?(, \d{1,6}(-\d{1,6})?)*)?", re.ASCII)


class ProjectPart(BaseModel):
    """A part of the record."""

    # A key that is not known would be lost when the record is written, so it is an error.
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def checked_ranges(text: str, end: int = MOST_SLICES) -> str:
    """Ranges of slices below ``end`` as they are written, such as "0-8, 12"; nothing is expanded.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not _RANGES.fullmatch(text):
        raise ValueError("it should hold ranges of slices, such as 0-8, 12")
    ends = parse_range_ends(text, end)
    apart = all(last + 1 < first for (_, last), (first, _) in pairwise(ends))
    if not apart or format_range_ends(ends) != text:
        raise ValueError("its ranges do not rise")
    return text


def last_slice(text: str) -> int:
    """The last number of ranges that were checked, which stands at their end."""
    return int(re.split("[-, ]", text[-6:])[-1])


class AcceptedSlices(ProjectPart):
    """Slices of a scan into whose labels a prediction was accepted."""

    plane: Plane
    """Along which they are counted."""

    run: str = Field(min_length=1, max_length=255)
    """Whose prediction it was."""

    slices: str = Field(min_length=1, max_length=MOST_SLICES)
    """As ranges such as "0-8, 12"."""

    _count: int = PrivateAttr(default=0)

    @property
    def count(self) -> int:
        """How many there are; they are not listed for it."""
        return self._count

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them."""
        return parse_ranges(self.slices, MOST_SLICES)

    @field_validator("run")
    @classmethod
    def _check_run(cls, run: str) -> str:
        if run != printable(run):
            raise ValueError("it holds control characters")
        return run

    @field_validator("slices")
    @classmethod
    def _check_slices(cls, slices: str) -> str:
        return checked_ranges(slices)

    @model_validator(mode="after")
    def _count_slices(self) -> "AcceptedSlices":
        self._count = count_ranges(self.slices, MOST_SLICES)
        return self
