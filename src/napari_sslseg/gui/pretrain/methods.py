"""Pretraining methods that the window offers: pretext tasks and presets of papers. Needs no Qt."""

from dataclasses import dataclass
from inspect import getdoc
from typing import TYPE_CHECKING

from napari_sslseg.core.settings.pretext.registry import TASKS, default_task

if TYPE_CHECKING:
    from napari_sslseg.core.settings.presets.preset import Preset

_ABOUT = {
    "context-restoration": "Patches of a slice swap places and the network restores the slice. A "
    "good first choice for MR and CT.",
    "context-prediction": "Patches of a slice are erased and the network fills them in. Similar "
    "to swapping; try it where swapped patches are hardly visible.",
    "mae": "Most of a slice is hidden and the network predicts it from the rest. Works best with "
    "many scans and long training.",
    "spark": "Like the masked autoencoder, but the network never sees the hidden patches. Works "
    "best with many scans and long training.",
    "masked-pixels": "Single pixels become noise and the network predicts their values. Fast, but "
    "learns texture rather than anatomy.",
    "models-genesis": "Intensities are distorted and regions shuffled or painted over; the network "
    "restores the slice. For scans that differ much in brightness.",
    "volume-fusion": "Two slices are blended in boxes and the network predicts how strongly, and "
    "where. Trains the whole network, including the decoder.",
    "global-contrast": "The network learns which two views show the same slice. Needs large "
    "batches and many patients; with few scans, restoration works better.",
}
_ALIASES = {"mae": "MAE", "spark": "SparK", "global-contrast": "contrastive"}
_NOT_OFFERED = {"siamese", "polycl", "local-contrast"}
"""Tasks that need masks of an organ, or an earlier pretraining."""

NOT_OFFERED_HINT = (
    "Not listed because they need masks of an organ: telling the left from the right side, and "
    "telling slices with and without an organ apart. Local contrast is the second stage of “Tell "
    "slices, then places apart”."
)

DEFAULT_METHOD = default_task((512, 512)).kind
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
    names = dict.fromkeys((DEFAULT_METHOD, *_ABOUT, *TASKS))
    return [_task(name) for name in names if name in TASKS and name not in _NOT_OFFERED]


def _task(name: str) -> PretrainMethod:
    kind = TASKS[name]
    note = "recommended" if name == DEFAULT_METHOD else _ALIASES.get(name)
    about = _ABOUT.get(name) or (getdoc(kind) or kind.title).splitlines()[0]
    return PretrainMethod(name, f"{kind.title} ({note})" if note else kind.title, about)


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
    return any(
        stage.task == "siamese" or stage.options.get("selection", "scan") != "scan"
        for stage in preset.stages
    )
