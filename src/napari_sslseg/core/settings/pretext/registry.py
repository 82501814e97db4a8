"""Pretext tasks by name."""

from math import prod
from typing import Annotated, Any

from pydantic import Field

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.frozen import make_settings
from napari_sslseg.core.common.sizes import WORDS, Size
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.pretext.context import ContextPrediction, ContextRestoration
from napari_sslseg.core.settings.pretext.global_contrast import GlobalContrast
from napari_sslseg.core.settings.pretext.local_contrast import LocalContrast
from napari_sslseg.core.settings.pretext.masked_patches import MaskedPatches
from napari_sslseg.core.settings.pretext.masked_pixels import MaskedPixels
from napari_sslseg.core.settings.pretext.models_genesis import ModelsGenesis
from napari_sslseg.core.settings.pretext.polycl import PolyCL
from napari_sslseg.core.settings.pretext.siamese_sides import SiameseSides
from napari_sslseg.core.settings.pretext.sparse_masking import SparseMasking
from napari_sslseg.core.settings.pretext.volume_fusion import VolumeFusion

TaskSettings = Annotated[
    ContextRestoration
    | ContextPrediction
    | MaskedPixels
    | MaskedPatches
    | ModelsGenesis
    | VolumeFusion
    | SparseMasking
    | GlobalContrast
    | LocalContrast
    | PolyCL
    | SiameseSides,
    Field(discriminator="kind"),
]
"""Settings of any pretext task, told apart by their kind."""

TASKS: dict[str, type[TaskSettings]] = {
    "context-restoration": ContextRestoration,
    "context-prediction": ContextPrediction,
    "masked-pixels": MaskedPixels,
    "mae": MaskedPatches,
    "spark": SparseMasking,
    "models-genesis": ModelsGenesis,
    "volume-fusion": VolumeFusion,
    "global-contrast": GlobalContrast,
    "local-contrast": LocalContrast,
    "polycl": PolyCL,
    "siamese": SiameseSides,
}

# The sides that Dominic et al. 2023 compare.
PATCH_SIDES = (8, 16, 32, 64)


def make_task(
    name: str, size: Size | None = None, *, stride: int | None = None, **options: Any
) -> TaskSettings:
    """Settings of a task by its name.

    Parameters
    ----------
    name : str
        A key of ``TASKS``.
    size : tuple of int, optional
        Height and width of slices, or slices, height and width of volumes, for choices that
        depend on them.
    stride : int, optional
        Of the network, whose multiple the patches of ``spark`` must be.
    **options
        Settings of the task.

    Raises
    ------
    ConfigError
        If there is no such task, or an option is impossible or is one of other tasks.
    """
    if name not in TASKS:
        raise ConfigError(f"There is no pretext task {name}; choose one of {', '.join(TASKS)}.")
    kind = TASKS[name]
    for option in options:
        if option not in kind.model_fields:
            raise _misplaced(name, option)
    share = getattr(kind, "patch_share", None)
    if size is not None and share is not None:
        least = getattr(kind, "least_cube", PATCH_SIDES[0]) if len(size) == 3 else PATCH_SIDES[0]
        side = patch_size_for(size, share, least)
        if stride is not None and kind is SparseMasking:
            side = max(1, round(side / stride)) * stride
        options.setdefault("patch_size", side)
    return make_settings(kind, **options)


def _misplaced(name: str, option: str) -> ConfigError:
    having = [other for other, kind in TASKS.items() if option in kind.model_fields]
    if not having:
        return ConfigError(f"No pretext task has an option {option}; leave it out.")
    return ConfigError(
        f"The pretext task {name} has no option {option}; leave it out, or choose a task that has "
        f"it: {', '.join(having)}."
    )


def default_task(size: Size) -> TaskSettings:
    """Context restoration with Poisson-disc patches, the best of Dominic et al. 2023."""
    return make_task("context-restoration", size)


def patch_size_for(
    size: Size, share: float = ContextRestoration.patch_share, least: int = PATCH_SIDES[0]
) -> int:
    """Side of the patches that suits images of this size: the nearest of 8, 16, 32, 64.

    In volumes, which may be thin, it is one that leaves room for four patches; where none does,
    the largest of 4, 2, 1.

    Parameters
    ----------
    size : tuple of int
        Height and width of slices, or slices, height and width of volumes.
    share : float
        Wanted side over the shortest one of the image. In Dominic et al. 2023 it is best at 32
        pixels on slices of 512; smaller slices take smaller patches.
    least : int
        Smallest side to choose, where it fits.
    """
    fitting = [side for side in PATCH_SIDES if len(size) == 2 or _room(size, side)]
    if not fitting:
        return next((side for side in (4, 2) if _room(size, side)), 1)
    target = max(share * min(size), least)
    return min(fitting, key=lambda side: abs(side - target))


def _room(size: Size, side: int) -> bool:
    """Whether four patches fit side by side, so that some can be hidden and some seen."""
    return prod(length // side for length in size) >= 4


def check_task(task: TaskSettings, dimensions: int) -> None:
    """Refuse a task of slices on a network of volumes, and the other way round.

    Parameters
    ----------
    task : TaskSettings
        Settings of the task.
    dimensions : {2, 3}
        Of the images that the network takes.

    Raises
    ------
    ConfigError
        One sentence that names the tasks that work there.
    """
    if dimensions in task.dimensions:
        return
    images = WORDS[dimensions].images
    if dimensions == 2:
        raise ConfigError(
            f"The pretext task {task.kind} works on volumes; choose a network of volumes, dense3d "
            "or dynunet3d."
        )
    working = ", ".join(name for name, kind in TASKS.items() if dimensions in kind.dimensions)
    raise ConfigError(
        f"The pretext task {task.kind} does not work on networks of {images}; choose one of "
        f"{working}."
    )


def describe(task: TaskSettings) -> str:
    """Say in a few words what a task does."""
    return f"{task.kind}, {task.summary}"


def remarks(task: TaskSettings, preprocessing: AnyPreprocessing) -> list[str]:
    """Say what is worth knowing about a task with such images: sentences, often none."""
    remark = task.remark(preprocessing) if isinstance(task, MaskedPixels) else None
    return [remark] if remark else []
