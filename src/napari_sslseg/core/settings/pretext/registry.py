"""All pretext tasks by name; :func:`register_task` adds tasks from outside the package."""

from pkgutil import resolve_name
from typing import Annotated, Any, TypeVar

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.settings_base import make_settings
from napari_sslseg.core.common.sizes import WORDS, Size
from napari_sslseg.core.common.text import did_you_mean
from napari_sslseg.core.settings.by_kind import by_kind, kind_of
from napari_sslseg.core.settings.networks import network_names
from napari_sslseg.core.settings.pretext.base import PretextSettings

DEFAULT_TASK = "context-restoration"
"""Task of a pretraining that names none."""

# The tasks of this package, one line each, in the order of lists.
_CLASSES = (
    "context_patches:ContextRestoration",
    "context_patches:ContextPrediction",
    "masked_patches:MaskedPatches",
    "sparse_masking:SparseMasking",
    "masked_pixels:MaskedPixels",
    "models_genesis:ModelsGenesis",
    "volume_fusion:VolumeFusion",
    "global_contrast:GlobalContrast",
    "local_contrast:LocalContrast",
    "polycl:PolyCL",
    "siamese_sides:SiameseSides",
)

TASKS: dict[str, type[PretextSettings]] = {}
"""Settings class of each pretext task by name; see :func:`register_task`."""

TaskSettings = Annotated[PretextSettings, *by_kind(PretextSettings, TASKS.values)]
"""Settings of any pretext task, distinguished by their kind."""

TaskClass = TypeVar("TaskClass", bound=type[PretextSettings])


def register_task(settings_class: TaskClass) -> TaskClass:
    """Add a pretext task, so that it can be named, and runs with it can be opened.

    Parameters
    ----------
    settings_class : type of PretextSettings
        Its field ``kind`` is the name. Can be used as a decorator.

    Raises
    ------
    ConfigError
        If another task has this name.
    """
    name = kind_of(settings_class)
    if TASKS.get(name, settings_class) is not settings_class:
        raise ConfigError(f"There is a pretext task {name} already; choose another name.")
    TASKS[name] = settings_class
    return settings_class


for _name in _CLASSES:
    register_task(resolve_name(f"napari_sslseg.core.settings.pretext.{_name}"))


def task_class(name: str) -> type[PretextSettings]:
    """Return the settings class of a task.

    Raises
    ------
    ConfigError
        If there is no such task; the message names those there are.
    """
    if name not in TASKS:
        hint = did_you_mean(name, TASKS)
        raise ConfigError(
            f"There is no pretext task {name}; choose one of {', '.join(TASKS)}. {hint}".rstrip()
        )
    return TASKS[name]


def make_task(
    name: str, size: Size | None = None, *, stride: int | None = None, **options: Any
) -> PretextSettings:
    """Make the settings of a task by its name.

    Parameters
    ----------
    name : str
        A key of ``TASKS``.
    size : tuple of int, optional
        Height and width of slices, or slices, height and width of volumes, for defaults that
        depend on them.
    stride : int, optional
        Stride of the network; the patches of ``spark`` must be a multiple of it.
    **options
        Settings of the task.

    Raises
    ------
    ConfigError
        If there is no such task, an option has an impossible value, or is an option of other
        tasks.
    """
    chosen = task_class(name)
    for option in options:
        if option not in chosen.model_fields:
            raise _misplaced(name, option)
    defaults = {} if size is None else chosen.options_for(size, stride)
    return make_settings(chosen, **defaults | options)


def task_options() -> dict[str, list[str]]:
    """Names of the options of all tasks, each with the settings classes that have it."""
    found: dict[str, list[str]] = {}
    for kind in TASKS.values():
        for name in kind.model_fields:
            if name != "kind":
                found.setdefault(name, []).append(kind.__name__)
    return found


def _misplaced(name: str, option: str) -> ConfigError:
    having = [other for other, kind in TASKS.items() if option in kind.model_fields]
    if not having:
        hint = did_you_mean(option, TASKS[name].model_fields)
        return ConfigError(f"No pretext task has an option {option}; leave it out. {hint}".rstrip())
    return ConfigError(
        f"The pretext task {name} has no option {option}; leave it out, or choose a task that has "
        f"it: {', '.join(having)}."
    )


def check_task(task: PretextSettings, dimensions: int) -> None:
    """Check that a task works on a network of slices or volumes.

    Parameters
    ----------
    task : PretextSettings
        Settings of the task.
    dimensions : {2, 3}
        2 if the network takes slices, 3 if it takes volumes.

    Raises
    ------
    ConfigError
        If not; the message names tasks or networks that fit.
    """
    if dimensions in task.dimensions:
        return
    if dimensions == 2:
        raise ConfigError(
            f"The pretext task {task.kind} works on volumes; choose a network of volumes, "
            f"{network_names(3)}."
        )
    working = ", ".join(name for name, kind in TASKS.items() if dimensions in kind.dimensions)
    raise ConfigError(
        f"The pretext task {task.kind} does not work on networks of {WORDS[dimensions].images}; "
        f"choose one of {working}."
    )


def describe(task: PretextSettings) -> str:
    """Describe a task in a few words."""
    return f"{task.kind}, {task.summary}"
