"""Names of the tensors of an EfficientNet in other programs.

Blocks are numbered through the whole network in efficientnet-pytorch, through the stages in MONAI
as well, and within each stage in timm, which also names the layers of a block otherwise.
"""

import re
from collections.abc import Iterable, Mapping

FIRST_LAYER = "encoder.levels.0.stem.conv.weight"

OF_THE_CLASSES = "belongs to the classification of photographs"

HEADS = ("_conv_head.", "_bn1.", "_fc.", "conv_head.", "bn2.", "classifier.")

STEMS = {"_conv_stem.": "conv.", "conv_stem.": "conv.", "_bn0.": "norm.", "bn1.": "norm."}

TIMM = {
    "conv_pw.": "_expand_conv.", "bn1.": "_bn0.", "conv_dw.": "_depthwise_conv.", "bn2.": "_bn1.",
    "se.conv_reduce.": "_se_reduce.", "se.conv_expand.": "_se_expand.",
    "conv_pwl.": "_project_conv.", "bn3.": "_bn2.",
}  # fmt: skip

TIMM_FIRST = {
    "conv_dw.": "_depthwise_conv.", "bn1.": "_bn1.", "se.conv_reduce.": "_se_reduce.",
    "se.conv_expand.": "_se_expand.", "conv_pw.": "_project_conv.", "bn2.": "_bn2.",
}  # fmt: skip
"""Layers of the first stage, which does not expand the channels."""


def efficientnet_names(
    theirs: Iterable[str], ours: Iterable[str]
) -> Mapping[str, tuple[str | None, str | None]]:
    """Translate names of efficientnet-pytorch, MONAI or timm.

    Parameters
    ----------
    theirs, ours : iterable of str
        Names in the file, and in :class:`~napari_sslseg.core.networks.efficient.EfficientUNet`.

    Returns
    -------
    mapping of str to (str or None, str or None)
        By name in the file: name here, or why it has no counterpart.
    """
    theirs = list(theirs)
    level_of = {
        int(block[2]): f"encoder.levels.{block[1]}.{block[2]}."
        for block in (re.match(r"encoder\.levels\.(\d+)\.(\d+)\.", name) for name in ours)
        if block
    }
    first_blocks = _first_blocks(theirs)
    found: dict[str, tuple[str | None, str | None]] = {}
    for name in theirs:
        place = _place(name, first_blocks)
        if place is not None and place[0] in level_of:
            found[name] = level_of[place[0]] + place[1], None
        elif stem := next((old for old in STEMS if name.startswith(old)), None):
            found[name] = f"encoder.levels.0.stem.{STEMS[stem]}{name.removeprefix(stem)}", None
        elif name.startswith(HEADS):
            found[name] = None, OF_THE_CLASSES
    return found


def _first_blocks(names: Iterable[str]) -> dict[int, int]:
    """Number of the first block of each stage of timm, from the stages in the file."""
    blocks = {
        (int(found[1]), int(found[2]))
        for found in (re.match(r"blocks\.(\d{1,2})\.(\d{1,3})\.", name) for name in names)
        if found
    }
    first, count = {}, 0
    for stage in sorted({stage for stage, _ in blocks}):
        first[stage] = count
        count += sum(other == stage for other, _ in blocks)
    return first


def _place(name: str, first_blocks: Mapping[int, int]) -> tuple[int, str] | None:
    """Number of the block of a tensor, and its name within the block."""
    if found := re.fullmatch(r"_blocks\.(?:\d{1,2}\.)?(\d{1,3})\.(_.+)", name):
        return int(found[1]), found[2]
    found = re.fullmatch(r"blocks\.(\d{1,2})\.(\d{1,3})\.(.+)", name)
    if not found:
        return None
    layers = TIMM if int(found[1]) else TIMM_FIRST
    old = next((old for old in layers if found[3].startswith(old)), None)
    if old is None:
        return None
    return first_blocks[int(found[1])] + int(found[2]), layers[old] + found[3].removeprefix(old)
