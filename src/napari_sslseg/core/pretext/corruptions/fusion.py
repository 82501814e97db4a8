"""Mixing two images at several levels inside boxes: the corruption of volume fusion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.sizes import Size, as_size, describe_images, words_for
from napari_sslseg.core.pretext.corruptions.boxes import MOST_BOXES, Boxes, draw_boxes, topmost
from napari_sslseg.core.pretext.corruptions.patch_swap import CPU, check_batch


@dataclass(frozen=True, eq=False)
class FusionParameters:
    """Parameters of the fusion of N images: small CPU tensors.

    Parameters
    ----------
    partners : Tensor, shape (N,), int64
        Image of the batch to mix in; never the image itself.
    boxes : Boxes
        Boxes; the first box lies on top of the others.
    levels : Tensor, shape (N, B), int64
        Mixing level of each box, from 0 to K.
    """

    partners: Tensor
    boxes: Boxes
    levels: Tensor

    def __len__(self) -> int:
        return len(self.partners)


class SliceFusion:
    """Mix another image of the batch into each image, inside boxes, at K + 1 levels.

    After Wang et al. 2023 (volume fusion), whose images are volumes; slices are treated in the same
    way: x̃ = (1 − α) x + α y, with α = level / K. Outside the boxes the level is 0. A box may have
    level 0 as well, which shows the image again; otherwise so many boxes would leave little of it
    in two dimensions. Partners form one random cycle through the batch, so that no image is its own
    partner and each is used once.

    Parameters
    ----------
    image_size : tuple of int
        Height and width in pixels; or slices, height and width in voxels.
    levels : int
        K, the number of mixing levels above 0.
    boxes : tuple of int
        Smallest and largest number of boxes in an image.
    shortest : int
        Shortest side of a box in pixels.
    longest : float
        Longest side of a box, as a fraction of that of the image along each axis.

    Raises
    ------
    ConfigError
        If such boxes do not fit the images.
    """

    def __init__(
        self,
        image_size: Size,
        levels: int = 4,
        boxes: tuple[int, int] = (10, 40),
        shortest: int = 8,
        longest: float = 0.625,
    ) -> None:
        self.image_size = as_size(image_size)
        self.levels = levels
        self.boxes = boxes
        most = [int(longest * side) for side in self.image_size]
        if min(most) < shortest:
            words = words_for(self.image_size)
            raise ConfigError(
                f"Boxes from {shortest} {words.places} to {longest:g} of the {words.image} do not "
                f"fit {describe_images(self.image_size)}; choose a shortest side of at most "
                f"{min(most)} {words.places}."
            )
        if not 1 <= boxes[0] <= boxes[1] <= MOST_BOXES:
            raise ConfigError(
                f"The number of boxes cannot lie between {boxes[0]} and {boxes[1]}; choose two "
                f"numbers from 1 to {MOST_BOXES}, the smaller first."
            )
        self._sides = [(shortest, side) for side in most]

    def sample(self, n: int, generator: torch.Generator) -> FusionParameters:
        """Draw partners, boxes and levels of ``n`` images from a generator on the CPU.

        Raises
        ------
        ConfigError
            If there is only one image.
        """
        if n < 2:
            images = words_for(self.image_size).images
            raise ConfigError(
                f"Volume fusion mixes the {images} of a batch with each other, but this batch has "
                f"only one; choose at least two {images}."
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
        """Return the mixing level of each pixel, from 0 to K: int64, (N, H, W) or (N, D, H, W)."""
        box = topmost(parameters.boxes.covering(self.image_size, device))
        # Level 0 comes first, for the pixels outside all boxes.
        levels = torch.nn.functional.pad(parameters.levels.to(device), (1, 0))
        return levels.gather(1, (box + 1).flatten(1)).view(box.shape)

    def apply(self, images: Tensor, parameters: FusionParameters) -> Tensor:
        """Mix images (N, C, …), which are not changed, with their partners."""
        check_batch(images, self.image_size, len(parameters))
        return self.fuse(images, self.level_map(parameters, images.device), parameters)

    def fuse(self, images: Tensor, levels: Tensor, parameters: FusionParameters) -> Tensor:
        """Mix images with given levels."""
        partner = images[parameters.partners.to(images.device)]
        weight = (levels[:, None] / self.levels).to(images.dtype)
        return torch.lerp(images, partner, weight.expand_as(images))
