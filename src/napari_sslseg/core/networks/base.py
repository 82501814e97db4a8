"""What every network offers, so that pretext tasks and transfer need not know which it is."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class EncoderPart(Protocol):
    """From images to features at several resolutions."""

    channels: tuple[int, ...]
    """Channels of the features that it returns, in their order."""

    frozen: bool
    """Whether it stays exactly as it is."""

    def __call__(self, images: "Tensor") -> "list[Tensor]":
        """Give the features of images (N, C, …), finest first.

        The sides of the images must be multiples of the network's stride for the decoder to
        take the features.
        """
        ...

    def modules_by_level(self) -> "list[list[nn.Module]]":
        """Give the modules of each level, finest first; each weight belongs to one of them."""
        ...

    def freeze(self, frozen: bool = True) -> None:
        """Keep the encoder exactly as it is, or let it learn again."""
        ...


class DecoderPart(Protocol):
    """From the encoder's features back to full resolution, level by level."""

    channels: tuple[int, ...]
    """Channels after each level, in the order of the levels: from coarse to fine."""

    def __call__(self, features: "list[Tensor]", levels: int | None = None) -> "Tensor":
        """Give the features after the first ``levels`` levels, or at full resolution after all.

        With ``levels=l`` they have ``channels[l - 1]`` channels; with 0 they are the coarsest
        features of the encoder.
        """
        ...


class SegmentationNetwork(Protocol):
    """An encoder, a decoder and an output layer, by these names in the state dict.

    Transfer names parts by the modules' names, so what is called ``encoder`` here is what a
    pretrained encoder is everywhere.
    """

    encoder: EncoderPart
    decoder: DecoderPart
    output: "nn.Module"
    """From full-resolution features to scores; belongs to one task and is never transferred."""

    stride: int
    """Side of the block of pixels that one place of the coarsest features stands for."""

    @property
    def embedding_channels(self) -> int:
        """Channels of the coarsest features, on which heads for embeddings stand."""
        ...

    def __call__(self, images: "Tensor") -> "Tensor":
        """Give scores (N, out_channels, …) of the size of the images (N, in_channels, …)."""
        ...
