"""CutMix: replace a box of each image and its labels by those of another image.

Yun et al., ICCV 2019; for segmentation with few labels French et al., BMVC 2020. The surroundings
of a structure then carry less information, so the network relies on its appearance. Parameters are
sampled first and applied to a whole batch.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size

AREAS = (0.02, 0.4)
LARGEST_RATIO = 1 / 0.3
"""Range of the area of a box, as a fraction of the image, and largest ratio of its sides, as in
UniMatch (Yang et al., CVPR 2023)."""


@dataclass(frozen=True, eq=False)
class CutMixParameters:
    """Random parameters for a batch of N images, on the CPU.

    Attributes
    ----------
    partners : Tensor, shape (N,), int64
        Image of the batch that each image takes its box from.
    first, last : Tensor, shape (N, 2)
        First row and column of the box, and the ones after its last; both are 0 without a box.
        In volumes the box extends through all slices.
    """

    partners: Tensor
    first: Tensor
    last: Tensor


def sample_cutmix(n: int, size: Size, share: float, generator: torch.Generator) -> CutMixParameters:
    """Draw boxes and partners.

    Parameters
    ----------
    n : int
        Number of images.
    size : tuple of int
        Size of the images, rows and columns last.
    share : float
        Fraction of the images that get a box, 0…1.
    generator : torch.Generator
        Source of randomness, on the CPU.
    """
    draws = torch.rand(n, 5, generator=generator)
    sides = torch.tensor(size[-2:], dtype=torch.float32)
    area = AREAS[0] + (AREAS[1] - AREAS[0]) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * log(LARGEST_RATIO))
    fractions = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
    lengths = (fractions * sides).round().clamp(min=1)
    first = (draws[:, 2:4] * (sides - lengths + 1)).floor()
    wanted = (draws[:, 4:] < share).float()
    return CutMixParameters(
        partners=torch.randperm(n, generator=generator),
        first=(first * wanted).long(),
        last=((first + lengths) * wanted).long(),
    )


def apply_cutmix(
    images: Tensor, labels: Tensor, parameters: CutMixParameters
) -> tuple[Tensor, Tensor]:
    """Put the boxes of the partners into the images of a batch.

    Parameters
    ----------
    images : Tensor, shape (N, C, H, W) or (N, C, D, H, W)
    labels : Tensor, shape (N, H, W) or (N, D, H, W)

    Returns
    -------
    images, labels : Tensor
        New tensors on the device of ``images``.
    """
    device = images.device
    first, last = parameters.first.to(device), parameters.last.to(device)
    inside = torch.ones((), dtype=torch.bool, device=device)
    for axis, side in enumerate(images.shape[-2:]):
        positions = torch.arange(side, device=device)
        within = (positions >= first[:, axis, None]) & (positions < last[:, axis, None])
        inside = inside & (within[:, :, None] if axis == 0 else within[:, None, :])
    inside = inside.view(len(images), *[1] * (images.ndim - 4), *images.shape[-2:])
    partners = parameters.partners.to(device)
    return (
        torch.where(inside[:, None], images[partners], images),
        torch.where(inside, labels[partners], labels),
    )
