"""Presets: all settings of the method of a paper, and our decisions where the paper is silent.

Loads no PyTorch.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from napari_sslseg.core.common.errors import ConfigError
from napari_sslseg.core.common.settings_base import Settings, make_settings
from napari_sslseg.core.settings.augmentation import Augmentation
from napari_sslseg.core.settings.networks import NetworkSettings
from napari_sslseg.core.settings.preprocessing import AnyPreprocessing
from napari_sslseg.core.settings.pretext.registry import TASKS, TaskSettings, make_task
from napari_sslseg.core.settings.stages import FinetuneSettings, PretrainSettings

Option = bool | int | float | str | tuple[int, ...] | dict[str, tuple[int, ...]]
"""Value of an option of a pretext task."""

NO_AUGMENTATION = Augmentation(translation=0, rotation=0, crop=0, elastic=0, intensity=0, noise=0)


class Decision(Settings):
    """A difference between a preset and its paper, or a detail that the paper does not give."""

    what: str
    printed: str
    here: str
    why: str


class Stage(Settings):
    """One stage of the pretraining.

    The task is given by name and options, because some options, such as the slices that contain
    an organ, depend on the scans.
    """

    task: str
    options: dict[str, Option] = Field(default_factory=dict)
    settings: PretrainSettings

    def make_task(self) -> TaskSettings:
        """Make the settings of the pretext task.

        Raises
        ------
        ConfigError
            If there is no such task, or it needs an option that is not given.
        """
        options: dict[str, Any] = dict(self.options)
        return make_task(self.task, **options)


class Preset(Settings):
    """The method of a paper, from preprocessing to fine-tuning.

    Attributes
    ----------
    name, title : str
        Name on the command line, and title in plain words.
    paper, reference : str
        Short name of the paper, and reference with its title.
    summary : str
        Description in a sentence.
    network : NetworkSettings
        Network of all stages and of the fine-tuning.
    mr, ct : Preprocessing or VolumePreprocessing
        Preprocessing of each modality; most papers had only one of them.
    stages : tuple of Stage
        Stages of the pretraining; each starts from the one before.
    finetuning : FinetuneSettings
        Settings of the fine-tuning, without network and preprocessing, which are those of the
        pretraining.
    decisions : tuple of Decision
        Differences from the paper, and details that it does not give.
    """

    name: str
    title: str
    paper: str
    reference: str
    summary: str
    network: NetworkSettings
    mr: AnyPreprocessing
    ct: AnyPreprocessing
    stages: tuple[Stage, ...]
    finetuning: FinetuneSettings
    decisions: tuple[Decision, ...]

    def preprocessing(self, modality: Literal["MR", "CT"]) -> AnyPreprocessing:
        """Return the preprocessing of scans of this modality."""
        return self.ct if modality == "CT" else self.mr

    def pretrain_settings(
        self, modality: Literal["MR", "CT"] | None, stage: int = 0
    ) -> PretrainSettings:
        """Return the settings of a stage of the pretraining.

        Parameters
        ----------
        modality : {"MR", "CT"} or None
            Modality of the scans. None omits network and preprocessing, for a stage that starts
            from a run and uses those of the run.
        stage : int
            Number of the stage, from 0.
        """
        return self._completed(self.stages[stage].settings, modality)

    def finetune_settings(self, modality: Literal["MR", "CT"] | None) -> FinetuneSettings:
        """Return the settings of the fine-tuning; None as in :meth:`pretrain_settings`."""
        return self._completed(self.finetuning, modality)

    def _completed(self, settings: Any, modality: Literal["MR", "CT"] | None) -> Any:
        # A new object, because it matters which fields are set.
        kept = set(type(settings).model_fields) - {"network", "preprocessing"}
        fields = {name: getattr(settings, name) for name in kept} | {"preset": self.name}
        if modality is not None:
            fields |= {"network": self.network, "preprocessing": self.preprocessing(modality)}
        return type(settings)(**fields)

    def with_overrides(
        self,
        *,
        network: NetworkSettings | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        middle_share: float | None = None,
        finetuning: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> "Preset":
        """Return the preset with some settings changed, in all stages and in the fine-tuning.

        Parameters
        ----------
        network : NetworkSettings, optional
            Another network.
        preprocessing : mapping, optional
            Fields of the preprocessing to change, such as ``size``.
        training : mapping, optional
            Fields of every training to change. ``steps`` replaces the number of epochs.
        middle_share : float, optional
            Another fraction of the slices of each scan to train on.
        finetuning : mapping, optional
            Fields of the fine-tuning to change, such as ``classes``.
        options : mapping, optional
            Options of the pretext tasks to change, such as ``patch_size``, in each stage whose
            task has the option.

        Raises
        ------
        ConfigError
            If a value is impossible, or no stage has the option.
        """
        from napari_sslseg.core.settings.networks import check_dimensions

        if network is not None:
            check_dimensions(network, self.network.dimensions)
        values = dict(training or {})
        if "steps" in values:
            values.setdefault("epochs", None)
        share = {} if middle_share is None else {"middle_share": middle_share}
        stages = [
            stage.model_copy(update={"settings": _with_training(stage.settings, values, share)})
            for stage in self.stages
        ]
        return self.model_copy(
            update={
                "network": network or self.network,
                "mr": self._with_preprocessing(self.mr, preprocessing or {}),
                "ct": self._with_preprocessing(self.ct, preprocessing or {}),
                "stages": _with_options(stages, options or {}),
                "finetuning": _with_training(
                    self.finetuning, values, share | dict(finetuning or {})
                ),
            }
        )

    def _with_preprocessing(self, old: Any, changes: Mapping[str, Any]) -> Any:
        for field in changes:
            if field not in type(old).model_fields:
                raise ConfigError(
                    f"The preset {self.name} works on {old.kind}, which have no {field}; leave it "
                    "out."
                )
        return _changed(old, **changes)


def _changed(old: Any, **changes: Any) -> Any:
    """Return settings with some fields changed, validated again."""
    return make_settings(
        type(old), **{name: getattr(old, name) for name in old.model_fields_set} | changes
    )


def _with_training(stage: Any, training: Mapping[str, Any], others: Mapping[str, Any]) -> Any:
    """Return the settings of a stage with some fields of its training, and others, changed."""
    return _changed(stage, training=_changed(stage.training, **training), **others)


def _with_options(stages: list[Stage], options: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Set each option in the stages whose task has it; raise if none has it."""
    for option, value in options.items():
        having = [
            s.task for s in stages if s.task in TASKS and option in TASKS[s.task].model_fields
        ]
        if not having:
            make_task(
                stages[0].task, **{option: value}
            )  # Raises, and names the tasks that have it.
        stages = [
            stage.model_copy(update={"options": {**stage.options, option: value}})
            if stage.task in having
            else stage
            for stage in stages
        ]
    return tuple(stages)
