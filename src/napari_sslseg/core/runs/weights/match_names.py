"""Which tensor of another program's network is which tensor of ours.

In this order: by the same name; by a prefix that the user says is another here; by the names of
MONAI's DynUNet and of nnU-Net, which are the same network as our DynUNet in other words; and by
order and shape, where a whole encoder or decoder agrees tensor by tensor.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from napari_sslseg.core.settings.networks import DynUNet2dNetwork, DynUNet3dNetwork, NetworkSettings

Shape = tuple[int, ...]
PARTS = ("encoder.", "decoder.")

SAME = "the same tensor under another name"
NORMALISED = "a bias before a normalisation, which takes it away again"
NO_BIAS = "up-convolutions have no bias here"
OF_THE_TASK = "belongs to the task that it was trained for"


@dataclass
class Matching:
    """What becomes of every tensor.

    Attributes
    ----------
    copied : dict of str to (str, str)
        By name here: name there, and how it was found.
    skipped : dict of str to str
        By name there: why.
    mismatched : dict of str to (str, Shape, Shape)
        By name there: name here, shape there, shape here.
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
    """Find for each tensor of another network the one that it is here.

    Parameters
    ----------
    theirs, ours : mapping of str to tuple of int
        Shapes of the tensors by name.
    network : NetworkSettings
        Ours.
    renames : mapping of str to str, optional
        Prefixes there, and what they are here.
    ordered : bool
        Whether ``theirs`` stand in the order of the layers, as in a state dict.

    Returns
    -------
    Matching
        Every name of ``theirs`` is in it once.
    """
    found = Matching()
    unknown: dict[str, str] = {}
    for name, shape in theirs.items():
        renamed = _renamed(name, renames or {})
        known, reason = _dynunet_name(renamed, network)
        target = next((n for n in (name, renamed, known) if n in ours), None)
        if target is None:
            if reason:
                found.skipped[name] = reason
            else:
                unknown[name] = renamed
        elif target in found.copied:
            found.skipped[name] = f"{target} was taken from {found.copied[target][0]}"
        elif ours[target] != shape:
            found.mismatched[name] = (target, shape, ours[target])
        else:
            how = "name" if target == name else "map" if target == renamed else "DynUNet"
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


def _dynunet_name(name: str, network: NetworkSettings) -> tuple[str | None, str | None]:
    """Name in our DynUNet of a tensor of MONAI's or nnU-Net's, or why it is none of ours."""
    if not isinstance(network, DynUNet2dNetwork | DynUNet3dNetwork):
        return None, None
    return _monai_name(name, len(network.widths)) or _nnunet_name(name) or (None, None)


def _monai_name(name: str, depth: int) -> tuple[str | None, str | None] | None:
    """MONAI registers each block by its place, and again within nested skip layers."""
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
    """Match a whole part one by one, if nothing else of it was found and all agrees."""
    left = [name for name, renamed in unknown.items() if renamed.startswith(part)]
    wanted = [name for name in ours if name.startswith(part)]
    if not left or any(name.startswith(part) for name in found.copied):
        return
    reason = "no tensor of this name here, and the file keeps no order to go by; use --map"
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
