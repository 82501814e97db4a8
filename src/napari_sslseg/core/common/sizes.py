"""Sizes of slices and of volumes, and the words for what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Size = tuple[int, ...]
"""Height and width of slices in pixels, or slices, height and width of volumes in voxels."""

MOST_CLASSES = 254
"""Class indices are bytes, 0 is the background, and more values are no set of classes anyway."""


@dataclass(frozen=True)
class Words:
    """What images of some number of dimensions, and their smallest parts, are called."""

    image: str
    images: str
    place: str
    places: str


WORDS = {
    2: Words("slice", "slices", "pixel", "pixels"),
    3: Words("volume", "volumes", "voxel", "voxels"),
}


def as_size(sides: Sequence[int]) -> Size:
    """Two or three sides as plain numbers.

    Raises
    ------
    ValueError
        If there are fewer or more.
    """
    if len(sides) not in WORDS:
        raise ValueError(f"images have two sides or three, not {len(sides)}")
    return tuple(int(side) for side in sides)


def words_for(size: Size) -> Words:
    """Words for images of this size."""
    return WORDS[len(size)]


def format_size(size: Size) -> str:
    """Sides in words, such as 64 × 48."""
    return " × ".join(map(str, size))


def describe_images(size: Size) -> str:
    """Images of this size in words, such as slices of 64 × 48 pixels."""
    words = words_for(size)
    return f"{words.images} of {format_size(size)} {words.places}"


Plane = Literal["axial", "coronal", "sagittal"]
"""Name of a slicing plane."""


PLANE_AXIS: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""The display axis along which slices of a plane are stacked."""
