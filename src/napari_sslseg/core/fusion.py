"""Fusing two slices at several mixing levels inside boxes: the corruption of volume fusion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sslseg.core.boxes import MOST_BOXES, Boxes, draw_boxes, topmost
from napari_sslseg.core.corruptions import CPU, check_batch
from napari_sslseg.core.errors import ConfigError
from napari_sslseg.core.patches import Size


@dataclass(frozen=True, eq=False)
class FusionParameters:
    """What is fused into each of N images: small CPU tensors.

    Parameters
    ----------
    partners : Tensor, shape (N,), int64
        Image of the batch that is fused in; never the image itself.
    boxes : Boxes
        Where; the first box lies on top of the others.
    levels : Tensor, shape (N, B), int64
        Mixing level of each box, from 0 to K.
    """

    partners: Tensor
    boxes: Boxes
    levels: Tensor

    def __len__(self) -> int:
        return len(self.partners)


class SliceFusion:
    """Fuse another slice of the batch into each slice, inside boxes, at K + 1 mixing levels.

    After Wang et al. 2023 (volume fusion), on slices: x̃ = (1 − α) x + α y, with α = level / K.
    Outside of the boxes the level is 0 and the slice stays as it is. A box may have level 0, too,
    which uncovers the slice again: so many boxes leave little of it else in two dimensions.
    Partners form one random cycle through the batch, so that none is its own and each is used
    once.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels.
    levels : int
        K, the number of mixing levels above 0.
    boxes : tuple of int
        Smallest and largest number of boxes on a slice.
    shortest : int
        Shortest side of a box in pixels.
    longest : float
        Longest side of a box, as a share of the slice's height or width.

    Raises
    ------
    ConfigError
        If such boxes do not fit the slices.
    """

    def __init__(
        self,
        image_size: Size,
        levels: int = 4,
        boxes: tuple[int, int] = (10, 40),
        shortest: int = 8,
        longest: float = 0.625,
    ) -> None:
        self.image_size: Size = (int(image_size[0]), int(image_size[1]))
        self.levels = levels
        self.boxes = boxes
        height, width = (int(longest * side) for side in self.image_size)
        if min(height, width) < shortest:
            raise ConfigError(
                f"Boxes from {shortest} pixels to {longest:g} of the slice do not fit slices of "
                f"{image_size[0]} × {image_size[1]}; choose a shortest side of at most "
                f"{min(height, width)} pixels."
            )
        if not 1 <= boxes[0] <= boxes[1] <= MOST_BOXES:
            raise ConfigError(
                f"The number of boxes cannot lie between {boxes[0]} and {boxes[1]}; choose two "
                f"numbers from 1 to {MOST_BOXES}, the smaller first."
            )
        self._sides = ((shortest, height), (shortest, width))

    def sample(self, n: int, generator: torch.Generator) -> FusionParameters:
        """Draw partners, boxes and levels of ``n`` images from a generator on the CPU.

        Raises
        ------
        ConfigError
            If there is only one image, which leaves none to fuse it with.
        """
        if n < 2:
            raise ConfigError(
                "Volume fusion mixes the slices of a batch with each other, but this batch has "
                "only one; choose at least two slices."
            )
        order = torch.randperm(n, generator=generator)
        partners = torch.empty_like(order)
        partners[order] = order.roll(1)
        fewest, most = self.boxes
        counts = torch.randint(fewest, most + 1, (n,), generator=generator)
        return FusionParameters(
            partners,
            draw_boxes(counts, most, self.image_size, self._sides, generator),
            torch.randint(self.levels + 1, (n, most), generator=generator),
        )

    def level_map(self, parameters: FusionParameters, device: torch.device = CPU) -> Tensor:
        """Give the mixing level of each pixel, from 0 to K: int64, shape (N, H, W)."""
        box = topmost(parameters.boxes.covering(self.image_size, device))
        # Level 0 stands before those of the boxes, for the pixels that none covers.
        levels = torch.nn.functional.pad(parameters.levels.to(device), (1, 0))
        return levels.gather(1, (box + 1).flatten(1)).view(box.shape)

    def apply(self, images: Tensor, parameters: FusionParameters) -> Tensor:
        """Fuse images (N, C, H, W), which stay as they are, with their partners."""
        check_batch(images, self.image_size, len(parameters))
        return self.fuse(images, self.level_map(parameters, images.device), parameters)

    def fuse(self, images: Tensor, levels: Tensor, parameters: FusionParameters) -> Tensor:
        """Fuse by levels that are there already."""
        partner = images[parameters.partners.to(images.device)]
        share = (levels[:, None] / self.levels).to(images.dtype)
        return torch.lerp(images, partner, share.expand_as(images))
