"""Base class of the settings of all pretext tasks."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

from napari_sslseg.core.common.implementation import Implementation, resolve
from napari_sslseg.core.common.settings_base import Settings
from napari_sslseg.core.common.sizes import Size
from napari_sslseg.core.settings.patch_size import PATCH_SIDES, patch_size_for
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.stages import TRANSFER, Transfer


class PretextSettings(Settings):
    """Settings of a pretext task.

    A subclass sets at least ``kind``, ``title`` and ``implementation``; the other class variables
    and methods describe what is special about the task.
    """

    kind: str
    """Name of the task, a Literal with a default in each subclass."""

    title: ClassVar[str]
    """Plain words for a clinician."""

    implementation: ClassVar[Implementation]
    """The task, called with settings, image size and seed; see
    :class:`~napari_sslseg.core.pretext.base.PretextTask`."""

    about: ClassVar[str] = ""
    """Description for the list of methods in the window; without it the window does not offer the
    task."""

    short_name: ClassVar[str] = ""
    """Common name in the literature, shown behind the title."""

    dimensions: ClassVar[tuple[int, ...]] = (2,)
    """2 if the task works on networks of slices, 3 if on networks of volumes."""

    compares_scans: ClassVar[bool] = False
    """Whether its examples are drawn from several scans."""

    uses_masks: ClassVar[bool] = False
    """Whether it uses masks of an organ."""

    samples: ClassVar[Implementation | None] = None
    """Function that yields Progress and returns the samples of scans, for a task that does not
    train on slices or crops; see
    :func:`~napari_sslseg.core.pretext.contrast.siamese_crops.iter_organ_crops`."""

    transfer: ClassVar[Transfer] = TRANSFER
    """Parts that a fine-tuning after this task should start from."""

    patch_share: ClassVar[float | None] = None
    """Patch side over image side for the default of ``patch_size``; None without patches."""

    least_cube: ClassVar[int] = PATCH_SIDES[0]
    """Smallest default of ``patch_size`` in volumes."""

    patches_fit_stride: ClassVar[bool] = False
    """Whether ``patch_size`` must be a multiple of the stride of the network."""

    @property
    def summary(self) -> str:
        """The most important settings, in a few words."""
        values = [f"{name.replace('_', ' ')} {value}" for name, value in self if name != "kind"]
        return ", ".join(values) or self.title

    def build(self, image_size: Size, seed: int = 0) -> Any:
        """Make the task for images of one size.

        Parameters
        ----------
        image_size : tuple of int
            Height and width of slices in pixels; or slices, height and width of volumes in voxels.
        seed : int
            Seed of what is drawn in advance, such as masks.

        Returns
        -------
        PretextTask
            See :class:`~napari_sslseg.core.pretext.base.PretextTask`.

        Raises
        ------
        ConfigError
            If the settings do not fit the images; the message names settings that do.
        """
        return resolve(type(self).implementation)(self, image_size, seed)

    def sample_function(self) -> Callable[..., Any] | None:
        """Return the function of ``samples``; None if the task trains on slices or crops."""
        samples = type(self).samples
        return None if samples is None else resolve(samples)

    @classmethod
    def options_for(cls, size: Size, stride: int | None = None) -> dict[str, Any]:
        """Return defaults that depend on the images.

        Parameters
        ----------
        size : tuple of int
            Height and width of slices, or slices, height and width of volumes.
        stride : int, optional
            Stride of the network.
        """
        if cls.patch_share is None:
            return {}
        least = cls.least_cube if len(size) == 3 else PATCH_SIDES[0]
        side = patch_size_for(size, cls.patch_share, least)
        if cls.patches_fit_stride and stride is not None:
            side = max(1, round(side / stride)) * stride
        return {"patch_size": side}

    @classmethod
    def needs_masks(cls, options: Mapping[str, object]) -> bool:
        """Whether the task with these options cannot run without masks of an organ."""
        return cls.uses_masks

    def on_start(self, started: bool) -> str | None:
        """Return a remark on the start from an earlier run, or from scratch, if there is one.

        Raises
        ------
        ConfigError
            If the task cannot start in this way.
        """
        return None

    def remark(self, preprocessing: AnyPreprocessing) -> str | None:
        """Return a remark on the task with such images, if there is one."""
        return None

    def loss_remark(self, size: Size) -> str:
        """Return what a value of the loss means for images of a size; empty if it is plain."""
        return ""

    def for_scans(self, names: Iterable[str]) -> Self:
        """Return the settings without entries for scans that are not named.

        Raises
        ------
        DataError
            If nothing is left that the task needs.
        """
        return self
