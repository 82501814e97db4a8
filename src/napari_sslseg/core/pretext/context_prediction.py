"""Settings of context prediction. Loads no PyTorch: the task itself is made by ``build``."""

from typing import TYPE_CHECKING, ClassVar, Literal

from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.settings.pretext.context import PatchSettings

if TYPE_CHECKING:
    from napari_sslseg.core.pretext.restoration.patch_task import ContextPredictionTask


class ContextPrediction(PatchSettings):
    """Context prediction: patches of an image are erased, and the network fills them in.

    Dominic et al. 2023, *Improving data-efficiency and robustness of medical imaging segmentation
    using inpainting-based self-supervised learning*. Patches lie as in context restoration and
    become 0 after the normalisation, which is the mean of z-scored images. The loss runs over the
    whole image.

    Examples
    --------
    >>> ContextPrediction(patch_size=16).build((128, 128)).title
    'Fill in erased patches'
    """

    title: ClassVar[str] = "Fill in erased patches"
    kind: Literal["context-prediction"] = "context-prediction"

    def build(self, image_size: Size, seed: int = 0) -> "ContextPredictionTask":
        """Make the task for images of one size.

        Parameters
        ----------
        image_size : tuple of int
            Height and width of slices in pixels; or slices, height and width of volumes in voxels.
        seed : int
            Seed of the masks that are made in advance.

        Raises
        ------
        ConfigError
            If such patches do not fit the images; the message names a size that does.
        """
        from napari_sslseg.core.pretext.restoration.patch_task import ContextPredictionTask

        return ContextPredictionTask(self, image_size, seed)
