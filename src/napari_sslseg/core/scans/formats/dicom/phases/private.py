"""Private attributes of manufacturers that distinguish volumes, above all b-values."""

import re
import struct
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

_SIEMENS = (0x0019, "SIEMENS MR HEADER")
_GE_PARAMETERS = (0x0043, "GEMS_PARM_01")
_GE_ACQUISITION = (0x0019, "GEMS_ACQU_01")
_PHILIPS = (0x2001, "Philips Imaging DD 001")
_PHILIPS_MR = (0x2005, "Philips MR Imaging DD 001")
_PHILIPS_RESCALING = (0x2005, "Philips MR Imaging DD 005")
_UNITED_IMAGING = (0x0065, "Image Private Header")

_B_VALUES = ((_SIEMENS, 0x0C), (_GE_PARAMETERS, 0x39), (_PHILIPS, 0x03), (_UNITED_IMAGING, 0x09))
_DIRECTIONS = (
    (_SIEMENS, (0x0E,)),
    (_GE_ACQUISITION, (0xBB, 0xBC, 0xBD)),
    (_PHILIPS_MR, (0xB0, 0xB1, 0xB2)),
)
_GE_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")

# The manufacturer reserves one of these blocks of each group by its name.
_BLOCKS = range(0x10, 0x14)
# Philips reserves more.
_MORE_BLOCKS = {0x2005: range(0x10, 0x18)}
# GE adds 1,000,000,000 to some b-values.
_GE_OFFSET = 100_000


def private_tags() -> list[BaseTag]:
    """Return the tags to read, with those of the names that reserve them."""
    wanted = [(group, element) for (group, _), element in _B_VALUES]
    wanted += [(group, element) for (group, _), many in _DIRECTIONS for element in many]
    wanted += [(_GE_PARAMETERS[0], 0x2F), (_PHILIPS_MR[0], 0x0E)]
    wanted += [(_PHILIPS_RESCALING[0], 0x09), (_PHILIPS_RESCALING[0], 0x0A)]
    tags = {
        Tag(group, block << 8 | element) for group, element in wanted for block in _blocks(group)
    }
    tags |= {Tag(group, block) for group, _ in wanted for block in _blocks(group)}
    return sorted(tags)


def _blocks(group: int) -> range:
    return _MORE_BLOCKS.get(group, _BLOCKS)


def private_b_value(dataset: Dataset) -> float | None:
    """Return the b-value in s/mm² that a private attribute or the sequence name gives."""
    for owner, element in _B_VALUES:
        numbers = _numbers(_private(dataset, owner, element))
        if numbers:
            value = numbers[0]
            return value % _GE_OFFSET if owner is _GE_PARAMETERS else value
    # Siemens: "*ep_b1000#3"; Canon: "b=1000(0.4,0.2,0.9)".
    for keyword, pattern in (
        ("SequenceName", r"ep_?b(\d+)"),
        ("ImageComments", r"^b=(\d+(?:\.\d+)?)"),
    ):
        found = re.search(pattern, str(dataset.get(keyword) or ""))
        if found:
            return float(found.group(1))
    return None


def private_direction(dataset: Dataset) -> tuple[float, ...] | None:
    """Return the direction of diffusion that private attributes give."""
    for owner, elements in _DIRECTIONS:
        numbers = [n for e in elements for n in _numbers(_private(dataset, owner, e))]
        if numbers:
            return tuple(round(number, 4) for number in numbers)
    return None


def private_component(dataset: Dataset) -> str | None:
    """Return the component of a complex image that GE gives by a number."""
    numbers = _numbers(_private(dataset, _GE_PARAMETERS, 0x2F))
    if numbers and numbers[0] in range(len(_GE_COMPONENTS)):
        return _GE_COMPONENTS[int(numbers[0])]
    return None


def private_scale_slope(dataset: Dataset) -> float | None:
    """Return the scale slope of Philips, which leads to its precise values; None if absent."""
    return next(iter(_numbers(_private(dataset, _PHILIPS_MR, 0x0E))), None)


def private_rescaling(dataset: Dataset) -> tuple[float, float] | None:
    """Return slope and intercept that Philips stores beside the public ones; None if absent."""
    slope = next(iter(_numbers(_private(dataset, _PHILIPS_RESCALING, 0x0A, 0x14))), None)
    intercept = next(iter(_numbers(_private(dataset, _PHILIPS_RESCALING, 0x09, 0x14))), 0.0)
    return (slope, intercept) if slope else None


def _private(
    dataset: Dataset, owner: tuple[int, str], element: int, usual: int = _BLOCKS[0]
) -> Any:
    """Return a private attribute of a manufacturer; None if it is absent.

    Tools for anonymisation may remove the name that reserves a block; then the usual one is read.
    """
    group, name = owner
    if not any(tag >> 16 == group for tag in dataset.keys()):  # noqa: SIM118, values stay unparsed
        return None
    creators = {block: dataset.get((group, block)) for block in _blocks(group)}
    named = [
        block
        for block, creator in creators.items()
        if creator is not None and _text(creator.value).strip() == name
    ]
    if not any(creator is not None for creator in creators.values()):
        named = [usual]
    for block in named:
        found = dataset.get((group, block << 8 | element))
        if found is not None:
            return found.value
    return None


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _numbers(value: Any) -> list[float]:
    """Convert an attribute to numbers; files without explicit types give it as bytes."""
    if isinstance(value, bytes):
        text = value.decode("ascii", "replace").strip(" \0")
        if re.fullmatch(r"[-+\d.eE\\ ]+", text):
            value = text.split("\\")
        elif len(value) and len(value) % 8 == 0:
            value = struct.unpack(f"<{len(value) // 8}d", value)
        elif len(value) == 4:
            value = struct.unpack("<f", value)
        else:
            return []
    elif value is None or isinstance(value, str | int | float):
        value = [value]
    try:
        return [float(number) for number in value]
    except (TypeError, ValueError):
        return []
