"""Models Genesis: distort images, restore them, and compare."""

from collections.abc import Mapping
from typing import ClassVar

from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.pretext.corruptions.genesis import Genesis
from napari_sslseg.core.pretext.restoration.base import RestorationTask
from napari_sslseg.core.pretext.restoration.losses import restoration_mse
from napari_sslseg.core.settings.pretext.models_genesis import ModelsGenesis


class ModelsGenesisTask(RestorationTask):
    """Models Genesis (Zhou et al. 2019) for images of one size."""

    compare = staticmethod(restoration_mse)
    captions: ClassVar[Mapping[str, str]] = {
        "original": "Original",
        "corrupted": "Distorted",
        "mask": "Painted over",
        "restored": "Restored",
        "error": "Absolute error",
    }

    settings: ModelsGenesis

    def __init__(self, settings: ModelsGenesis, image_size: Size, seed: int = 0) -> None:
        super().__init__(settings, image_size, seed)
        self.corruption: Genesis = Genesis(
            image_size,
            curve_rate=settings.curve_rate,
            shuffle_rate=settings.shuffle_rate,
            paint_rate=settings.paint_rate,
            outside_rate=settings.outside_rate,
            max_area=settings.max_area,
        )
