"""CutMix: boxes of one image take the place of what another one shows there, labels and all.

Yun et al., ICCV 2019; for segmentation with few labels French et al., BMVC 2020. What lies around
a structure then tells less about it, so that its looks have to. Sampled first, applied as a batch.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from napari_sslseg.core.common.sizes import Size

AREAS = (0.02, 0.4)
MOST_OBLONG = 1 / 0.3
"""Share of an image that a box covers, and its longer side over the shorter one at most, as in
UniMatch (Yang et al., CVPR 2023)."""


@dataclass(frozen=True, eq=False)
class CutMixParameters:
    """One draw for a batch of N images, on the CPU.

    Attributes
    ----------
    partners : Tensor, shape (N,), int64
        From which image of the batch each takes its box.
    first, last : Tensor, shape (N, 2)
        Rows and columns of the box, the last ones not included; both are 0 where there is none.
        In volumes it goes through all slices.
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
        Their sides, rows and columns last.
    share : float
        Share of the images that get a box, 0…1.
    generator : torch.Generator
        The same state gives the same draw.
    """
    draws = torch.rand(n, 5, generator=generator)
    sides = torch.tensor(size[-2:], dtype=torch.float32)
    area = AREAS[0] + (AREAS[1] - AREAS[0]) * draws[:, 0]
    oblong = torch.exp((2 * draws[:, 1] - 1) * log(MOST_OBLONG))
    shares = torch.stack([(area * oblong).sqrt(), (area / oblong).sqrt()], dim=1).clamp(max=1)
    lengths = (shares * sides).round().clamp(min=1)
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
    """Put boxes of the partners into a batch.

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
        places = torch.arange(side, device=device)
        within = (places >= first[:, axis, None]) & (places < last[:, axis, None])
        inside = inside & (within[:, :, None] if axis == 0 else within[:, None, :])
    inside = inside.view(len(images), *[1] * (images.ndim - 4), *images.shape[-2:])
    partners = parameters.partners.to(device)
    return (
        torch.where(inside[:, None], images[partners], images),
        torch.where(inside, labels[partners], labels),
    )
