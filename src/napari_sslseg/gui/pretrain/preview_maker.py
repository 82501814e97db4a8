"""Preview of a pretext task on the current slice, computed as in the training. Needs no Qt."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sslseg.core.common.example_pictures import PretextPreview
from napari_sslseg.core.common.sizes import PLANE_AXIS, in_plane_axes
from napari_sslseg.core.pretext.base import PretextTask
from napari_sslseg.core.scans.volume import Volume, take_slices
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing, Preprocessing
from napari_sslseg.gui.pretrain.methods import DEFAULT_METHOD
from napari_sslseg.gui.pretrain.tiles import Tile, tiles

if TYPE_CHECKING:
    from torch import Tensor, nn

FEW = 4
"""Number of slices for a task that compares slices, as in a training."""
MOST_VALUES = 2**25
"""Largest number of values of a scan that is preprocessed whole. A larger scan is normalised by a
sample of its slices, which changes the intensities slightly."""
SPREAD, NEAR = 12, 6
"""The sample of a larger scan: evenly spaced slices, and neighbours on each side of the slice."""
MASKS = 4
"""Largest number of patch arrangements that are made for a preview."""


@dataclass(frozen=True, eq=False)
class PreviewRequest:
    """A slice, and the pretext task to preview on it.

    Parameters
    ----------
    volume : Volume
        The scan.
    index : int
        Number of the slice along the plane of the preprocessing.
    task : str
        Name of the pretext task.
    options : mapping
        Settings of the task.
    preprocessing : Preprocessing or VolumePreprocessing
        Preprocessing of the scan.
    network : NetworkSettings, optional
        If given, the preview checks that the task works with it.
    run : Path, optional
        Folder of a pretraining whose task, preprocessing and network are used instead.
    """

    volume: Volume
    index: int
    task: str = DEFAULT_METHOD
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: AnyPreprocessing | None = None
    network: NetworkSettings | None = None
    run: Path | None = None


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """A picture from a running training, and the height and width of its pixels in mm."""

    picture: PretextPreview
    pixel: tuple[float, float]


def pixel_size(volume: Volume, settings: AnyPreprocessing) -> tuple[float, float]:
    """Return height and width in mm of a pixel in the input of the network."""
    from napari_sslseg.core.samples.placement import prediction_placement

    if not isinstance(settings, Preprocessing):
        return volume.spacing[1], volume.spacing[2]
    place = prediction_placement(volume.geometry, settings)
    across = in_plane_axes(settings.plane)
    sides = [volume.spacing[axis] for axis in across]
    height, width = (
        side * had / has
        for side, had, has in zip(sides, place.pixels, place.resampled, strict=True)
    )
    return height, width


class PreviewMaker:
    """Makes tiles for a request, and caches what the next request may need.

    Call it from one thread at a time.
    """

    def __init__(self) -> None:
        self._stack_cache: tuple[Volume, AnyPreprocessing, np.ndarray, np.ndarray] | None = None
        self._task_cache: tuple[Any, PretextTask] | None = None
        self._checked: Any = None
        self._model_cache: tuple[Path, float, nn.Module] | None = None

    def __call__(self, request: PreviewRequest | TrainingPicture) -> list[Tile]:
        """Make the tiles; none for a task that compares scans, which one scan cannot show.

        Raises
        ------
        SslsegError
            If the task is impossible with these settings, in one sentence.
        """
        if isinstance(request, TrainingPicture):
            return tiles(request.picture, request.pixel)
        request = request if request.run is None else _from_run(request)
        settings = request.preprocessing
        assert settings is not None
        if isinstance(settings, Preprocessing):
            return self._slice_tiles(request, settings)
        return self._volume_tiles(request)

    def _slice_tiles(self, request: PreviewRequest, settings: Preprocessing) -> list[Tile]:
        """Apply the task to the slice."""
        import torch

        from napari_sslseg.core.samples.build import sample_dimensions
        from napari_sslseg.core.settings.pretext.registry import check_task, make_task

        last = request.volume.data.shape[PLANE_AXIS[settings.plane]] - 1
        request = replace(request, index=min(max(request.index, 0), last))
        stack, numbers = self._stack(request.volume, settings, request.index)
        size = (int(stack.shape[2]), int(stack.shape[3]))
        stride = getattr(request.network, "stride", None)
        task = make_task(request.task, size, stride=stride, **request.options)
        check_task(task, sample_dimensions(settings))
        runtime = self._task(task, size)
        self._check_network(request, runtime, task, int(stack.shape[1]))
        if task.compares_scans:
            return []
        images = self._images(stack, numbers, request.index, runtime.min_batch)
        draw = runtime.sample(len(images), torch.Generator().manual_seed(0))
        model = None if request.run is None else self._network(request, runtime, stack.shape[1])
        return tiles(runtime.preview(images, draw, model), pixel_size(request.volume, settings))

    def _volume_tiles(self, request: PreviewRequest) -> list[Tile]:
        """Show a crop of the scan, for a 3D network."""
        from napari_sslseg.core.pretext.pictures.preview import preview

        shown: PretextPreview = preview(
            request.volume,
            task=request.task,
            options=None if request.run is not None else dict(request.options),
            init=request.run,
            preprocessing=None if request.run is not None else request.preprocessing,
            slices=1,
        )
        settings = request.preprocessing
        assert settings is not None
        return tiles(shown, pixel_size(request.volume, settings))

    def _stack(
        self, volume: Volume, settings: Preprocessing, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return preprocessed slices, ``index`` among them, and their numbers in the scan."""
        cached = self._stack_cache
        if cached is None or cached[:2] != (volume, settings) or index not in cached[3]:
            from napari_sslseg.core.samples.normalize import Normalizer
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
            stack = prepare(Normalizer(_slice_sample(volume, numbers, axis), settings), place)
            cached = self._stack_cache = volume, settings, stack, numbers
        return cached[2], cached[3]

    def _images(self, stack: np.ndarray, numbers: np.ndarray, index: int, least: int) -> "Tensor":
        """Return the slice, and some others for a task that compares slices."""
        import torch

        at = int(np.searchsorted(numbers, index))
        chosen = [at]
        if least > 1:
            others = np.linspace(0, len(stack) - 1, max(least, FEW) + 2)[1:-1].round().astype(int)
            chosen += [int(other) for other in others if other != at][: max(least, FEW) - 1]
        return torch.from_numpy(stack[chosen])

    def _task(self, task: Any, size: tuple[int, int]) -> PretextTask:
        if getattr(task, "n_masks", 0) > MASKS:
            # The preview shows only one arrangement.
            task = task.model_copy(update={"n_masks": MASKS})
        if self._task_cache is None or self._task_cache[0] != (task, size):
            self._task_cache = (task, size), task.build(size, 0)
        return self._task_cache[1]

    def _check_network(
        self, request: PreviewRequest, runtime: PretextTask, task: Any, channels: int
    ) -> None:
        """Check that the task works with the network, so that no training fails on it later."""
        if request.network is None or (task, request.network, channels) == self._checked:
            return
        from napari_sslseg.core.networks.size_limit import planned

        planned(lambda: _build(request.network, runtime, channels), request.network.kind)
        self._checked = task, request.network, channels

    def _network(self, request: PreviewRequest, runtime: PretextTask, channels: int) -> "nn.Module":
        from napari_sslseg.core.runs.run import Run
        from napari_sslseg.core.runs.weights.checkpoints import restore

        assert request.run is not None
        weights = Run.open(request.run, "pretrain").weights
        changed = weights.stat().st_mtime if weights.is_file() else 0.0
        if self._model_cache is None or self._model_cache[:2] != (request.run, changed):
            model = _build(request.network, runtime, channels).eval()
            restore(model, weights)
            self._model_cache = request.run, changed, model
        return self._model_cache[2]


def _build(network: Any, runtime: PretextTask, channels: int) -> "nn.Module":
    from napari_sslseg.core.networks.build import make_network

    return runtime.wrap(
        make_network(network, channels, runtime.output_channels(channels), output_kernel=3)
    )


def _from_run(request: PreviewRequest) -> PreviewRequest:
    """Take task, preprocessing and network of the request from its run."""
    from napari_sslseg.core.runs.run import Run
    from napari_sslseg.core.settings.stages import PretrainSettings

    assert request.run is not None
    run = Run.open(request.run, "pretrain")
    settings, task = run.settings(PretrainSettings), run.task()
    options = task.model_dump(exclude={"kind"})
    return replace(
        request, task=task.kind, options=options, preprocessing=settings.preprocessing,
        network=settings.network,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _SliceSample:
    """Some slices of a scan, with the attributes that preprocessing reads."""

    data: np.ndarray
    modality: str
    name: str


def _slice_sample(volume: Volume, numbers: np.ndarray, axis: int) -> Any:
    if len(numbers) == volume.data.shape[axis]:
        return volume
    return _SliceSample(take_slices(volume.data, numbers, axis), volume.modality, volume.name)
