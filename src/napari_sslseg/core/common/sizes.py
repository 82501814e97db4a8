"""Sizes of slices and volumes, slicing planes, and their names in messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Size = tuple[int, ...]
"""Height and width of slices in pixels, or slices, height and width of volumes in voxels."""

Plane = Literal["axial", "coronal", "sagittal"]
"""Name of a slicing plane."""

PLANE_AXIS: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Display axis along which the slices of a plane are stacked."""

MOST_CLASSES = 254
"""Largest number of classes: class indices are bytes, 0 is the background, 255 is unknown."""

UNKNOWN = 255
"""Class index of voxels whose class nobody stated; they are left out of losses and scores."""


@dataclass(frozen=True)
class Words:
    """Names of images with a number of dimensions, and of their elements."""

    image: str
    images: str
    place: str
    places: str


WORDS = {
    2: Words("slice", "slices", "pixel", "pixels"),
    3: Words("volume", "volumes", "voxel", "voxels"),
}


def as_size(sides: Sequence[int]) -> Size:
    """Convert two or three sides to a size.

    Raises
    ------
    ValueError
        If there are fewer or more sides.
    """
    if len(sides) not in WORDS:
        raise ValueError(f"images have two sides or three, not {len(sides)}")
    return tuple(int(side) for side in sides)


def words_for(size: Size) -> Words:
    """Return the names for images of a size."""
    return WORDS[len(size)]


def format_size(size: Sequence[float]) -> str:
    """Format a size or shape, such as ``64 × 48``."""
    return " × ".join(
        f"{number:g}" if isinstance(number, float) else str(number) for number in size
    )


def describe_images(size: Size) -> str:
    """Describe images of a size, such as ``slices of 64 × 48 pixels``."""
    words = words_for(size)
    return f"{words.images} of {format_size(size)} {words.places}"


def in_plane_axes(plane: Plane) -> list[int]:
    """Return the axes of the display grid within a slice."""
    return [axis for axis in range(3) if axis != PLANE_AXIS[plane]]
