"""Pretraining methods that the window offers: pretext tasks and presets of papers. Needs no Qt."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sslseg.core.settings.pretext.registry import DEFAULT_TASK, TASKS, task_class

if TYPE_CHECKING:
    from napari_sslseg.core.settings.presets.preset import Preset

NOT_OFFERED_HINT = (
    "Not listed because they need masks of an organ: telling the left from the right side, and "
    "telling slices with and without an organ apart. Local contrast is the second stage of “Tell "
    "slices, then places apart”."
)

DEFAULT_METHOD = DEFAULT_TASK
"""Name of core's default task, which the window recommends."""


@dataclass(frozen=True)
class PretrainMethod:
    """A pretraining method.

    Attributes
    ----------
    key : str
        Name of the pretext task or the preset.
    label : str
        Title in the list of methods.
    about : str
        Description in one to three sentences.
    preset : bool
        Whether it is the method of a paper.
    """

    key: str
    label: str
    about: str
    preset: bool = False


def pretrain_methods() -> list[PretrainMethod]:
    """List all methods for scans without labels, the recommended one first."""
    return [*_tasks(), *_presets()]


def _tasks() -> list[PretrainMethod]:
    names = dict.fromkeys((DEFAULT_METHOD, *TASKS))
    return [_task(name) for name in names if TASKS[name].about]


def _task(name: str) -> PretrainMethod:
    kind = TASKS[name]
    note = "recommended" if name == DEFAULT_METHOD else kind.short_name
    return PretrainMethod(name, f"{kind.title} ({note})" if note else kind.title, kind.about)


def _presets() -> list[PretrainMethod]:
    from napari_sslseg.core.settings.presets.registry import PRESETS

    return [
        PretrainMethod(
            preset.name,
            f"{preset.title}: {preset.paper}",
            f"{preset.summary} All settings are those of the paper.",
            preset=True,
        )
        for preset in PRESETS.values()
        if not _needs_masks(preset)
    ]


def _needs_masks(preset: "Preset") -> bool:
    return any(task_class(stage.task).needs_masks(stage.options) for stage in preset.stages)
