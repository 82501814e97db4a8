"""Pretext tasks by name."""

from typing import Any

from napari_sslseg.core.config import checked
from napari_sslseg.core.errors import ConfigError
from napari_sslseg.core.pretext.context_restoration import ContextRestoration

TaskSettings = ContextRestoration
"""Settings of any pretext task."""

TASKS: dict[str, type[TaskSettings]] = {"context-restoration": ContextRestoration}

# Patch side over slice side in Dominic et al. 2023 (32 of 512 pixels), and their range of sides.
PATCH_SHARE = 1 / 16
PATCH_SIDES = (8, 16, 32, 64)


def make_task(name: str, size: tuple[int, int] | None = None, **options: Any) -> TaskSettings:
    """Settings of a task by its name.

    Parameters
    ----------
    name : str
        A key of ``TASKS``.
    size : tuple of int, optional
        Height and width of the slices, for choices that depend on them.
    **options
        Settings of the task.

    Raises
    ------
    ConfigError
        If there is no such task, or an option is impossible.
    """
    if name not in TASKS:
        raise ConfigError(f"There is no pretext task {name}; choose one of {', '.join(TASKS)}.")
    if size is not None:
        options.setdefault("patch_size", patch_size_for(size))
    return checked(TASKS[name], **options)


def default_task(size: tuple[int, int]) -> TaskSettings:
    """Context restoration with Poisson-disc patches, the best of Dominic et al. 2023."""
    return make_task("context-restoration", size)


def patch_size_for(size: tuple[int, int]) -> int:
    """Side of the patches that stands to the slice as in the paper: the nearest of 8, 16, 32, 64.

    The paper's best side is 32 pixels on slices of 512; smaller slices take smaller patches.
    """
    target = PATCH_SHARE * min(size)
    return min(PATCH_SIDES, key=lambda side: abs(side - target))


def describe(task: TaskSettings) -> str:
    """Say in a few words what a task does."""
    return f"{task.kind}, patches of {task.patch_size} pixels, {task.sampling}"
