"""What a pretext task does to the slice on the screen, made as in the training. Needs no Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.pictures import PretextPreview
from napari_sslseg.core.common.sizes import PLANE_AXIS
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.scans.volume import Volume
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.gui.pretrain.tiles import Tile, tiles

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 4
"""Slices that a task which compares them is shown with, as in a training."""
MOST_VALUES = 2**25
"""Values of a scan that is prepared as a whole. Of a larger one some slices stand for all when it
is normalised, which changes the grey values a little."""
SPREAD, NEAR = 12, 6
"""Of a larger one: slices of all of it, and neighbours of the wanted one on either side."""
MASKS = 4
"""Arrangements of patches that are made for a preview."""


@dataclass(frozen=True, eq=False)
class PreviewRequest:
    """A slice and what is to happen to it.

    Parameters
    ----------
    volume : Volume
        The scan.
    index : int
        Its slice along the plane of the preprocessing.
    task : str
        Name of the pretext task.
    options : mapping
        Its settings.
    preprocessing : Preprocessing or VolumePreprocessing
        How the scan is prepared.
    network : NetworkSettings, optional
        Where given, it is checked that the task works on it.
    run : Path, optional
        Pretraining whose task, preprocessing and network are shown instead.
    """

    volume: Volume
    index: int
    task: str = "context-restoration"
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: AnyPreprocessing | None = None
    network: NetworkSettings | None = None
    run: Path | None = None


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """A picture that a training made, and height and width of its pixels in mm."""

    picture: PretextPreview
    pixel: tuple[float, float]


def pixel_size(volume: Volume, settings: AnyPreprocessing) -> tuple[float, float]:
    """Height and width in mm of the pixels that the network sees of a scan."""
    from napari_sslseg.core.samples.placement import prediction_placement

    if not isinstance(settings, Preprocessing):
        return volume.spacing[1], volume.spacing[2]
    place = prediction_placement(volume.geometry, settings)
    across = [axis for axis in range(3) if axis != PLANE_AXIS[settings.plane]]
    sides = [volume.spacing[axis] for axis in across]
    height, width = (
        side * had / has
        for side, had, has in zip(sides, place.pixels, place.resampled, strict=True)
    )
    return height, width


class PreviewMaker:
    """Makes tiles of what is wanted; keeps what the next one may need as well.

    Call it from one thread at a time.
    """

    def __init__(self) -> None:
        self._prepared: tuple[Volume, AnyPreprocessing, np.ndarray, np.ndarray] | None = None
        self._runtime: tuple[Any, PretextTask] | None = None
        self._checked: Any = None
        self._model: tuple[Path, float, nn.Module] | None = None

    def __call__(self, wanted: PreviewRequest | TrainingPicture) -> list[Tile]:
        """Make the tiles; none for a task that compares scans, which one scan cannot show.

        Raises
        ------
        SslsegError
            If the task cannot be done so, in one sentence.
        """
        from napari_sslseg.core.samples.build import sample_dimensions
        from napari_sslseg.core.settings.pretext.registry import check_task, make_task

        if isinstance(wanted, TrainingPicture):
            return tiles(wanted.picture, wanted.pixel)
        wanted = wanted if wanted.run is None else _of_run(wanted)
        settings = wanted.preprocessing
        assert settings is not None
        if not isinstance(settings, Preprocessing):
            return self._of_volume(wanted)
        last = wanted.volume.data.shape[PLANE_AXIS[settings.plane]] - 1
        wanted = replace(wanted, index=min(max(wanted.index, 0), last))
        stack, numbers = self._stack(wanted.volume, settings, wanted.index)
        size = (int(stack.shape[2]), int(stack.shape[3]))
        stride = getattr(wanted.network, "stride", None)
        task = make_task(wanted.task, size, stride=stride, **wanted.options)
        check_task(task, sample_dimensions(settings))
        runtime = self._task(task, size)
        self._check_network(wanted, runtime, task, int(stack.shape[1]))
        if task.compares_scans:
            return []
        images = self._images(stack, numbers, wanted.index, runtime.least)
        import torch

        draw = runtime.sample(len(images), torch.Generator().manual_seed(0))
        model = None if wanted.run is None else self._network(wanted, runtime, stack.shape[1])
        return tiles(runtime.preview(images, draw, model), pixel_size(wanted.volume, settings))

    def _of_volume(self, wanted: PreviewRequest) -> list[Tile]:
        """Show a crop of the scan, as those of 3D networks."""
        from napari_sslseg.core.pretext.pictures.preview import preview

        shown: PretextPreview = preview(
            wanted.volume,
            task=wanted.task,
            options=None if wanted.run is not None else dict(wanted.options),
            init=wanted.run,
            preprocessing=None if wanted.run is not None else wanted.preprocessing,
            slices=1,
        )
        settings = wanted.preprocessing
        assert settings is not None
        return tiles(shown, pixel_size(wanted.volume, settings))

    def _stack(
        self, volume: Volume, settings: Preprocessing, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prepared slices, and their numbers in the scan, the wanted one among them."""
        held = self._prepared
        if held is None or held[:2] != (volume, settings) or index not in held[3]:
            from napari_sslseg.core.samples.placement import prediction_placement
            from napari_sslseg.core.samples.preprocess import prepare

            place = prediction_placement(volume.geometry, settings)
            axis = PLANE_AXIS[settings.plane]
            count = volume.data.shape[axis]
            numbers = np.arange(count)
            large = count * settings.channels * int(np.prod(place.canvas)) > MOST_VALUES
            if large and not settings.neighbours:
                spread = np.linspace(0, count - 1, SPREAD).round().astype(int)
                near = np.arange(max(0, index - NEAR), min(count, index + NEAR + 1))
                numbers = np.union1d(spread, near)
            stack = prepare(_thinned(volume, numbers, axis), settings, place)
            held = self._prepared = volume, settings, stack, numbers
        return held[2], held[3]

    def _images(self, stack: np.ndarray, numbers: np.ndarray, index: int, least: int) -> "Tensor":
        """The slice that is wanted, and some others where the task compares them."""
        import torch

        at = int(np.searchsorted(numbers, index))
        chosen = [at]
        if least > 1:
            others = np.linspace(0, len(stack) - 1, max(least, FEW) + 2)[1:-1].round().astype(int)
            chosen += [int(other) for other in others if other != at][: max(least, FEW) - 1]
        return torch.from_numpy(stack[chosen])

    def _task(self, task: Any, size: tuple[int, int]) -> PretextTask:
        if getattr(task, "n_masks", 0) > MASKS:
            # Arrangements are all made alike, and one alone is shown.
            task = task.model_copy(update={"n_masks": MASKS})
        if self._runtime is None or self._runtime[0] != (task, size):
            self._runtime = (task, size), task.build(size, 0)
        return self._runtime[1]

    def _check_network(
        self, wanted: PreviewRequest, runtime: PretextTask, task: Any, channels: int
    ) -> None:
        """Try whether the task works on the network, so that no training fails on it later."""
        if wanted.network is None or (task, wanted.network, channels) == self._checked:
            return
        from napari_sslseg.core.networks.limits import planned

        planned(lambda: _build(wanted.network, runtime, channels), wanted.network.kind)
        self._checked = task, wanted.network, channels

    def _network(self, wanted: PreviewRequest, runtime: PretextTask, channels: int) -> "nn.Module":
        from napari_sslseg.core.runs.run import Run
        from napari_sslseg.core.runs.weights.checkpoints import restore

        assert wanted.run is not None
        weights = Run.open(wanted.run, "pretrain").weights
        changed = weights.stat().st_mtime if weights.is_file() else 0.0
        if self._model is None or self._model[:2] != (wanted.run, changed):
            model = _build(wanted.network, runtime, channels).eval()
            restore(model, weights)
            self._model = wanted.run, changed, model
        return self._model[2]


def _build(network: Any, runtime: PretextTask, channels: int) -> "nn.Module":
    from napari_sslseg.core.networks.build import make_network

    return runtime.wrap(make_network(network, channels, runtime.head(channels), output_kernel=3))


def _of_run(wanted: PreviewRequest) -> PreviewRequest:
    """What is wanted, with all that a run says."""
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.settings.stages import PretrainSettings

    assert wanted.run is not None
    run = Run.open(wanted.run, "pretrain")
    settings, task = run.settings(PretrainSettings), run.task()
    options = task.model_dump(exclude={"kind"})
    return replace(
        wanted, task=task.kind, options=options, preprocessing=settings.preprocessing,
        network=settings.network,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Thinned:
    """Some slices of a scan, as far as the preparation looks at it."""

    data: np.ndarray
    modality: str
    name: str


def _thinned(volume: Volume, numbers: np.ndarray, axis: int) -> Any:
    if len(numbers) == volume.data.shape[axis]:
        return volume
    return _Thinned(np.take(volume.data, numbers, axis), volume.modality, volume.name)
