"""Match the tensors of a network of another program with those of our networks.

Tensors are matched in this order: by equal names; by prefixes that the user replaces; by the names
of the same network in other programs (DynUNet in MONAI and nnU-Net; EfficientNet in MONAI, timm and
efficientnet-pytorch); and by order and shape, if all tensors of an encoder or decoder agree.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_sslseg.core.runs.weights.efficientnet_names import FIRST_LAYER, efficientnet_names
from napari_sslseg.core.settings.networks import (
    DynUNet2dNetwork,
    DynUNet3dNetwork,
    EfficientNetwork,
    NetworkSettings,
)

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
PARTS = ("encoder.", "decoder.")

SAME = "the same tensor under another name"
NORMALISED = "a bias before a normalisation, which removes it"
NO_BIAS = "up-convolutions have no bias here"
OF_THE_TASK = "belongs to the task that the network was trained for"
MEAN = "the mean over its channels"


@dataclass
class Matching:
    """Result of matching, for every tensor.

    Attributes
    ----------
    copied : dict of str to (str, str)
        By name here: name in the file, and how it was matched.
    skipped : dict of str to str
        By name in the file: reason.
    mismatched : dict of str to (str, Shape, Shape)
        By name in the file: name here, shape in the file, shape here.
    """

    copied: dict[str, tuple[str, str]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    mismatched: dict[str, tuple[str, Shape, Shape]] = field(default_factory=dict)


def match_tensors(
    theirs: Mapping[str, Shape],
    ours: Mapping[str, Shape],
    network: NetworkSettings,
    *,
    renames: Mapping[str, str] | None = None,
    ordered: bool = False,
) -> Matching:
    """Find the counterpart of each tensor of another network.

    Parameters
    ----------
    theirs, ours : mapping of str to tuple of int
        Shapes of the tensors by name, in the file and here.
    network : NetworkSettings
        The network here.
    renames : mapping of str to str, optional
        Prefixes in the file, and their replacements.
    ordered : bool
        Whether ``theirs`` are in the order of the layers, as in a state dict.

    Returns
    -------
    Matching
        With every name of ``theirs`` once.
    """
    found = Matching()
    unknown: dict[str, str] = {}
    other_names = {name: _renamed(name, renames or {}) for name in theirs}
    translated = _translated(other_names.values(), ours, network)
    for name, shape in theirs.items():
        renamed = other_names[name]
        known, reason = translated.get(renamed, (None, None))
        target = next((n for n in (name, renamed, known) if n in ours), None)
        if target is None:
            if reason:
                found.skipped[name] = reason
            else:
                unknown[name] = renamed
        elif target in found.copied:
            found.skipped[name] = f"{target} was copied from {found.copied[target][0]}"
        elif target == FIRST_LAYER and _other_channels(shape, ours[target]):
            found.copied[target] = (name, MEAN)
        elif ours[target] != shape:
            found.mismatched[name] = (target, shape, ours[target])
        else:
            library = "EfficientNet" if isinstance(network, EfficientNetwork) else "DynUNet"
            how = "name" if target == name else "map" if target == renamed else library
            found.copied[target] = (name, how)
    for part in PARTS:
        _by_order(part, unknown, theirs, ours, found, ordered)
    for name in unknown:
        found.skipped.setdefault(name, "the network has no tensor of this name")
    return found


def _renamed(name: str, renames: Mapping[str, str]) -> str:
    fitting = [old for old in renames if name.startswith(old)]
    if not fitting:
        return name
    longest = max(fitting, key=len)
    return renames[longest] + name.removeprefix(longest)


def _translated(
    names: Iterable[str], ours: Iterable[str], network: NetworkSettings
) -> Mapping[str, tuple[str | None, str | None]]:
    """Name here of each tensor of another program, or why it has no counterpart."""
    if isinstance(network, EfficientNetwork):
        return efficientnet_names(names, ours)
    if not isinstance(network, DynUNet2dNetwork | DynUNet3dNetwork):
        return {}
    depth = len(network.widths)
    return {name: _monai_name(name, depth) or _nnunet_name(name) or (None, None) for name in names}


def _other_channels(theirs: Shape, ours: Shape) -> bool:
    """Whether two weights differ in the channels of the images only."""
    return (
        theirs != ours
        and len(theirs) == len(ours)
        and theirs[:1] + theirs[2:] == (ours[:1] + ours[2:])
    )


def with_channels(weight: "Tensor", channels: int) -> "Tensor":
    """Adapt weights of a first layer, (outputs, inputs, …), to other channels of the images.

    Each channel has the mean of the weights, scaled so that images with equal channels give the
    same features.
    """
    if weight.shape[1] == channels:
        return weight
    mean = weight.mean(1, keepdim=True) * (weight.shape[1] / channels)
    return mean.repeat_interleave(channels, 1)


def _monai_name(name: str, depth: int) -> tuple[str | None, str | None] | None:
    """Translate a name of MONAI, which registers blocks by place and in nested skip layers."""
    if name.startswith("skip_layers."):
        return None, SAME
    if name.startswith("deep_supervision_heads."):
        return None, OF_THE_TASK
    if name.startswith("output_block.conv.conv."):
        return name.replace("output_block.conv.conv.", "output."), None
    for prefix, level in (("input_block.", 0), ("bottleneck.", depth - 1)):
        if name.startswith(prefix):
            return f"encoder.levels.{level}.{name.removeprefix(prefix)}", None
    if block := re.fullmatch(r"downsamples\.(\d{1,3})\.(.+)", name):
        return f"encoder.levels.{int(block[1]) + 1}.{block[2]}", None
    if block := re.fullmatch(r"upsamples\.(\d{1,3})\.(.+)", name):
        return f"decoder.levels.{block[1]}.{block[2]}", None
    return None


def _nnunet_name(name: str) -> tuple[str | None, str | None] | None:
    """Find the name of a tensor of nnU-Net's PlainConvUNet (dynamic-network-architectures 0.4)."""
    if name.startswith("decoder.encoder.") or ".all_modules." in name:
        return None, SAME
    if name.startswith("decoder.seg_layers."):
        return None, OF_THE_TASK
    if up := re.fullmatch(r"decoder\.transpconvs\.(\d{1,3})\.(weight|bias)", name):
        if up[2] == "bias":
            return None, NO_BIAS
        return f"decoder.levels.{up[1]}.transp_conv.conv.weight", None
    block = re.fullmatch(
        r"(encoder|decoder)\.stages\.(\d{1,3})(\.0)?\.convs\.([01])\.(conv|norm)\.(weight|bias)",
        name,
    )
    if not block:
        return None
    part, level, _, number, kind, leaf = block.groups()
    if (kind, leaf) == ("conv", "bias"):
        return None, NORMALISED
    inner = f"{kind}{int(number) + 1}" + (".conv" if kind == "conv" else "")
    inside = ".conv_block" if part == "decoder" else ""
    return f"{part}.levels.{level}{inside}.{inner}.{leaf}", None


def _by_order(
    part: str,
    unknown: dict[str, str],
    theirs: Mapping[str, Shape],
    ours: Mapping[str, Shape],
    found: Matching,
    ordered: bool,
) -> None:
    """Match all tensors of a part by order, if none of it was matched yet and all shapes agree."""
    left = [name for name, renamed in unknown.items() if renamed.startswith(part)]
    wanted = [name for name in ours if name.startswith(part)]
    if not left or any(name.startswith(part) for name in found.copied):
        return
    reason = "no tensor of this name here, and the file has no order of layers; use --map"
    if ordered:
        reason = f"no tensor of this name here, and the {part[:-1]} has other tensors in order"
        kinds = [(name.rpartition(".")[2], theirs[name]) for name in left]
        if kinds == [(name.rpartition(".")[2], ours[name]) for name in wanted]:
            found.copied |= {
                target: (name, "order") for target, name in zip(wanted, left, strict=True)
            }
            for name in left:
                del unknown[name]
            return
    for name in left:
        found.skipped[name] = reason
