"""Interface of all networks, for pretext tasks and transfer."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class EncoderPart(Protocol):
    """Encoder from images to features at several resolutions."""

    channels: tuple[int, ...]
    """Channels of the returned features, in their order."""

    frozen: bool
    """Whether it is frozen."""

    def __call__(self, images: "Tensor") -> "list[Tensor]":
        """Return the features of images (N, C, …), finest first.

        For the decoder, the sides of the images must be multiples of the stride of the network.
        """
        ...

    def modules_by_level(self) -> "list[list[nn.Module]]":
        """Return the modules of each level, finest first; each weight belongs to one level."""
        ...

    def freeze(self, frozen: bool = True) -> None:
        """Freeze the encoder, or unfreeze it."""
        ...


class DecoderPart(Protocol):
    """Decoder from the features of the encoder to full resolution, level by level."""

    channels: tuple[int, ...]
    """Channels after each level, from coarse to fine."""

    def __call__(self, features: "list[Tensor]", levels: int | None = None) -> "Tensor":
        """Return the features after the first ``levels`` levels, at full resolution after all.

        With ``levels=l`` they have ``channels[l - 1]`` channels; with 0 they are the coarsest
        features of the encoder.
        """
        ...


class SegmentationNetwork(Protocol):
    """An encoder, a decoder and an output layer, by these names in the state dict.

    Transfer selects parts by these names, so all networks use the same ones.
    """

    encoder: EncoderPart
    decoder: DecoderPart
    output: "nn.Module"
    """Last layer, from full-resolution features to scores; never transferred."""

    stride: int
    """Side of the block of pixels that one place of the coarsest features covers."""

    @property
    def embedding_channels(self) -> int:
        """Channels of the coarsest features, the input of heads for embeddings."""
        ...

    def __call__(self, images: "Tensor") -> "Tensor":
        """Return scores (N, out_channels, …) of the size of the images (N, in_channels, …)."""
        ...
